"""One connection of a probe to a server that may be an ackd, with a diagnosis of each failure."""

import select
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING

from ackd.client.end import EndKind
from ackd.client.transport import Transport
from ackd.client.waiting import milliseconds
from ackd.ctl.foreign import foreign
from ackd.ctl.probe import diagnosis, tls_diagnosis
from ackd.ctl.probe.finding import BrokenError, Encryption, Stage, Traffic
from ackd.ctl.probe.tcp_info import TcpInfo, read_tcp_info
from ackd.protocol import Reply

if TYPE_CHECKING:
    from ackd.client.tls import TlsStream

_TICK = 1.0  # seconds between two updates of the time that is left of a silence
# Bytes of the headers of a packet: RFC 791, 8200, 9293, and 7323 for TCP's timestamps.
_IPV4, _IPV6, _TCP, _TIMESTAMPS = 20, 40, 20, 12


@dataclass(frozen=True, slots=True)
class Packets:
    """In bytes: the path's MTU that this host assumes, the data of a full packet, the headers."""

    mtu: int
    segment: int
    overhead: int


@dataclass(frozen=True, slots=True)
class Written:
    """The bytes of a payload, and the seconds until the kernel had taken them."""

    size: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Exchanged:
    """A reply to a payload of `size` bytes, and the seconds until it came."""

    reply: Reply
    size: int
    seconds: float


