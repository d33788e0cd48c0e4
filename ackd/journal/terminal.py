"""Records on the standard output, for trials and for containers without a journal."""

import contextlib
import os
import stat
import sys
from datetime import datetime

from ackd.journal.lines import LineFormat
from ackd.journal.recorder import Sink
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


class Stream(Sink):
    """The standard output, written without ever waiting for its reader.

    A line that was written in part counts as taken; its rest is written before the next line.
    """

    capacity = sys.maxsize

    def __init__(self, descriptor: int) -> None:
        self.reachable = True
        self.why = ""
        self._rest = b""
        self._descriptor = _open_again(descriptor)

    def connect(self) -> bool:
        """Return whether the stream can still be written; after an error it never can."""
        return self.reachable

    def put(self, line: bytes) -> bool:
        """Return whether the line was taken. Never blocks."""
        if self._rest and not self._write(self._rest):
            return False
        return not self._rest and self._write(line)

    def fileno(self) -> int:
        """Return the descriptor to be watched for writability."""
        return self._descriptor

    def close(self) -> None:
        """Close the descriptor."""
        os.close(self._descriptor)

    def _write(self, data: bytes) -> bool:
        try:
            self._rest = data[os.write(self._descriptor, data) :]
        except BlockingIOError:
            return False
        except OSError as error:
            self.reachable, self.why = False, f"standard output: {error.strerror}"
            return False
        return True


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
