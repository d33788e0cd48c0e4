"""Whether journald is alive: what it may have lost when it has ended is recorded once more."""

import os
import select
import socket
from math import inf

from ackd.journal.journald import JournalSocket
from ackd.journal.recorder import Recorder

# Seconds without a record after which the last one is made sure of, at least.
QUIET = 0.25
# Seconds between attempts to meet a successor: what it reads before is recorded again.
_AGAIN = 0.01
# Bytes of records from which on nothing is expected of a successor any more.
_TOO_MUCH = 8 * 1024 * 1024


class Vigil:
    """Holds a connection to journald's other socket, `stdout` beside the one for records.

    journald keeps streams over its restarts only once they have said who they are, so this one,
    on which nothing is said, breaks when journald ends, for whatever reason. As long as it has not
    broken, all that has been read has been read by one journald. When that has ended, another
    connection waits for the next one, who shuts its own direction of it when it accepts: what is
    read before that can have been read by one that was gone again at once.
    """

    def __init__(self, recorder: Recorder, sink: JournalSocket) -> None:
        self._recorder = recorder
        self._sink = sink
        self._path = os.path.join(os.path.dirname(sink.path), "stdout")
        self._stream: socket.socket | None = None
        self._events = select.epoll()
        self._awaited = False  # whether a successor has not accepted yet
        self._sent = 0
        self.due = inf  # when `attend` must be called at the latest
        self._open()

    def fileno(self) -> int:
        """Return the descriptor that is readable when journald has accepted, or ended."""
        return self._events.fileno()

    def close(self) -> None:
        """Give the descriptors back."""
        self._events.close()
        self._hang_up()

    def attend(self, now: float) -> None:
        """Note what journald has read; to be called each time that the loop has gone round."""
        tail = self._sink.tail
        if not tail.settled and (not self._awaited or tail.size > _TOO_MUCH):
            self._sink.look()
        if tail.settled:
            self.due = inf
        elif self.due == inf:
            self.due = now + self._interval
        elif now >= self.due:
            self.due = now + self._interval
            self._check()

    @property
    def _interval(self) -> float:
        return _AGAIN if self._awaited and not self._stream else QUIET

    def on_event(self) -> None:
        """Record again what a journald that has ended may have lost; then wait for the next one."""
        for _, events in self._events.poll(0):
            if events & (select.EPOLLHUP | select.EPOLLERR):
                self._on_end()
            else:
                self._on_accepted()

    def _on_end(self) -> None:
        self._hang_up()
        self._recorder.repeat()
        if not self._awaited:
            self._awaited = True
            self._open()
        # Otherwise it takes no streams, or its sockets have gone: a moment later.
        self.due = inf

    def _on_accepted(self) -> None:
        if self._stream:
            self._events.modify(self._stream, 0)  # EPOLLHUP comes unasked
        if self._awaited:
            self._awaited = False
            self._recorder.repeat()

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
            self._events.register(stream, select.EPOLLIN)

    def _hang_up(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None
