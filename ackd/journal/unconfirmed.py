"""The records that journald has been sent last, until it has certainly stored them.

journald takes one datagram after the other from its socket's queue and writes it into a file that
outlives it. Killed in between it loses the one that it had in hand: 20 in 30 kills under load.
Stopped together with its socket it loses all that is in the queue then.
"""

from collections import deque
from itertools import islice

from ackd.journal.datagram import charge

# Bytes of records from which on it is looked which of them are needed no longer.
_LOOK_AT = 1024 * 1024


class Tail:
    """Knows which records may be lost when journald has gone.

    A record is stored when a later one has been read by the same journald. So an empty datagram,
    of which journald takes no notice, is put behind the last record when nothing else comes.
    """

    def __init__(self) -> None:
        self.size = 0  # bytes of those that are kept
        self._records: deque[bytes] = deque()
        self._dropped = 0
        self._look_at = _LOOK_AT
        # (records sent, bytes unread) at a time after which journald was alive still, and now.
        self._proven = self._latest = (0, 0)

    @property
    def sent(self) -> int:
        """How many records have been sent from the start."""
        return self._dropped + len(self._records)

    @property
    def settled(self) -> bool:
        """Whether nothing of what has been sent can get lost."""
        return not self._records

    @property
    def marked(self) -> bool:
        """Whether an empty datagram is the last that has been sent."""
        return not (self._records and self._records[-1])

    def append(self, record: bytes) -> None:
        """Keep a record that the queue has taken."""
        self._records.append(record)
        self.size += len(record)

    def look(self, unread: int) -> None:
        """Note that so many bytes are unread; journald must have been alive since the last call."""
        self._proven, self._latest = self._latest, (self.sent, unread)
        if not unread and self._proven == self._latest and self.marked:
            self._drop(self.sent)
        elif self.size > self._look_at:
            self._drop(self._read(self._proven) - 1)
            self._look_at = max(_LOOK_AT, 2 * self.size)

    def doubtful(self, unread: int) -> list[bytes]:
        """Return the records that are lost or may be, now that journald has gone, and forget them.

        Those are what it has read since it was certainly alive, or what was in its queue if that
        has gone as well, and the one that it may have had in hand before.
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
