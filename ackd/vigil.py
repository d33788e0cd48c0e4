"""Whether journald is alive: what it may have lost when it has ended is recorded once more."""

import os
import select
import socket
from math import inf

from ackd.journal import JournalSocket
from ackd.recorder import Recorder

# Seconds without a record after which the last one is made sure of, at least.
QUIET = 0.25


class Vigil:
    """Holds a connection to journald's other socket, `stdout` beside the one for records.

    journald keeps streams over its restarts only once they have said who they are, so this one,
    on which nothing is said, breaks when journald ends, for whatever reason. As long as it has not
    broken, all that has been read has been read by one journald. journald shuts its writing side,
    so the stream is readable all the time; only its breaking is watched, in an epoll of its own.
    """

    def __init__(self, recorder: Recorder, sink: JournalSocket) -> None:
        self._recorder = recorder
        self._sink = sink
        self._path = os.path.join(os.path.dirname(sink.path), "stdout")
        self._stream: socket.socket | None = None
        self._breaking = select.epoll()
        self._sent = 0
        self._check_at = inf
        self._open()

    def fileno(self) -> int:
        """Return the descriptor that is readable when journald has ended."""
        return self._breaking.fileno()

    def close(self) -> None:
        """Give the descriptors back."""
        self._breaking.close()
        self._hang_up()

    def next(self) -> float:
        """Return when `attend` must be called at the latest, in seconds of time.monotonic()."""
        return self._check_at

    def attend(self, now: float) -> None:
        """Note what journald has read; to be called each time that the loop has gone round."""
        if not self._sink.tail.settled:
            self._sink.look()
        if self._sink.tail.settled:
            self._check_at = inf
        elif self._check_at == inf:
            self._check_at = now + QUIET
        elif now >= self._check_at:
            self._check_at = now + QUIET
            self._check()

    def on_end(self) -> None:
        """Record again what a journald that has ended may have lost."""
        self._hang_up()
        self._recorder.repeat()
        self._open()

    def _check(self) -> None:
        tail = self._sink.tail
        if not self._stream:
            self._open()
        if tail.sent == self._sent and not tail.marked:
            self._recorder.mark()
        self._sent = tail.sent

    def _open(self) -> None:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            stream.connect(self._path)
        except OSError:  # it is away with all its sockets, or has too many clients at the moment
            stream.close()
        else:
            self._stream = stream
            self._breaking.register(stream, 0)  # EPOLLHUP comes unasked

    def _hang_up(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None
