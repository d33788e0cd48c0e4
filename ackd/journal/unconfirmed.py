"""The records that journald has been sent last, until it has certainly stored them.

journald takes one datagram after the other from its socket's queue and writes it into a file that
outlives journald. If it is killed in between, it loses the record that it has in hand. If it is
stopped together with its socket, it loses all that is in the queue as well.
"""

from collections import deque
from itertools import islice

from ackd.journal.datagram import charge

# Bytes of kept records from which on those that are confirmed are looked for.
_LOOK_AT = 1024 * 1024


class Unconfirmed:
    """Knows which records may be lost when journald has ended.

    A record is stored when the same journald has read a later one. If no later record comes, the
    watch sends a mark: an empty datagram, which journald ignores.
    """

    def __init__(self) -> None:
        self.size = 0  # bytes of the records that are kept
        self._records: deque[bytes] = deque()
        self._dropped = 0
        self._look_at = _LOOK_AT
        # (records sent, bytes unread): when journald was certainly alive after, and now.
        self._proven = self._latest = (0, 0)

    @property
    def sent(self) -> int:
        """How many records have been sent from the start."""
        return self._dropped + len(self._records)

    @property
    def empty(self) -> bool:
        """Whether journald has stored everything that was sent."""
        return not self._records

    @property
    def marked(self) -> bool:
        """Whether a mark is the last that was sent, or none is needed."""
        return not (self._records and self._records[-1])

    def append(self, record: bytes) -> None:
        """Keep a record that the queue has taken."""
        self._records.append(record)
        self.size += len(record)

    def look(self, unread: int) -> None:
        """Note the bytes that are unread; journald must have been alive since the last call."""
        self._proven, self._latest = self._latest, (self.sent, unread)
        if not unread and self._proven == self._latest and self.marked:
            self._drop(self.sent)
        elif self.size > self._look_at:
            self._drop(self._read(self._proven) - 1)
            self._look_at = max(_LOOK_AT, 2 * self.size)

    def take(self, unread: int) -> list[bytes]:
        """Return the records that are lost or may be, now that journald has ended; forget them.

        These are the records that were read since journald was certainly alive, and the one that
        it may have had in hand before. If the queue has gone as well, nothing is unread, so these
        are the records in the queue, too.
        """
        start = self._dropped
        first, end = self._read(self._proven) - 1, self._read((self.sent, unread))
        records = list(islice(self._records, max(0, first - start), end - start))
        self._drop(end)
        self._proven = self._latest = (self.sent, unread)
        return [record for record in records if record]

    def _read(self, sample: tuple[int, int]) -> int:
        """Return how many of all records had been read when the sample was taken."""
        sent, unread = sample
        read = sent
        for record in islice(reversed(self._records), self.sent - sent, None):
            unread -= charge(len(record))
            if unread < 0:
                break
            read -= 1
        return read

    def _drop(self, end: int) -> None:
        """Forget the records before number `end`, counted from 0."""
        while self._dropped < end:
            self.size -= len(self._records.popleft())
            self._dropped += 1
