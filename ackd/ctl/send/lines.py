"""Payloads to be sent: the words of a command line, or lines from a descriptor as they come."""

import os
from collections import deque
from collections.abc import Iterable

_CHUNK = 65536
# No ackd takes a line half as long; without a bound one without end would fill the memory.
_LONGEST = 262144
# Bytes of payloads without a reply, which are kept to be sent again.
_FULL = 1 << 26


class Lines:
    """Payloads that wait (`pending`), those without a reply, and where more may come from.

    Lines end in LF or CR LF, as on the wire; a last one without its end counts as well. `problem`
    tells what kept the rest from being read. `again` is how many were sent more than once.
    """

    def __init__(self, payloads: Iterable[bytes] = (), descriptor: int = -1) -> None:
        self.pending = deque(payloads)
        self.problem = ""
        self.again = 0
        self.descriptor = descriptor
        self._rest = b""
        self._count = 0
        self._sent: deque[bytes] = deque()
        self._held = 0  # bytes in `_sent`
        self._doubtful = 0  # of those sent and then of those that wait, the first: sent before

    @property
    def source(self) -> int:
        """The descriptor to be watched: -1 when there is nothing to wait for."""
        return -1 if self.pending else self.descriptor

    @property
    def ended(self) -> bool:
        """Whether no further payload will come."""
        return not self.pending and self.descriptor < 0

    @property
    def full(self) -> bool:
        """Whether to wait for replies before more is taken."""
        return self._held >= _FULL

    @property
    def unknown(self) -> int:
        """How many payloads were sent, now or before, and have no reply."""
        return max(self._doubtful, len(self._sent))

    @property
    def unsent(self) -> int:
        """How many payloads have been read and never been sent."""
        return len(self._sent) + len(self.pending) - self.unknown

    def take(self) -> bytes:
        """Return the next payload, which is sent now."""
        payload = self.pending.popleft()
        self.again += len(self._sent) < self._doubtful
        self._sent.append(payload)
        self._held += len(payload)
        return payload

    def replied(self) -> None:
        """Note that the oldest payload without a reply has one."""
        self._held -= len(self._sent.popleft())
        self._doubtful = max(0, self._doubtful - 1)

    def put_back(self, doubtful: bool) -> None:
        """Let what has no reply wait again; it may be recorded unless it is not `doubtful`."""
        if doubtful:
            self._doubtful = self.unknown
        self.pending.extendleft(reversed(self._sent))
        self._sent.clear()
        self._held = 0

    def read(self) -> None:
        """Read once; an error is the end, and `problem` tells it."""
        try:
            self._take(os.read(self.descriptor, _CHUNK))
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
        self.descriptor = -1
        self.problem = problem
