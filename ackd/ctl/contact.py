"""One connection to what may be an ackd, and what is known when something is wrong with it."""

import fcntl
import select
import socket
import termios
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import ceil
from time import monotonic

from ackd.ctl import diagnosis
from ackd.protocol import ClientProtocol, Reply

_CHUNK = 65536
_TICK = 1.0  # seconds of a silence after which a user sees how long it still is
# Bytes of a packet before its data: RFC 791, 8200, 9293, and 7323 for TCP's timestamps.
_IPV4, _IPV6, _TCP, _TIMESTAMPS = 20, 40, 20, 12
# linux/tcp.h: TCPI_OPT_TIMESTAMPS, and where struct tcp_info has it.
_WITH_TIMESTAMPS, _OPTIONS = 1, 5
# linux/in.h and linux/in6.h: the socket module does not name IP_MTU and IPV6_MTU.
_IP_MTU, _IPV6_MTU = (socket.IPPROTO_IP, 14), (socket.IPPROTO_IPV6, 24)


@dataclass(frozen=True, slots=True)
class Packets:
    """Bytes: what is believed to come through, the data in a full packet, and what is before it."""

    mtu: int
    segment: int
    overhead: int


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A reply to `size` bytes; the seconds until these were sent, and until it came."""

    reply: Reply
    size: int
    sending: float
    seconds: float


class _SilenceError(Exception):
    """Nothing more came in time."""


class _EndError(Exception):
    """The connection has ended; the text says how."""


class Contact:
    """A connection that is greeted and used step by step; `timeout` bounds each, in seconds."""

    def __init__(self, sock: socket.socket, timeout: float, greeted: bool) -> None:
        self.timeout = timeout
        self._socket = sock
        self.pieces = 0  # in which the answer came, in this step
        self._protocol = ClientProtocol(expect_greeting=greeted)
        self._received = b""  # in this step
        self._broken = "closed"  # or how else it has ended

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
        info = self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _OPTIONS + 1)
        timestamps = _TIMESTAMPS if info[_OPTIONS] & _WITH_TIMESTAMPS else 0
        return Packets(
            self._socket.getsockopt(*(_IP_MTU if ipv4 else _IPV6_MTU)),
            self._socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
            (_IPV4 if ipv4 else _IPV6) + _TCP + timestamps,
        )

    @property
    def _waiting(self) -> int:
        """How many bytes the other side's kernel has not confirmed: SIOCOUTQ, tcp(7)."""
        return int.from_bytes(fcntl.ioctl(self._socket, termios.TIOCOUTQ, bytes(4)), "little")

    def greet(self) -> bytes:
        """Wait for the greeting, if one is expected, and return it; raises BrokenError."""
        if self._protocol.greeting is not None:
            return self.greeting
        deadline = self._begin()
        try:
            while self._protocol.greeting is None and not self._protocol.unexpected:
                self._receive(deadline)
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
        """Send a payload and return the reply, if it may be an ackd's; raises BrokenError."""
        deadline = self._begin()
        began = deadline - self.timeout
        try:
            self._send(self._protocol.send_payload(payload), deadline)
            sending = monotonic() - began
            replies: list[Reply] = []
            while not (replies or self._protocol.unexpected or self._protocol.turned_away):
                replies = self._receive(deadline)
        except _SilenceError:
            if waiting := self._waiting:
                raise diagnosis.not_arrived(self.timeout, waiting) from None
            raise diagnosis.no_ack(self.timeout, self._received) from None
        except _EndError as error:
            raise diagnosis.cut_off(str(error), self._received) from None
        self._check(payload)
        return Exchanged(replies[0], len(payload), sending, monotonic() - began)

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
        deadline = self._begin()
        with suppress(OSError):  # if it has ended already, that is received
            self._socket.shutdown(socket.SHUT_WR)
        try:
            while not (self._protocol.unexpected or self._protocol.turned_away):
                self._receive(deadline)
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
            try:
                self._receive(monotonic() + min(left, _TICK))
            except _SilenceError:
                continue
            except _EndError as error:
                raise diagnosis.ended_in_silence(str(error), monotonic() - began) from None
            raise diagnosis.spoke_in_silence(self._received)

    def _begin(self) -> float:
        """Begin a step; return when it must be over."""
        self._received, self.pieces = b"", 0
        return monotonic() + self.timeout

    def _send(self, data: bytes, deadline: float) -> None:
        unsent = memoryview(data)
        while unsent:
            self._wait(select.POLLOUT, deadline)
            try:
                unsent = unsent[self._socket.send(unsent, socket.MSG_NOSIGNAL) :]
            except OSError as error:
                self._broken = _how(error)
                return  # what came before that is still there to be read

    def _receive(self, deadline: float) -> list[Reply]:
        self._wait(select.POLLIN, deadline)
        try:
            data = self._socket.recv(_CHUNK)
        except OSError as error:
            raise _EndError(_how(error)) from None
        if not data:
            raise _EndError(self._broken)
        self._received += data
        self.pieces += 1
        return self._protocol.receive_data(data)

    def _wait(self, events: int, deadline: float) -> None:
        poll = select.poll()
        poll.register(self._socket, events)
        if not poll.poll(max(0, ceil((deadline - monotonic()) * 1000))):
            raise _SilenceError


def _how(error: OSError) -> str:
    if isinstance(error, ConnectionResetError):
        return "reset"
    return "closed" if isinstance(error, BrokenPipeError) else f"broken, {error.strerror}"
