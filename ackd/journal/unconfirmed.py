"""The latest records that were sent to journald, until journald has certainly stored them.

journald takes one datagram after the other from its socket's queue and writes it into a file that
outlives journald. A journald that is killed in between loses the record that it is processing. If
its socket is stopped as well, the records in the queue are lost, too.
"""

import sys
from collections import deque
from collections.abc import Iterator
from itertools import islice
from operator import itemgetter

from ackd.journal.datagram import charge
from ackd.log.log import Log

# Bytes of unconfirmed records from which on those that are confirmed are looked for. After a crash
# of ackd and of journald all of these are recorded again.
_LOOK_AT = 256 * 1024
# In the place of a number, and greater than each: a mark, which is no record.
_MARK = sys.maxsize
_number, _bytes = itemgetter(0), itemgetter(1)


class Unconfirmed:
    """Knows which records of the log may be lost when journald has ended; moves the cursor `read`.

    A record is stored when the same journald has read a later one. If no later record comes, the
    watch sends a mark: an empty datagram, which journald ignores.

    `queue` has the number and the size of each record and mark that is not confirmed, in order as
    sent; `lost` has the numbers of the records that must be sent again, in order.

    The records that the process before has sent, and that were not confirmed then, are confirmed
    together, once all of them have been read: nobody knows which marks and repeated records are
    in the queue between them, or whether the last one is in the queue at all.
    """

    def __init__(self, log: Log) -> None:
        self.lost: deque[int] = deque()
        self._log = log
        self.queue: deque[tuple[int, int]] = deque()
        self._dropped = 0
        # Bytes of the records that had been sent at the last look, and not confirmed long before.
        self._size = self._earlier_size = sum(map(len, log.records(log.read, log.sent)))
        self._look_at = _LOOK_AT
        # (entries sent, bytes unread): when journald was certainly alive after, and now.
        self._proven = self._latest = (0, 0)
        self._earlier = range(log.read, log.sent)
        if self._earlier:
            self.queue.append((log.read, 0))

    @property
    def sent(self) -> int:
        """How many records and marks have been sent from the start."""
        return self._dropped + len(self.queue)

    @property
    def size(self) -> int:
        """The bytes of the records that have been sent and are not confirmed."""
        size: int = sum(map(_bytes, self.queue))
        return size if self._dropped else size + self._earlier_size

    @property
    def marked(self) -> bool:
        """Whether a mark is the last that was sent, or none is needed."""
        return not self.queue or self.queue[-1][0] == _MARK

    def numbers(self) -> Iterator[int]:
        """Return the numbers of the records that have been sent and are not confirmed."""
        return self._numbers(0, self.sent)

    def append(self, number: int, size: int) -> None:
        """Note that the queue has taken the record with this number, as a datagram of `size`."""
        self.queue.append((number, size))

    def append_mark(self) -> None:
        """Note that the queue has taken a mark."""
        self.queue.append((_MARK, 0))

    def look(self, unread: int) -> None:
        """Note the bytes that are unread; journald must have been alive since the last call."""
        self._proven, self._latest = self._latest, (self.sent, unread)
        new = islice(reversed(self.queue), self.sent - self._proven[0])
        self._size += sum(map(_bytes, new))
        if not unread and self._proven == self._latest and self.marked:
            self._confirm(self.sent)
        elif self._size > self._look_at or self._log.full:
            self.confirm()
            self._size = self.size
            self._look_at = max(_LOOK_AT, 2 * self._size)

    def confirm(self) -> None:
        """Forget the records that are confirmed; `look` does so only from time to time."""
        self._confirm(self._read(self._proven) - 1)

    def lose(self, unread: int) -> int:
        """Add to `lost` what is lost or may be, now that journald has ended; return how many.

        These are the records that were read since journald was certainly alive, and the one that
        it may have had in hand before. If the queue has gone as well, nothing is unread, so these
        are the records in the queue, too.
        """
        first, end = self._read(self._proven) - 1, self._read((self.sent, unread))
        if not self._dropped and self._earlier:
            first, end = 0, max(end, 1)
        numbers = set(self._numbers(first, end))
        self.lost = deque(sorted(numbers.union(self.lost)))
        self._confirm(end)
        self._proven = self._latest = (self.sent, unread)
        return len(numbers)

    def _read(self, sample: tuple[int, int]) -> int:
        """Return how many of all entries had been read when the sample was taken.

        That the records of the process before are read is certain only if nothing else is unread:
        so they count as one entry of the smallest size.
        """
        sent, unread = sample
        read = sent
        for _, size in islice(reversed(self.queue), self.sent - sent, None):
            unread -= charge(size)
            if unread < 0:
                break
            read -= 1
        return read

    def _confirm(self, end: int) -> None:
        """Forget the entries before number `end`, counted from 0; only `lost` still has them."""
        if end <= self._dropped:
            return
        for _ in range(end - self._dropped):
            self.queue.popleft()
        self._dropped = end
        self._log.set_read(min([*map(_number, self.queue), *self.lost, self._log.sent]))

    def _numbers(self, first: int, end: int) -> Iterator[int]:
        """Yield the numbers of the records in the entries from `first` to the one before `end`."""
        if first <= self._dropped == 0:
            yield from self._earlier
        entries = islice(self.queue, max(0, first - self._dropped), end - self._dropped)
        yield from (number for number, _ in entries if number != _MARK)
