"""One connection to what may be an ackd, and what is known when something is wrong with it."""

import fcntl
import select
import socket
import sys
import termios
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from time import monotonic

from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.finding import BrokenError, Stage, Traffic
from ackd.protocol import ClientProtocol, Reply

_CHUNK = 65536
_TICK = 1.0  # seconds of a silence after which a user sees how long it still is
# Bytes of a packet before its data: RFC 791, 8200, 9293, and 7323 for TCP's timestamps.
_IPV4, _IPV6, _TCP, _TIMESTAMPS = 20, 40, 20, 12
# linux/tcp.h: TCPI_OPT_TIMESTAMPS, where struct tcp_info has it, and where it has 32-bit numbers:
# of packets that are not confirmed, of milliseconds since the last confirmation, of bytes that a
# packet may have, of packets sent again, sent at all, and received twice by the other side.
_WITH_TIMESTAMPS, _OPTIONS = 1, 5
_UNACKED, _LAST_ACK_RECV, _PMTU, _TOTAL_RETRANS, _SEGS_OUT, _DSACK_DUPS = 24, 56, 60, 100, 136, 216


@dataclass(frozen=True, slots=True)
class Packets:
    """Bytes: what is believed to come through, the data in a full packet, and what is before it."""

    mtu: int
    segment: int
    overhead: int


