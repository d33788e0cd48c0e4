"""The payloads to be sent: words of the command line, or lines that are read from a descriptor."""

import codecs
import os
from collections import deque
from collections.abc import Iterable
from time import monotonic
from typing import NamedTuple

_CHUNK = 65536
# No ackd takes a line half as long; a line without an end would fill the memory.
_LONGEST = 262144
# Bytes of payloads without a reply, which are kept so that they can be sent again.
_FULL = 1 << 26


# Byte order marks. Every second byte of ASCII in UTF-16 is NUL, also without a mark.
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)
_MARKED, _SEEN = 4, 64


def _alternates(data: bytes) -> bool:
    """Return whether every second byte is NUL, and no other byte is."""
    even, odd = data[::2], data[1::2]
    return len(data) >= _MARKED and any(
        not any(nul) and all(other) for nul, other in ((even, odd), (odd, even))
    )


class SendPayload(NamedTuple):
    """A payload on its way, and when it was sent, in seconds of time.monotonic()."""

    payload: bytes
    since: float


class Lines:
    """Payloads that wait (`pending`), and a source of more payloads.

    Lines end in LF or CR LF, as on the wire; a last line without an end counts as well. A byte
    order mark before the first line is dropped. `problem` says why the rest of the input was not
    read, and `notes` are other sentences for the user. `again` is how many payloads were sent
    more than once.
    """

    def __init__(self, payloads: Iterable[bytes] = (), descriptor: int = -1) -> None:
        self.pending = deque(payloads)
        self.problem = ""
        self.notes: list[str] = []
        self.again = 0
        self.descriptor = descriptor
        self.read_from_input = descriptor >= 0
        self._begun = False  # whether the first bytes are known
        self._rest = b""
        self._count = 0
        self._in_flight = 0  # payloads that were taken and have no reply
        self._held = 0  # bytes of these payloads
        # Payloads that were sent before: the first of those in flight, then of those that wait.
        self._unconfirmed = 0

    @property
    def source(self) -> int:
        """The descriptor to be watched; -1 if there is none."""
        return -1 if self.pending else self.descriptor

    @property
    def ended(self) -> bool:
        """Whether no further payload will come."""
        return not self.pending and self.descriptor < 0

    @property
    def full(self) -> bool:
        """Whether to wait for replies before more payloads are taken."""
        return self._held >= _FULL

    @property
    def unknown(self) -> int:
        """How many payloads were sent, now or before, and have no reply."""
        return max(self._unconfirmed, self._in_flight)

    @property
    def unsent(self) -> int:
        """How many payloads were read and have never been sent."""
        return self._in_flight + len(self.pending) - self.unknown

    def take(self) -> SendPayload:
        """Return the next payload, which the caller sends now."""
        payload = self.pending.popleft()
        self.again += self._in_flight < self._unconfirmed
        self._in_flight += 1
        self._held += len(payload)
        return SendPayload(payload, monotonic())

    def replied(self, sent: SendPayload) -> None:
        """Take note of the reply to a payload."""
        self._in_flight -= 1
        self._held -= len(sent.payload)
        self._unconfirmed = max(0, self._unconfirmed - 1)

    def put_back(self, sent: Iterable[SendPayload], unconfirmed: bool) -> None:
        """Have payloads without a reply, oldest first, sent again.

        They may have been recorded if they are `unconfirmed`, and have not been otherwise.
        """
        if unconfirmed:
            self._unconfirmed = self.unknown
        self.pending.extendleft(reversed([payload for payload, _ in sent]))
        self._in_flight = self._held = 0

    def read(self) -> None:
        """Read once from the descriptor; an error ends the input and sets `problem`."""
        try:
            self._take(os.read(self.descriptor, _CHUNK))
        except BlockingIOError:
            pass  # another process reads from there, too, and was faster
        except OSError as error:
            self._end(f"the input can't be read: {error.strerror}")

    def _take(self, data: bytes) -> None:
        if not data:
            self._end()
            data = b"\n" if self._rest else b""
        data = self._rest + data
        if not self._begun:
            if len(data) < _MARKED and b"\n" not in data:
                self._rest = data
                return
            data = self._begin(data)
        *lines, self._rest = data.split(b"\n")
        self._count += len(lines)
        self.pending += (line[:-1] if line.endswith(b"\r") else line for line in lines)
        if len(self._rest) > _LONGEST:
            self._end(f"line {self._count + 1} is longer than {_LONGEST} bytes: no ackd takes it")

    def _begin(self, data: bytes) -> bytes:
        """Return the first bytes without a mark of their encoding; UTF-16 ends the input."""
        self._begun = True
        if data.startswith(_WIDE):
            self._end("the input is UTF-16 or UTF-32; `iconv -t UTF-8` makes lines of it")
            return b""
        if _alternates(data[:_SEEN]):
            self.notes.append("the input looks like UTF-16; `iconv -t UTF-8` makes lines of it")
        if data.startswith(codecs.BOM_UTF8):
            self.notes.append("a byte order mark before the first line is not sent")
            return data[len(codecs.BOM_UTF8) :]
        return data

    def _end(self, problem: str = "") -> None:
        self.descriptor = -1
        self.problem = problem
