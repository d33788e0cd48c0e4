"""The exchange with an ackd over one connected socket. Nothing in here waits."""

import socket
from collections.abc import Sequence
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Generic

from ackd.client.end import End, EndKind, end_of
from ackd.protocol import ClientProtocol, Reply, TagT

# Bytes that are not sent yet, and payloads without a reply, from which on `full` is true. The
# second limit is for a server that reads for ever and never replies.
_FULL, _WINDOW = 262144, 65536
_CHUNK = 65536


class Transport(Generic[TagT]):
    """A connected, non-blocking socket, and what is in flight on it.

    The caller watches `fileno()` for reading, and for writing as well while `writing`. It calls
    `flush` and `receive` then. It calls `expire` when the `deadline` has passed. `ended` says how
    the connection ended; until then it is None. No method raises an error of the socket.

    `timeout` (seconds) bounds each wait for the server: for the greeting, for the next reply while
    one is due, and for the end of the connection after `finish`.
    """

    def __init__(self, sock: socket.socket, timeout: float, greeted: bool = True) -> None:
        """Use a connected socket whose server greets, or has an empty greeting."""
        self.ended: End | None = None
        self.timeout = timeout
        self.greeted = greeted
        self.written = 0  # bytes that the kernel has taken
        self.chunk = b""  # what the last `receive` has read
        # When the wait for what is due began, by time.monotonic(). A caller moves it by the time
        # in which it did not wait.
        self.waiting_since = monotonic()
        self._socket = sock
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
    def unsent(self) -> int:
        """How many bytes the kernel has not taken."""
        return len(self._output)

    @property
    def writing(self) -> bool:
        """Whether `flush` waits for the kernel to take more."""
        return bool(self._output) and not self._broken

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
            sent = self._socket.send(self._output, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            return
        except OSError as error:
            # The data that the server has sent before can still be read.
            self._broken = end_of(error, b"")
        else:
            self.written += sent
            del self._output[:sent]

    def receive(self) -> list[tuple[TagT, Reply]]:
        """Read once; return the tag and the reply of each payload that has one now."""
        self.chunk = b""
        if self.ended:
            return []
        try:
            self.chunk = self._socket.recv(_CHUNK)
        except BlockingIOError:
            self.ended = self._broken
            return []
        except OSError as error:
            self.ended = end_of(error, self._protocol.partial)
            return []
        if not self.chunk:
            closed = self._broken or End(EndKind.CLOSED)
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
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> list[TagT]:
        """Close the connection; return the tags of the payloads without a reply."""
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
        if answers:
            self.waiting_since = monotonic()
        return answers
