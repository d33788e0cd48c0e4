"""Records on a terminal, for trying things out and for containers without a journal."""

import contextlib
import os
import stat
import sys
from collections.abc import Iterator
from datetime import datetime

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


class TerminalFormat:
    """Writes records as readable lines: time, peer, what happened; payloads escaped."""

    def __init__(self, colour: bool) -> None:
        self._colour = colour

    def origin(self, origin: Origin) -> bytes:
        """Return the words that stand before each line of one connection."""
        return f"{origin.peer} port {origin.peer_port}".encode()

    def payload(self, origin: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the line of one payload."""
        text = f"Buffer: {self._painted(_BOLD, printable(payload))}"
        return self._line(f"{origin.decode()} #{sequence}", text)

    def batches(
        self, origin: bytes, sequence: int, payloads: list[bytes], _room: int
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the line of each payload: a line has one."""
        for number, payload in enumerate(payloads, sequence):
            yield 1, self.payload(origin, number, payload)

    def longest(self, payload: int) -> int:
        """Return the bytes that the record of a payload of so many bytes has at most."""
        return 4 * payload + 1024  # a byte that isn't text becomes four: \x00

    def record(self, record: Record) -> bytes:
        """Return the line of any other record."""
        who = self.origin(record.origin).decode() if record.origin else "ackd"
        text = printable(record.text)
        return self._line(who, self._painted(_COLOURS[record.priority], text))

    def _line(self, who: str, text: str) -> bytes:
        now = datetime.now().strftime("%H:%M:%S.%f")[:-3]
        return f"{self._painted(_DIM, now)} {who}: {text}\n".encode()

    def _painted(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self._colour and colour else text


class Stream:
    """The standard output, written without ever waiting for whoever reads it.

    A line of which only a part went out counts as taken; its rest goes out before the next.
    """

    capacity = sys.maxsize

    def __init__(self, descriptor: int) -> None:
        self.reachable = True
        self.why = ""
        self._rest = b""
        self._descriptor = _opened_anew(descriptor)

    def connect(self) -> bool:
        """Say whether the stream can still be written; one that has failed stays so."""
        return self.reachable

    def put(self, line: bytes) -> bool:
        """Say whether the line was taken. Never blocks."""
        if self._rest and not self._write(self._rest):
            return False
        return not self._rest and self._write(line)

    def doubtful(self) -> list[bytes]:
        """Return what has been taken and may be lost: nothing."""
        return []

    def fileno(self) -> int:
        """Return the descriptor to be watched for writability."""
        return self._descriptor

    def close(self) -> None:
        """Give the descriptor back."""
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


def _opened_anew(descriptor: int) -> int:
    """Open the same terminal or pipe once more, non-blocking.

    O_NONBLOCK belongs to the open file, not to the descriptor (open(2)): set on the one that we
    were given it would change the shell's as well. A socket can't be opened so, and is set. A file
    never blocks; and what else can't be opened, another user's terminal say, stays as it is.
    """
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISFIFO(kind) or stat.S_ISCHR(kind):
        with contextlib.suppress(OSError):
            flags = os.O_WRONLY | os.O_NONBLOCK | os.O_NOCTTY
            return os.open(f"/proc/self/fd/{descriptor}", flags)
    own = os.dup(descriptor)
    os.set_blocking(own, not stat.S_ISSOCK(kind))
    return own
