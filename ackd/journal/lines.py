"""Records as lines of text, for terminals and syslog daemons."""

from abc import ABC, abstractmethod
from collections.abc import Iterator


class LineFormat(ABC):
    """A format in which each payload has its own line; bytes that are not text are escaped."""

    def unterminated(self, prefix: bytes) -> bytes:
        """Return the words before a last line that the client's close has ended, not LF."""
        return prefix + b" unterminated"

    @abstractmethod
    def payload(self, prefix: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the line of one payload."""

    def payloads(self, prefix: bytes, sequence: int, payloads: list[bytes]) -> Iterator[bytes]:
        """Yield the line of each payload; the first is number `sequence`."""
        for number, payload in enumerate(payloads, sequence):
            yield self.payload(prefix, number, payload)

    def batches(
        self, prefix: bytes, sequence: int, payloads: list[bytes], _room: int
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the line of each payload, and the number 1."""
        for line in self.payloads(prefix, sequence, payloads):
            yield 1, line

    def longest(self, payload: int) -> int:
        """Return the most bytes that the line of a payload of `payload` bytes can have."""
        return 4 * payload + 1024  # a byte that is not text becomes four bytes: \x00
