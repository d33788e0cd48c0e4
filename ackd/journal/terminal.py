"""Records on the standard output, for trials and for containers without a journal."""

import contextlib
import errno
import os
import select
import stat
import sys
from datetime import datetime
from time import monotonic

from ackd.journal.lines import LineFormat
from ackd.journal.recorder import Recorder, Sink
from ackd.loop import READABLE, Loop
from ackd.printable import printable
from ackd.records import Origin, Priority, Record

_BOLD, _DIM, _YELLOW, _RED, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[33m", "\x1b[31m", "\x1b[0m"
_COLOURS = {
    Priority.CRITICAL: _RED,
    Priority.ERROR: _RED,
    Priority.WARNING: _YELLOW,
    Priority.INFO: "",
    Priority.DEBUG: _DIM,
}


class TerminalFormat(LineFormat):
    """Writes records as readable lines: the time, the peer, and what happened."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def prefix(self, origin: Origin) -> bytes:
        """Return the words before each line of one connection."""
        return f"{origin.peer} port {origin.peer_port}".encode()

    def payload(self, prefix: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the line of one payload."""
        text = f"Buffer: {self._painted(_BOLD, printable(payload))}"
        return self._line(f"{prefix.decode()} #{sequence}", text)

    def record(self, record: Record) -> bytes:
        """Return the line of any other record."""
        source = self.prefix(record.origin).decode() if record.origin else "ackd"
        text = printable(record.text)
        return self._line(source, self._painted(_COLOURS[record.priority], text))

    def _line(self, source: str, text: str) -> bytes:
        now = datetime.now().strftime("%H:%M:%S.%f")[:-3]
        return f"{self._painted(_DIM, now)} {source}: {text}\n".encode()

    def _painted(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour and colour else text


# Seconds before a file that had no room is tried again.
_PAUSE = 0.2
# Errors after which a file may take lines again: write(2).
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class StandardOutput(Sink):
    """The standard output, written without ever waiting for its reader.

    A pipe, a terminal or a socket takes the rest of a line before the next line, so a line that was
    written in part counts as taken. A file that has no room for the rest does not take it later:
    then the part is removed again, and the line was not taken.
    """

    name = "the standard output"
    capacity = sys.maxsize

    def __init__(self, descriptor: int) -> None:
        self.reachable = True
        self.gone = False
        self.why = ""
        self._next_try = 0.0
        self._rest = b""
        self._descriptor = _open_again(descriptor)
        self._is_file = stat.S_ISREG(os.fstat(self._descriptor).st_mode)
        self._cut = False  # whether a part of a line could not be removed
        # A separate epoll: a selector can't watch for EPOLLHUP alone, epoll_ctl(2).
        self._events: select.epoll | None = None

    def connect(self) -> bool:
        """Return whether a later attempt can succeed: a file may have room again."""
        self.reachable = not self.gone and monotonic() >= self._next_try
        return self.reachable

    def put(self, line: bytes) -> bool:
        """Return whether the line was taken. Never blocks."""
        if self._is_file:
            return self._put_whole(line)
        if self._rest and not self._write(self._rest):
            return False
        return not self._rest and self._write(line)

    def fileno(self) -> int:
        """Return the descriptor to be watched for writability."""
        return self._descriptor

    def watch(self, loop: Loop, _recorder: Recorder) -> None:
        """Notice in the loop that the pipe's reader has ended, or the terminal is closed."""
        events = select.epoll()
        try:
            events.register(self._descriptor, 0)  # EPOLLERR and EPOLLHUP are always reported
        except PermissionError:  # a file, or /dev/null: epoll_ctl(2)
            events.close()
            return
        self._events = events
        loop.watch(events, READABLE, lambda: self._on_hang_up(loop))

    def close(self) -> None:
        """Close the descriptor."""
        if self._events:
            self._events.close()
        os.close(self._descriptor)

    def _on_hang_up(self, loop: Loop) -> None:
        if self._events and self._events.poll(0):
            loop.unwatch(self._events)
            self._lose("it is closed", for_good=True)

    def _write(self, data: bytes) -> bool:
        try:
            self._rest = data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            return False
        except OSError as error:
            return self._lose(str(error.strerror), for_good=error.errno not in _NO_ROOM)
        return True

    def _put_whole(self, line: bytes) -> bool:
        data = b"\n" + line if self._cut else line
        written = 0
        try:
            while written < len(data):
                written += os.write(self._descriptor, data[written:])
        except OSError as error:
            self._cut = not self._removed(written) or self._cut
            return self._lose(str(error.strerror), for_good=error.errno not in _NO_ROOM)
        self._cut = False
        return True

    def _removed(self, count: int) -> bool:
        """Remove the last bytes written; return False if another process has written more."""
        if not count:
            return True
        try:
            end = os.lseek(self._descriptor, 0, os.SEEK_CUR)
            if os.fstat(self._descriptor).st_size != end:
                return False
            os.ftruncate(self._descriptor, end - count)
            os.lseek(self._descriptor, end - count, os.SEEK_SET)
        except OSError:
            return False
        return True

    def _lose(self, why: str, for_good: bool) -> bool:
        if not self.gone:  # the first reason is the right one
            self.reachable, self.gone, self.why = False, for_good, why
            self._next_try = monotonic() + _PAUSE
        return False


def _open_again(descriptor: int) -> int:
    """Open the same terminal or pipe once more, non-blocking.

    O_NONBLOCK belongs to the open file, not to the descriptor (open(2)): set on the descriptor that
    ackd was given, it would change the shell's as well. A socket can't be opened again, so its flag
    is set. A file never blocks. Anything else that can't be opened, such as another user's
    terminal, stays as it is.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    own = os.dup(descriptor)
    os.set_blocking(own, not stat.S_ISSOCK(kind))
    return own
