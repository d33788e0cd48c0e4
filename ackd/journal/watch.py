"""The watch over journald: when journald ends, what it may have lost is recorded again."""

import os
import select
import socket
from collections.abc import Callable
from math import inf
from time import monotonic

from ackd.journal.datagram import DatagramSocket
from ackd.journal.recorder import Recorder
from ackd.journal.unconfirmed import Unconfirmed
from ackd.loop import READABLE, Loop
from ackd.records import Kind, Priority, Record

# Seconds without a new record after which a mark is sent, at least.
QUIET = 0.25
# Seconds before the next attempt to connect: what journald reads before is recorded again.
_RECONNECT = 0.01
# Seconds before the next attempt, at most. journald refuses streams beyond 4,096, which any local
# user can hold, and logs each refusal.
LONGEST_PAUSE = 30.0
# Bytes of unconfirmed records from which on the watch does not wait for the next journald's accept.
_TOO_MUCH = 8 * 1024 * 1024
# The last datagram when no record follows: journald ignores it, and has then read all before it.
_MARK = b""
# Before all other fields of a record, where no payload can be.
_REPEATED = b"ACKD_REPEATED=1\n"


class JournaldWatch:
    """Holds a connection to journald's other socket, `stdout` beside the socket for records.

    journald keeps streams over its restarts only after they have introduced themselves. Nothing is
    written to this stream, so it breaks when journald ends, for whatever reason. While it has not
    broken, one journald has read everything that was read.

    When journald has ended, another stream waits for the next journald, which shuts its own
    direction of the stream when it accepts. What is read before that may have been read by a
    journald that ended at once, so it is recorded again as well.

    A stream that breaks before journald has accepted it does not show that journald has ended:
    journald closes each stream beyond its limit. Then nothing is recorded again before journald
    accepts a later stream, and the pauses between the attempts double.

    `inspect` finds out whether journald stores payloads, or whether a journald that starts will.
    """

    def __init__(
        self,
        loop: Loop,
        recorder: Recorder,
        sock: DatagramSocket,
        unconfirmed: Unconfirmed,
        inspect: Callable[[bool], None],
    ) -> None:
        self.deadline = self.scheduled = inf
        self._loop = loop
        self._recorder = recorder
        self._socket = sock
        self._unconfirmed = unconfirmed
        self._inspect = inspect
        self._path = os.path.join(os.path.dirname(sock.path), "stdout")
        self._stream: socket.socket | None = None
        # Of its own, since a selector can't watch for EPOLLHUP alone: epoll_ctl(2).
        self._stream_events = select.epoll()
        self._next_awaited = False  # whether the next journald has not accepted yet
        self._accepted = False  # whether journald has accepted the stream
        self._pause = _RECONNECT
        self._sent = 0
        loop.watch(self._stream_events, READABLE, self._on_event)
        self._open_stream()

    def close(self) -> None:
        """Close the stream."""
        self.deadline = inf
        self._close_stream()
        self._loop.unwatch(self._stream_events)
        self._stream_events.close()

    def look(self) -> None:
        """Note what journald has read; to be called at the end of each round.

        That the round's first step, waiting for events, has not found the stream broken proves that
        journald was alive after the last look.
        """
        unconfirmed = self._unconfirmed
        if not unconfirmed.empty and (not self._next_awaited or unconfirmed.size > _TOO_MUCH):
            unconfirmed.look(self._socket.unread())
        if unconfirmed.empty:
            self.deadline = inf
        elif self.deadline == inf:
            self._set_deadline()

    def on_deadline(self) -> None:
        """Connect to journald again, or send a mark behind the last record."""
        if not self._stream:
            self._open_stream()
        sent = self._unconfirmed.sent
        if sent == self._sent and not self._unconfirmed.marked and not self._recorder.blocked:
            self._recorder.put_first([_MARK])
            self._recorder.resume()
        self._sent = self._unconfirmed.sent
        self._set_deadline()

    def repeat(self) -> None:
        """Have the recorder record again, before all else, what a journald may have lost."""
        if self._unconfirmed.empty:
            return
        records = self._unconfirmed.take(self._socket.unread())
        if records:
            self._recorder.put_first(map(_as_repeated, records))
            message = f"journald has ended; records repeated that may be lost: {len(records)}"
            self._recorder.note(Record(Kind.REPEATED, Priority.WARNING, message))

    def _on_event(self) -> None:
        for _, events in self._stream_events.poll(0):
            if events & (select.EPOLLHUP | select.EPOLLERR):
                self._on_end()
            else:
                self._on_accepted()

    def _on_end(self) -> None:
        """Have recorded again what was lost; wait for the next journald."""
        accepted = self._accepted
        self._close_stream()
        self._next_awaited = True
        self.deadline = inf  # the end of this round sets it
        if accepted:
            self._inspect(True)
            self.repeat()
            self._recorder.resume()
            self._pause = _RECONNECT
            self._open_stream()
        else:
            self._pause = min(2 * self._pause, LONGEST_PAUSE)

    def _on_accepted(self) -> None:
        self._accepted = True
        self._pause = _RECONNECT
        if self._stream:
            self._stream_events.modify(self._stream, 0)  # EPOLLHUP is reported in any case
        if self._next_awaited:
            self._next_awaited = False
            self._inspect(False)
            self.repeat()
            self._recorder.resume()

    def _set_deadline(self) -> None:
        connecting = self._next_awaited and not self._stream
        self.deadline = monotonic() + (self._pause if connecting else QUIET)
        self._loop.timers.watch(self)

    def _open_stream(self) -> None:
        stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            stream.connect(self._path)
        except OSError:  # journald has no sockets at the moment, or too many clients
            stream.close()
        else:
            self._stream = stream
            self._stream_events.register(stream, select.EPOLLIN)

    def _close_stream(self) -> None:
        if self._stream:
            self._stream.close()
            self._stream = None
        self._accepted = False


def _as_repeated(record: bytes) -> bytes:
    return record if record.startswith(_REPEATED) else _REPEATED + record
