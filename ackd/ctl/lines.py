"""Payloads to be sent: the words of a command line, or lines from a descriptor as they come."""

import os
from collections import deque
from collections.abc import Iterable

_CHUNK = 65536
# No ackd takes a line half as long; without a bound one without end would fill the memory.
_LONGEST = 262144


class TooLongError(Exception):
    """A line that no server takes; the text says which."""


class Lines:
    """Payloads that are there (`pending`), and the descriptor that more may come from.

    Lines end in LF or CR LF, as on the wire; a last one without its end counts as well.
    """

    def __init__(self, payloads: Iterable[bytes] = (), descriptor: int = -1) -> None:
        self.pending = deque(payloads)
        self._descriptor = descriptor
        self._rest = b""
        self._count = 0

    @property
    def source(self) -> int:
        """The descriptor to be watched: -1 when there is nothing to wait for."""
        return -1 if self.pending else self._descriptor

    @property
    def ended(self) -> bool:
        """Whether no further payload will come."""
        return not self.pending and self._descriptor < 0

    def read(self) -> None:
        """Read once; raises TooLongError."""
        data = os.read(self._descriptor, _CHUNK)
        if not data:
            self._descriptor = -1
            data = b"\n" if self._rest else b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._count += len(lines)
        if len(self._rest) > _LONGEST:
            raise TooLongError(f"line {self._count + 1} is longer than {_LONGEST} bytes")
        self.pending += (line[:-1] if line.endswith(b"\r") else line for line in lines)
