"""journald's socket for records, as a sink. No record is lost when journald ends."""

import select
import socket
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import NamedTuple, TypeAlias

from ackd.journal.datagram import DatagramSocket, new_socket
from ackd.journal.recorder import Recorder
from ackd.journal.storing import Storing
from ackd.journal.unconfirmed import Unconfirmed
from ackd.journal.watch import JournaldStream, JournaldWatch, KeepStream
from ackd.log.log import Log, SentRecord
from ackd.log.storage import Found
from ackd.loop import Loop

SOCKET = "/run/systemd/journal/socket"
# Before all other fields of a record, where no payload can be.
_REPEATED = b"ACKD_REPEATED=1\n"
# Seconds in which the earlier journald can read the last records, when ackd changes to another.
_LAST_RECORDS = 1.0
# journald ignores an empty datagram, and has then read all before it.
_MARK = b""


# A named tuple: the decorator `dataclass` would delay each start noticeably.
class JournaldConnection(NamedTuple):
    """What one process leaves to the next: its socket, connected to journald, and its stream."""

    socket: socket.socket
    stream: JournaldStream | None = None


KeepSocket: TypeAlias = Callable[[socket.socket], None]


def _forget(_kept: object) -> None:
    return


class JournaldSocket(DatagramSocket):
    """Follows what journald stores; the watch has records put again that journald may have lost.

    `stored` is what the process before has left. `keep_socket` and `keep_stream` keep the socket
    and the watch's stream for the next process.
    """

    confirms = True

    def __init__(
        self,
        path: str,
        storing: Storing,
        log: Log,
        stored: JournaldConnection | None = None,
        keep_socket: KeepSocket = _forget,
        keep_stream: KeepStream = _forget,
    ) -> None:
        connected, self._stream = _continued(stored, path, log) if stored else (None, None)
        self._kept = connected is not None
        self._keep_socket = keep_socket
        self._storing = storing
        self._log = log
        self._unconfirmed = Unconfirmed(log)
        self._keep_stream = keep_stream
        self._watch: JournaldWatch | None = None
        if log.found is Found.SAME_BOOT and log.sent < log.appended:
            # The process before has crashed, perhaps while it was sending this record.
            self._unconfirmed.lost.append(log.sent)
        super().__init__(path, connected)

    @property
    def journald(self) -> str:
        """The name of the journald that has our socket; empty if it is unknown."""
        return self._storing.journald

    @property
    def unit(self) -> str:
        """The name of ackd's unit; empty if there is none, or if it is uncertain."""
        return self._storing.unit

    def connect(self) -> bool:
        """Connect anew, and return whether journald's sockets are there.

        The earlier queue is gone: its records are put again.
        """
        if self._watch:
            self._watch.repeat()
        return super().connect()

    def put(self, datagram: bytes) -> bool:
        """Return whether the queue has taken the datagram. Never blocks."""
        if not super().put(datagram):
            return False
        self._unconfirmed.append(self._log.sent, len(datagram))
        return True

    @property
    def note_sent(self) -> Callable[[SentRecord], object]:
        """What notes that a record was sent."""
        return self._unconfirmed.queue.append

    def marked(self, record: bytes) -> bytes:
        """Return the record with a mark: it may be in the journal twice."""
        return _REPEATED + record

    def put_lost(self) -> bool:
        """Put again, marked, what journald may have lost; return whether nothing of it is left."""
        if self.holds:
            return False
        lost, log = self._unconfirmed.lost, self._log
        if not lost:
            return True
        reader = log.reader(lost[0])
        while lost and (record := reader.peek(lost[-1] + 1)) is not None:
            while lost and lost[0] < reader.number:
                lost.popleft()  # the log has a gap
            if lost and lost[0] == reader.number:
                datagram = self.marked(record)
                if not super().put(datagram):
                    return False
                self._unconfirmed.append(lost.popleft(), len(datagram))
                log.set_sent(max(reader.number + 1, log.sent))
            reader.advance()
        lost.clear()
        return True

    def put_mark(self) -> bool:
        """Return whether the queue has taken a mark: when it is read, so is all before it."""
        taken = super().put(_MARK)
        if taken:
            self._unconfirmed.append_mark()
        return taken

    def inspect(self, starting: bool = False) -> None:
        """Find out whether journald stores payloads, or whether a `starting` journald will."""
        if starting:
            self._storing.look_at_new()
        else:
            self._storing.look()
        self.obstacle = self._storing.obstacle

    def watch(self, loop: Loop, recorder: Recorder) -> None:
        """Watch in the loop whether journald ends; have put again what it may have lost.

        From now on the next process gets the socket, which counts what journald has not read.
        """
        if not self._kept:
            self._keep_socket(self._socket)
        watch = JournaldWatch(
            loop, recorder, self, self._unconfirmed, self.inspect, self._stream, self._keep_stream
        )
        self._watch = watch
        recorder.look = watch.look

    def settle(self) -> None:
        """Put a mark behind the last record, unless one is there."""
        if not self._unconfirmed.marked:
            self.put_mark()

    def close(self) -> None:
        """Close the socket and the watch."""
        if self._watch:
            self._watch.close()
        super().close()


def _continued(
    stored: JournaldConnection, path: str, log: Log
) -> tuple[socket.socket | None, JournaldStream | None]:
    """Return the stored socket and stream, unless they are those of another journald.

    With LogNamespace=, the same path leads to another journald. The earlier journald has a
    moment to read the last records; otherwise the new one gets them as well.
    """
    if _same_peer(stored.socket, path):
        return stored.socket, stored.stream
    stream = stored.stream
    if stream and stream.accepted and _reads_all(stored.socket) and _is_open(stream.socket):
        log.set_read(log.sent)
    if stream:
        stream.socket.close()
    stored.socket.close()
    return None, None


def _same_peer(connected: socket.socket, path: str) -> bool:
    """Return whether the socket is connected to the journald whose socket is at `path` now.

    Without an answer it counts as the same one: if it is not there, the next record shows that.
    """
    with new_socket() as other, suppress(OSError):
        other.connect(path)
        return bool(connected.getpeername() == other.getpeername())
    return True


def _reads_all(connected: socket.socket) -> bool:
    """Return whether journald reads all that is in the queue in a moment.

    With the smallest buffer the socket is writable while at most one datagram is unread
    (unix_writable, net/unix/af_unix.c). So if it is writable after two marks, journald has read the
    first of them.
    """
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 0)
    writable = select.poll()
    writable.register(connected, select.POLLOUT)
    end = monotonic() + _LAST_RECORDS
    marks = 0
    while writable.poll(max(0.0, end - monotonic()) * 1000):
        if marks == 2:
            return True
        try:
            connected.send(_MARK)
            marks += 1
        except BlockingIOError:  # another process has filled the queue
            pass
        except OSError:
            return False
    return False


def _is_open(stream: socket.socket) -> bool:
    poll = select.poll()
    poll.register(stream, 0)  # the end is always reported: poll(2)
    return not poll.poll(0)
