"""A set of whole numbers that is small where the numbers lie close together."""

from bisect import bisect_right
from collections.abc import Iterator

# So many numbers are kept apart from the ranges, and more if there are many ranges.
_FEW = 16


class Ranges:
    """A set of numbers as a sorted list of ranges: a million consecutive numbers are one range.

    A number that does not continue the last range is first kept apart, and merged into the ranges
    together with others: to move all later ranges for each number would take quadratic time.
    """

    def __init__(self) -> None:
        # The first number of a range, then the first number after that range, and so on.
        self._bounds: list[int] = []
        self._apart: set[int] = set()

    def __bool__(self) -> bool:
        return bool(self._bounds or self._apart)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last number of each range."""
        self._merge()
        for first, end in zip(self._bounds[::2], self._bounds[1::2], strict=True):
            yield first, end - 1

    @property
    def count(self) -> int:
        """How many numbers there are. There is no `len`: `list` would reserve memory for it."""
        return sum(self._bounds[1::2]) - sum(self._bounds[::2]) + len(self._apart)

    @property
    def highest(self) -> int:
        """The highest number; 0 if there are none."""
        self._merge()
        return self._bounds[-1] - 1 if self._bounds else 0

    def add(self, number: int) -> bool:
        """Add a number; return whether it is new."""
        if number in self._apart:
            return False
        bounds = self._bounds
        if bounds and bounds[-1] == number:  # usually
            bounds[-1] += 1
            return True
        # An odd place is after the first number of a range, and before its end.
        if bisect_right(bounds, number) % 2:
            return False
        self._apart.add(number)
        if len(self._apart) > _FEW + len(bounds):
            self._merge()
        return True

    def gaps(self, first: int, last: int) -> "Ranges":
        """Return the numbers from `first` to `last` that are not in the set."""
        gaps = Ranges()
        begin = first
        for low, high in self:
            gaps._append(begin, min(low - 1, last))
            begin = max(begin, high + 1)
        gaps._append(begin, last)
        return gaps

    def beyond(self, limit: int) -> "Ranges":
        """Return the numbers of the set that are higher than `limit`."""
        beyond = Ranges()
        for low, high in self:
            beyond._append(max(low, limit + 1), high)
        return beyond

    def _append(self, first: int, last: int) -> None:
        if first <= last:
            self._bounds += (first, last + 1)

    def _merge(self) -> None:
        """Make ranges of the numbers that are kept apart."""
        if self._apart:
            # Each of these numbers is a range of its own. Where two ranges touch, the end of one is
            # the beginning of the other: this bound is there twice, and is none of the result.
            ends = {number + 1 for number in self._apart}
            self._bounds = sorted(set(self._bounds) ^ self._apart ^ ends)
            self._apart.clear()
