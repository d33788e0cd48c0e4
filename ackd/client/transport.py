"""The exchange with an ackd over one connected socket. Nothing in here waits."""

import socket
from collections.abc import Mapping, Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Generic

from ackd.client.addresses import UNKNOWN, SocketAddress
from ackd.client.end import End, EndKind, end_of
from ackd.protocol import ClientProtocol, Reply, TagT

if TYPE_CHECKING:
    from ackd.client.errors import ClientError
    from ackd.client.tls import TlsStream

# Bytes that are not sent yet, and payloads without a reply, from which on `full` is true. The
# second limit is for a server that reads for ever and never replies.
_FULL, _WINDOW = 262144, 65536
_CHUNK = 65536


class Transport(Generic[TagT]):
    """A connected, non-blocking socket, with TLS or without, and what is in flight on it.

    The caller watches `fileno()` for reading, and for writing as well while `writing`. It calls
    `flush` and `receive` then. It calls `expire` when the `deadline` has passed. `ended` says how
    the connection ended; until then it is None. No method raises an error of the socket.

    `timeout` (seconds) bounds each wait for the server: for the greeting, for the next reply while
    one is due, and for the end of the connection after `finish`.
    """

    def __init__(
        self,
        sock: socket.socket,
        timeout: float,
        greeted: bool = True,
        tls: "TlsStream | None" = None,
        address: SocketAddress = UNKNOWN,
    ) -> None:
        """Use a connected socket, perhaps by way of `tls`, whose server greets or does not.

        `address` is that of the server.
        """
        self.address = address
        self.passed_over: Mapping[SocketAddress, ClientError] = {}  # before this server
        self.ended: End | None = None
        self.timeout = timeout
        self.greeted = greeted
        self.tls = tls
        self.chunk = b""  # what the last `receive` has read
        # When the wait for what is due began, by time.monotonic(). A caller moves it by the time
        # in which it did not wait.
        self.waiting_since = monotonic()
        self._socket = sock
        self._stream = tls or sock
        self._written = 0
        sock.setblocking(False)
        self._protocol: ClientProtocol[TagT] = ClientProtocol(greeted)
        # The tags of the payloads without a reply, oldest first; only the protocol changes it.
        self.in_flight: Sequence[TagT] = self._protocol.in_flight
        self._output = bytearray()
        self._broken: End | None = None  # for sending; what has arrived can still be read
        self._finishing = False

    @property
    def socket(self) -> socket.socket:
        """The socket, for questions to the kernel."""
        return self._socket

    @property
    def greeting(self) -> bytes | None:
        """What the server said first, without the end of the line; None until it has."""
        return self._protocol.greeting

    @property
    def unanswered(self) -> int:
        """How many payloads have been offered and have no reply."""
        return len(self.in_flight)

    @property
    def full(self) -> bool:
        """Whether the caller must wait for replies before it offers the next payload."""
        return len(self._output) >= _FULL or len(self.in_flight) >= _WINDOW

    @property
    def written(self) -> int:
        """How many bytes the kernel has taken; with TLS, encrypted bytes."""
        return self.tls.written if self.tls else self._written

    @property
    def unsent(self) -> int:
        """How many bytes the kernel has not taken."""
        return len(self._output) + (self.tls.unsent if self.tls else 0)

    @property
    def writing(self) -> bool:
        """Whether `flush` waits for the kernel to take more."""
        if self.tls and self.tls.must_receive:
            return bool(self.tls.unsent) and not self._broken
        return bool(self.unsent) and not self._broken

    @property
    def deadline(self) -> float:
        """When the server is overdue, by time.monotonic(); inf while nothing is due."""
        due = self.in_flight or self._finishing or self._protocol.greeting is None
        return self.waiting_since + self.timeout if due and not self.ended else inf

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def offer(self, payload: bytes, tag: TagT) -> None:
        """Take a payload to be sent by `flush`; one that holds a newline is a ValueError."""
        if not self.in_flight:
            self.waiting_since = monotonic()
        self._output += self._protocol.send_payload(payload, tag)

    def flush(self) -> None:
        """Send what the kernel takes. `receive` reports the end of the connection."""
        if self.ended or not self.writing:
            return
        try:
            # ackctl lets SIGPIPE end it, as a program at the front of a pipe should.
            sent = self._stream.send(self._output, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError as error:
            # The data that the server has sent before can still be read.
            self._broken = end_of(error, b"")
        else:
            self._written += sent
            del self._output[:sent]

    def receive(self) -> list[tuple[TagT, Reply]]:
        """Read once; return the tag and the reply of each payload that has one now."""
        self.chunk = b""
        if self.ended:
            return []
        try:
            self.chunk = self._stream.recv(_CHUNK)
        except BlockingIOError:
            self.ended = self._broken
            return []
        except OSError as error:
            self.ended = end_of(error, self._protocol.partial)
            return []
        if not self.chunk:
            closed = (self.tls and self.tls.end) or self._broken or End(EndKind.CLOSED)
            self.ended = closed._replace(line=self._protocol.partial)
            return []
        return self._received()

    def expire(self) -> None:
        """End the exchange if the server is overdue."""
        if monotonic() >= self.deadline:
            self.ended = End(EndKind.TIMED_OUT, seconds=self.timeout, line=self._protocol.partial)

    def finish(self) -> None:
        """End the sending. An ackd closes the connection then; that is waited for like a reply."""
        self.waiting_since, self._finishing = monotonic(), True
        with suppress(OSError):  # if the connection has ended already, `receive` reports that
            self._stream.shutdown(socket.SHUT_WR)

    def close(self) -> list[TagT]:
        """Close the connection; return the tags of the payloads without a reply."""
        if self.tls and not self._output:
            # After the end that TLS has, a server would take the beginning of a line for all of it.
            with suppress(OSError):
                self.tls.shutdown(socket.SHUT_WR)
        self._socket.close()
        return self._protocol.abandon()

    def _received(self) -> list[tuple[TagT, Reply]]:
        protocol = self._protocol
        answers = protocol.receive_data(self.chunk)
        if protocol.violation:
            self.ended = End(
                EndKind.UNEXPECTED, violation=protocol.violation, line=protocol.partial
            )
        elif protocol.rejected:
            self.ended = End(EndKind.REJECTED, line=protocol.rejection)
        elif self.tls and self.tls.end:  # it came with these bytes: no event would report it
            self.ended = self.tls.end._replace(line=protocol.partial)
        if answers:
            self.waiting_since = monotonic()
        return answers
