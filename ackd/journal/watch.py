"""The watch over journald: when journald ends, what it may have lost is recorded again."""

import os
import select
import socket
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import NamedTuple, Protocol, TypeAlias

from ackd.journal.recorder import Recorder
from ackd.journal.unconfirmed import Unconfirmed
from ackd.loop import READABLE, Loop
from ackd.records import Kind, Priority, Record

# Seconds without a new record after which a mark is sent, at least.
QUIET = 0.25
# Seconds between two looks at what journald has read, at least: a look in each round would be one
# more system call for each payload of a client that waits for its acks. A journald that ends may
# have lost all records that it has read since the last look but one.
LOOK = 0.005
# Seconds before the next attempt to connect: what journald reads before is recorded again.
_RECONNECT = 0.01
# Seconds before the next attempt, at most. journald refuses streams beyond 4,096, which any local
# user can hold, and logs each refusal.
LONGEST_PAUSE = 30.0
# Seconds for which a start holds records back until journald accepts the stream: what journald
# reads before is recorded again. A journald that runs needs a millisecond; that of a namespace may
# only be started by this stream; and one that hangs must not keep clients waiting.
FIRST_ACCEPT = 1.0
# Bytes of unconfirmed records from which on the watch does not wait for the next journald's accept.
# The log has room for twice as many, because the longest record fits once into a segment, unless
# its file system is full.
_TOO_MUCH = 4 * 1024 * 1024
# The end of a stream: always reported.
_END = select.EPOLLHUP | select.EPOLLERR


# A named tuple: the decorator `dataclass` would delay each start noticeably.
class JournaldStream(NamedTuple):
    """A connection to journald's socket `stdout`, and whether journald has accepted it."""

    socket: socket.socket
    accepted: bool


KeepStream: TypeAlias = Callable[[JournaldStream], None]


class WatchedQueue(Protocol):
    """journald's socket for records, as the watch uses it."""

    path: str
    holds: bool
    reachable: bool

    def is_there(self) -> bool:
        """Return whether a process has the other end open; if not, it is not `reachable`."""

    def unread(self) -> int:
        """Return the kernel's charge for what is not read yet, in bytes."""

    def put_mark(self) -> bool:
        """Return whether the queue has taken a mark."""


