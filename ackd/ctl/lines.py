"""Payloads to be sent: the words of a command line, or lines from a descriptor as they come."""

import os
from collections import deque
from collections.abc import Iterable

_CHUNK = 65536
# No ackd takes a line half as long; without a bound one without end would fill the memory.
_LONGEST = 262144


class Lines:
    """Payloads that are there (`pending`), and the descriptor that more may come from.

    Lines end in LF or CR LF, as on the wire; a last one without its end counts as well. `problem`
    tells what kept the rest from being read.
    """

    def __init__(self, payloads: Iterable[bytes] = (), descriptor: int = -1) -> None:
        self.pending = deque(payloads)
        self.problem = ""
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
        """Read once; an error is the end, and `problem` tells it."""
        try:
            self._take(os.read(self._descriptor, _CHUNK))
        except BlockingIOError:
            pass  # somebody else reads there as well, and was faster
        except OSError as error:
            self._end(f"the input can't be read: {error.strerror}")

    def _take(self, data: bytes) -> None:
        if not data:
            self._end()
            data = b"\n" if self._rest else b""
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._count += len(lines)
        self.pending += (line[:-1] if line.endswith(b"\r") else line for line in lines)
        if len(self._rest) > _LONGEST:
            self._end(f"line {self._count + 1} is longer than {_LONGEST} bytes: no ackd takes it")

    def _end(self, problem: str = "") -> None:
        self._descriptor = -1
        self.problem = problem