class ProbeConnection:
    """A connection that is used step by step; `timeout` bounds each step, in seconds."""

    def __init__(
        self,
        sock: socket.socket,
        timeout: float,
        greeted: bool,
        traffic: Traffic,
        tls: "TlsStream | None" = None,
    ) -> None:
        """Use a connected socket, perhaps with TLS, and count what it sends in `traffic`."""
        self.pieces = 0  # in which the answer arrived, in this step
        self.sent: Written | None = None  # in this step
        self._transport: Transport[None] = Transport(sock, timeout, greeted, tls)
        self._added = 0  # bytes that TLS adds to a payload
        self._traffic = traffic
        self._counted = Traffic()
        self._mtu = self._info.mtu
        self._received = b""  # in this step
        self._begin()

    def close(self) -> None:
        """Close the connection."""
        self._transport.close()

    @property
    def timeout(self) -> float:
        """Seconds for each step."""
        return self._transport.timeout

    @timeout.setter
    def timeout(self, seconds: float) -> None:
        self._transport.timeout = seconds

    @property
    def encryption(self) -> Encryption | None:
        """How the connection is encrypted; None without TLS."""
        tls = self._transport.tls
        return Encryption(tls.version, tls.cipher, tls.certificate) if tls else None

    @property
    def packets(self) -> Packets:
        """The sizes of this connection's packets."""
        info = self._info
        ip = _IPV4 if self._transport.socket.family == socket.AF_INET else _IPV6
        overhead = ip + _TCP + (_TIMESTAMPS if info.timestamps else 0)
        return Packets(info.mtu, info.segment - self._added, overhead + self._added)

    @property
    def _info(self) -> TcpInfo:
        return read_tcp_info(self._transport.socket)

    def greet(self) -> bytes:
        """Wait for the greeting, if a greeting is expected, and return it; raises BrokenError."""
        transport = self._transport
        if transport.greeting is not None:
            return transport.greeting
        self._begin()
        while transport.greeting is None and not transport.ended:
            self._advance()
        if end := transport.ended:
            if end.fault:
                raise tls_diagnosis.failed(end.fault, Stage.GREETED)
            raise diagnosis.not_greeted(end, self._received)
        greeting = transport.greeting or b""
        more = self._received != greeting + b"\n"
        if more or foreign(self._received):
            raise diagnosis.no_greeting(self._received)
        return greeting

    def exchange(self, payload: bytes) -> Exchanged:
        """Send a payload and return the reply. Raises BrokenError if the reply is not an ackd's.

        The timeout begins again whenever bytes of the payload arrive.
        """
        self._begin()
        transport, began, before = self._transport, monotonic(), self._transport.written
        transport.offer(payload, None)
        answers: list[tuple[None, Reply]] = []
        try:
            while not (answers or transport.ended):
                answers = self._advance()
                if not (transport.unsent or self.sent):
                    self.sent = Written(len(payload), monotonic() - began)
                    self._added = transport.written - before - len(payload) - len(b"\n")
        finally:
            self._count(self._info)
        self._check(payload)
        return Exchanged(answers[0][1], len(payload), monotonic() - began)

    def _check(self, payload: bytes) -> None:
        """Raise BrokenError if the answer to a payload is not one reply of an ackd."""
        end = self._transport.ended
        if end and end.how is EndKind.REJECTED:
            raise diagnosis.rejected(end.line, Stage.ACKNOWLEDGED)
        if end and end.how is EndKind.TIMED_OUT:
            raise self._silent()
        if end and end.how is not EndKind.UNEXPECTED:
            stage = Stage.ACKNOWLEDGED if self.sent else Stage.SENT
            raise diagnosis.cut_off(stage, end, self._received)
        if payload in self._received:
            raise diagnosis.echoed()
        if end or foreign(self._received):
            raise diagnosis.no_reply(self._received)

    def _silent(self) -> BrokenError:
        """Return what it means that there is no answer to a payload."""
        info = self._info
        # Bytes that wait and are not in flight wait for the other side, whose window is closed.
        if info.unconfirmed and info.packets_unconfirmed:
            return diagnosis.not_arrived(self.timeout, info.unconfirmed)
        return diagnosis.no_ack(self.timeout, self._received, info.unconfirmed)

    def finish(self) -> None:
        """End the sending without a payload, to check that the server does not greet.

        Raises BrokenError unless the server closes the connection without sending anything.
        """
        self._begin()
        self._transport.finish()
        while not (end := self._transport.ended):
            self._advance()
        if end.how is EndKind.REJECTED:
            raise diagnosis.rejected(end.line)
        if end.fault:
            raise tls_diagnosis.failed(end.fault, Stage.GREETED)
        if self._received:
            raise diagnosis.greeted(self._received)
        if end.how is EndKind.TIMED_OUT:
            raise diagnosis.no_end(self.timeout)
        if end.how is not EndKind.CLOSED:
            raise diagnosis.not_greeted(end, b"")

    def hold(self, seconds: float) -> Iterator[float]:
        """Be silent for `seconds`; from time to time yield the seconds that are left.

        Raises BrokenError if the other side sends something or ends the connection.
        """
        self._begin()
        began = monotonic()
        while (left := began + seconds - monotonic()) > 0:
            yield left
            if not self._ready(monotonic() + min(left, _TICK)):
                continue
            self._receive()
            if self._received:
                raise diagnosis.spoke_in_silence(self._received)
            if end := self._transport.ended:
                raise diagnosis.ended_in_silence(end, monotonic() - began)

    def _begin(self) -> None:
        """Begin a step."""
        self._received, self.pieces, self.sent = b"", 0, None
        self._transport.waiting_since = monotonic()
        info = self._info
        self._arrived = self._confirmed(info)
        self._count(info)

    def _confirmed(self, info: TcpInfo) -> int:
        """Return how many bytes the other side's kernel has confirmed, in all."""
        return self._transport.written - info.unconfirmed

    def _advance(self) -> list[tuple[None, Reply]]:
        """Send and receive; if nothing has arrived, wait until the socket is ready."""
        answers = self._receive()
        transport = self._transport
        if not (transport.chunk or transport.ended or self._ready(transport.deadline)):
            self._expire()
        return answers

    def _receive(self) -> list[tuple[None, Reply]]:
        """Send and receive without waiting."""
        self._transport.flush()
        answers = self._transport.receive()
        if chunk := self._transport.chunk:
            self._received += chunk
            self.pieces += 1
        return answers

    def _ready(self, deadline: float) -> bool:
        """Wait until the socket is ready; return False if it is not ready at the deadline."""
        poll = select.poll()
        poll.register(self._transport, select.POLLIN | select.POLLOUT * self._transport.writing)
        return bool(poll.poll(milliseconds(deadline - monotonic())))

    def _expire(self) -> None:
        """End the exchange, unless bytes have arrived at the other side since the last time."""
        info = self._info
        if (confirmed := self._confirmed(info)) > self._arrived:
            self._arrived = confirmed
            self._transport.waiting_since = monotonic() - info.confirmed_ago
        self._transport.expire()

    def _count(self, info: TcpInfo) -> None:
        """Count packets, if all of them have arrived: others may be lost because of their size.

        Packets that a router has reported as too large, and packets that were only late, are not
        counted as lost.
        """
        if info.unconfirmed:
            return
        now = Traffic(info.packets_sent, info.sent_again - info.received_twice)
        before, self._counted = self._counted, now
        self._traffic.packets += now.packets - before.packets
        if self._mtu == info.mtu:
            self._traffic.retransmitted += now.retransmitted - before.retransmitted
        self._mtu = info.mtu