class JournaldWatch:
    """Holds a connection to journald's other socket, `stdout` beside the socket for records.

    journald keeps streams over its restarts only after they have introduced themselves. Nothing is
    written to this stream, so it breaks when journald ends, for whatever reason. While it has not
    broken, one journald has read everything that was read. journald shuts its own direction of the
    stream when it accepts. What is read before that may have been read by a journald that ended at
    once, so it is recorded again: nothing is confirmed before the accept.

    A stream that breaks before journald has accepted it does not show that journald has ended:
    journald closes each stream beyond its limit. Then nothing is recorded again before journald
    accepts a later stream, and the pauses between the attempts double.

    `stored` is the stream of the process before. If it has broken, or if there is none, all that
    the process before has sent and that was not confirmed then is recorded again. `keep` keeps the
    stream for the next process. It is called only once nothing is left that must be recorded again
    because an earlier stream has broken: until then the earlier stream stays the kept one.

    `inspect` finds out whether journald stores payloads, or whether a journald that starts will.
    """

    def __init__(
        self,
        loop: Loop,
        recorder: Recorder,
        queue: WatchedQueue,
        unconfirmed: Unconfirmed,
        inspect: Callable[[bool], None],
        stored: JournaldStream | None,
        keep: KeepStream,
    ) -> None:
        self.deadline = self.scheduled = inf
        self._loop = loop
        self._recorder = recorder
        self._queue = queue
        self._unconfirmed = unconfirmed
        self._inspect = inspect
        self._keep = keep
        self._path = os.path.join(os.path.dirname(queue.path), "stdout")
        self._stream: socket.socket | None = None
        # A separate epoll: a selector can't watch for EPOLLHUP alone, epoll_ctl(2).
        self._stream_events = select.epoll()
        self._accept_awaited = False  # whether journald has not accepted the latest stream yet
        self._accepted = False  # whether journald has accepted the stream
        self._kept = True  # whether the next process would get the stream
        self._pause = _RECONNECT
        self._sent = 0
        self._next_look = 0.0
        loop.watch(self._stream_events, READABLE, self._on_event)
        self._begin(stored)

    def close(self) -> None:
        """Close the stream."""
        self.deadline = inf
        self._unconfirmed.confirm()
        self._close_stream()
        self._loop.unwatch(self._stream_events)
        self._stream_events.close()

    def look(self, now: float) -> None:
        """Note what journald has read, from time to time; to be called at the end of each round.

        The round's first step, waiting for events, has not found the stream broken. So journald was
        alive after the last look.
        """
        if now < self._next_look:
            return
        unconfirmed = self._unconfirmed
        if not (self._kept or unconfirmed.lost):
            self._keep_stream()
        if self._queue.holds:
            return
        if unconfirmed.queue and (not self._accept_awaited or self._too_much):
            unconfirmed.look(self._queue.unread())
        if not (unconfirmed.queue or self._seeks):
            self.deadline = inf
            return
        self._next_look = now + LOOK
        if self.deadline == inf:
            self._set_deadline()

    def on_deadline(self) -> None:
        """Stop to hold records back; connect to journald again, or send a mark."""
        if self._queue.holds:
            self._queue.holds = False
            self._recorder.resume()
        if not self._stream:
            self._open_stream()
        if self._seeks:
            self._seek()
        sent = self._unconfirmed.sent
        quiet = sent == self._sent and not self._unconfirmed.marked and not self._recorder.blocked
        if quiet and not self._queue.put_mark():
            self._recorder.block()  # as when it refuses a record
        self._sent = self._unconfirmed.sent
        self._next_look = 0.0  # rounds may be rare now
        self._set_deadline()

    def repeat(self, why: str = "journald has ended") -> None:
        """Have recorded again, before all else, what a journald may have lost."""
        if not self._unconfirmed.queue:
            return
        count = self._unconfirmed.lose(self._queue.unread())
        if count:
            self._recorder.block()
            message = f"{why}; records repeated that may be lost: {count}"
            self._recorder.note(Record(Kind.REPEATED, Priority.WARNING, message))

    @property
    def _seeks(self) -> bool:
        """Whether journald has ended, and nothing shows yet that another one will follow."""
        return self._accept_awaited and not self._stream and self._queue.reachable

    def _seek(self) -> None:
        """Notice that journald's socket has gone as well, although nothing is sent to it now."""
        if not self._queue.is_there():
            self._recorder.block()

    @property
    def _too_much(self) -> bool:
        """Whether the log is full or soon will be, and so can't wait for the next accept."""
        return self._recorder.full or self._unconfirmed.size > _TOO_MUCH

    def _begin(self, stored: JournaldStream | None) -> None:
        """Go on with the stream of the process before, or open one and hold records back."""
        if self._unconfirmed.lost:
            self._recorder.block()
        if stored:
            self._accepted, self._accept_awaited = stored.accepted, not stored.accepted
            self._use(stored.socket)
            self._look_at_stream()
        else:
            self.repeat("journald may have ended")
        if not self._stream:
            self._open_stream()
        if self._stream and self._accept_awaited:
            self._queue.holds = True
            self._recorder.block()
            self.deadline = monotonic() + FIRST_ACCEPT
            self._loop.timers.watch(self)

    def _on_event(self) -> None:
        self._look_at_stream()
        self._queue.holds = False
        self._recorder.resume()

    def _look_at_stream(self) -> None:
        self._next_look = 0.0
        for _, events in self._stream_events.poll(0):
            if events & _END:
                self._on_end()
            else:
                self._on_accepted()

    def _on_end(self) -> None:
        """Have recorded again what was lost; wait for the next journald."""
        accepted = self._accepted
        self._close_stream()
        self._accept_awaited = True
        self.deadline = inf  # the end of this round sets it
        if accepted:
            self._inspect(True)
            self.repeat()
            self._pause = _RECONNECT
            self._open_stream()
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        self._seek()

    def _on_accepted(self) -> None:
        self._accepted = True
        self._pause = _RECONNECT
        if self._stream:
            self._stream_events.modify(self._stream, 0)  # the end is reported in any case
        if self._accept_awaited:
            self._accept_awaited = self._kept = False
            self._inspect(False)
            self.repeat()

    def _set_deadline(self) -> None:
        connecting = self._accept_awaited and not self._stream
        self.deadline = monotonic() + (self._pause if connecting else QUIET)
        self._loop.timers.watch(self)

    def _open_stream(self) -> None:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            stream.connect(self._path)
        except OSError:  # journald has no sockets at the moment, or too many clients
            stream.close()
            self._pause = min(2 * self._pause, LONGEST_PAUSE)
        else:
            self._accept_awaited = True
            self._kept = False
            self._use(stream)

    def _use(self, stream: socket.socket) -> None:
        self._stream = stream
        self._stream_events.register(stream, 0 if self._accepted else select.EPOLLIN)

    def _keep_stream(self) -> None:
        if self._stream:
            self._keep(JournaldStream(self._stream, self._accepted))
            self._kept = True

    def _close_stream(self) -> None:
        if self._stream:
            # A stream that is kept is not closed for epoll, and would go on to cause events.
            self._stream_events.unregister(self._stream)
            self._stream.close()
            self._stream = None
        self._accepted = False