@dataclass(frozen=True, slots=True)
class Sent:
    """How many bytes a payload has, and in how many seconds it was in the kernel's hands."""

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A reply to a payload of `size` bytes, and the seconds until it came."""

    reply: Reply
    size: int
    seconds: float


class _SilenceError(Exception):
    """Nothing more came in time."""


class _EndError(Exception):
    """The connection has ended; the text says how."""


class Contact:
    """A connection that is greeted and used step by step; `timeout` bounds each, in seconds."""

    def __init__(
        self, sock: socket.socket, timeout: float, greeted: bool, traffic: Traffic
    ) -> None:
        """Use a connected socket, and count what it sends in `traffic`."""
        self.timeout = timeout
        self.pieces = 0  # in which the answer came, in this step
        self.sent: Sent | None = None  # in this step
        self._socket = sock
        self._traffic = traffic
        self._counted = Traffic()
        self._mtu = self.packets.mtu
        self._protocol = ClientProtocol(expect_greeting=greeted)
        self._received = b""  # in this step
        self._broken = "closed"  # or how else it has ended
        self._written = 0  # bytes, in all
        self._begin()

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    @property
    def greeting(self) -> bytes:
        """What the server said first, without the end of the line."""
        return self._protocol.greeting or b""

    @property
    def source(self) -> str:
        """Our own address."""
        return str(self._socket.getsockname()[0])

    @property
    def packets(self) -> Packets:
        """What its packets are like."""
        ipv4 = self._socket.family == socket.AF_INET
        timestamps = _TIMESTAMPS if self._info[_OPTIONS] & _WITH_TIMESTAMPS else 0
        return Packets(
            self._number(_PMTU),
            self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
            (_IPV4 if ipv4 else _IPV6) + _TCP + timestamps,
        )

    @property
    def _info(self) -> bytes:
        return self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _DSACK_DUPS + 4)

    def _number(self, offset: int) -> int:
        return int.from_bytes(self._info[offset : offset + 4], sys.byteorder)

    @property
    def _waiting(self) -> int:
        """How many bytes the other side's kernel has not confirmed: SIOCOUTQ, tcp(7)."""
        return int.from_bytes(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)), sys.byteorder)

    @property
    def _confirmed(self) -> int:
        return self._written - self._waiting

    def greet(self) -> bytes:
        """Wait for the greeting, if one is expected, and return it; raises BrokenError."""
        if self._protocol.greeting is not None:
            return self.greeting
        self._begin()
        try:
            while self._protocol.greeting is None and not self._protocol.unexpected:
                self._receive()
        except _SilenceError:
            raise diagnosis.mute(self.timeout, self._received) from None
        except _EndError as error:
            raise diagnosis.hung_up(str(error), self._received) from None
        if self._protocol.turned_away:
            raise diagnosis.turned_away(self.greeting)
        more = self._received != self.greeting + b"\n"
        if more or diagnosis.foreign(self._received):
            raise diagnosis.no_greeting(self._received)
        return self.greeting

    def exchange(self, payload: bytes) -> Exchanged:
        """Send a payload and return the reply, if it may be an ackd's; raises BrokenError.

        It is waited for as long as any of the payload arrives.
        """
        self._begin()
        began = monotonic()
        try:
            if self._send(self._protocol.send_payload(payload)):
                self.sent = Sent(len(payload), monotonic() - began)
            replies: list[Reply] = []
            while not (replies or self._protocol.unexpected or self._protocol.turned_away):
                replies = self._receive()
        except _SilenceError:
            raise self._silent() from None
        except _EndError as error:
            stage = Stage.ACKNOWLEDGED if self.sent else Stage.SENT
            raise diagnosis.cut_off(stage, str(error), self._received) from None
        finally:
            self._count()
        self._check(payload)
        return Exchanged(replies[0], len(payload), monotonic() - began)

    def _silent(self) -> BrokenError:
        """Return what it means that nothing more comes for a payload."""
        waiting = self._waiting
        # What waits and is not on its way is kept by the other side, whose window is closed.
        if waiting and self._number(_UNACKED):
            return diagnosis.not_arrived(self.timeout, waiting)
        return diagnosis.no_ack(self.timeout, self._received, waiting)

    def _check(self, payload: bytes) -> None:
        """Raise BrokenError if what came for a payload is not one reply of an ackd's."""
        if self._protocol.turned_away:
            raise diagnosis.turned_away(self.greeting)
        if payload in self._received:
            raise diagnosis.echoed()
        if self._protocol.unexpected or diagnosis.foreign(self._received):
            raise diagnosis.no_reply(self._received)

    def finish(self) -> None:
        """End the sending without a payload, to see that nobody greets.

        Raises BrokenError if the connection is not closed in silence.
        """
        self._begin()
        with suppress(OSError):  # if it has ended already, that is received
            self._socket.shutdown(socket.SHUT_WR)
        try:
            while not (self._protocol.unexpected or self._protocol.turned_away):
                self._receive()
        except _SilenceError:
            if not self._received:
                raise diagnosis.no_end(self.timeout) from None
        except _EndError as error:
            if not self._received and str(error) != "closed":
                raise diagnosis.hung_up(str(error), b"") from None
        if self._protocol.turned_away:
            raise diagnosis.turned_away(self.greeting)
        if self._received:
            raise diagnosis.greeted(self._received)

    def hold(self, seconds: float) -> Iterator[float]:
        """Be silent for so long, and yield now and then how long still.

        Raises BrokenError if the other side is not silent.
        """
        self._begin()
        began = monotonic()
        while (left := began + seconds - monotonic()) > 0:
            yield left
            self._deadline = monotonic() + min(left, _TICK)
            try:
                self._receive()
            except _SilenceError:
                continue
            except _EndError as error:
                raise diagnosis.ended_in_silence(str(error), monotonic() - began) from None
            raise diagnosis.spoke_in_silence(self._received)

    def _begin(self) -> None:
        """Begin a step."""
        self._received, self.pieces, self.sent = b"", 0, None
        self._deadline = monotonic() + self.timeout
        self._arrived = self._confirmed
        self._count()

    def _send(self, data: bytes) -> bool:
        """Send it; return False if the connection has ended before all was sent."""
        unsent = memoryview(data)
        while unsent:
            self._wait(select.POLLOUT)
            try:
                sent = self._socket.send(unsent, socket.MSG_NOSIGNAL)
            except OSError as error:
                self._broken = _how(error)
                return False  # what came before that is still there to be read
            unsent = unsent[sent:]
            self._written += sent
        return True

    def _receive(self) -> list[Reply]:
        self._wait(select.POLLIN)
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            raise _EndError(_how(error)) from None
        if not data:
            raise _EndError(self._broken)
        self._received += data
        self.pieces += 1
        return self._protocol.receive_data(data)

    def _wait(self, events: int) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        while not poll.poll(max(0, ceil((self._deadline - monotonic()) * 1000))):
            if (confirmed := self._confirmed) <= self._arrived:
                raise _SilenceError
            self._arrived = confirmed
            since = self._number(_LAST_ACK_RECV) / 1000
            self._deadline = monotonic() - since + self.timeout

    def _count(self) -> None:
        """Count packets, if all that was sent has arrived: others may be lost for their size.

        Nor is it a loss that a router says what is too large, after which it is sent again, or that
        something was only late.
        """
        if self._waiting:
            return
        again = self._number(_TOTAL_RETRANS) - self._number(_DSACK_DUPS)
        now = Traffic(self._number(_SEGS_OUT), again)
        before, self._counted = self._counted, now
        self._traffic.packets += now.packets - before.packets
        if self._mtu == (mtu := self.packets.mtu):
            self._traffic.retransmitted += now.retransmitted - before.retransmitted
        self._mtu = mtu


def _how(error: OSError) -> str:
    if isinstance(error, ConnectionResetError):
        return "reset"
    return "closed" if isinstance(error, BrokenPipeError) else f"broken, {error.strerror}"
