"""Whole numbers in a set that is small where they lie close together."""

from bisect import bisect_right
from collections.abc import Iterator


class Ranges:
    """A set of numbers; a million that come in order take no more room than one."""

    def __init__(self) -> None:
        # Where a range begins and where it has ended, in turns.
        self._bounds: list[int] = []

    def __bool__(self) -> bool:
        return bool(self._bounds)

    def __len__(self) -> int:
        return sum(self._bounds[1::2]) - sum(self._bounds[::2])

    def __iter__(self) -> Iterator[tuple[int, int]]:
        """Yield the first and the last number of each range."""
        for first, end in zip(self._bounds[::2], self._bounds[1::2], strict=True):
            yield first, end - 1

    @property
    def highest(self) -> int:
        """The highest number; 0 if there is none."""
        return self._bounds[-1] - 1 if self._bounds else 0

    def add(self, number: int) -> bool:
        """Put a number in; return whether it was not there."""
        at = bisect_right(self._bounds, number)
        if at % 2:  # behind the beginning of a range, and before its end
            return False
        joins = at > 0 and self._bounds[at - 1] == number
        meets = at < len(self._bounds) and self._bounds[at] == number + 1
        bounds = [*([] if joins else [number]), *([] if meets else [number + 1])]
        self._bounds[at - joins : at + meets] = bounds
        return True

    def gaps(self, first: int, last: int) -> "Ranges":
        """Return those that are not there, from `first` to `last`."""
        gaps = Ranges()
        begins = first
        for low, high in self:
            gaps._append(begins, min(low - 1, last))
            begins = max(begins, high + 1)
        gaps._append(begins, last)
        return gaps

    def _append(self, first: int, last: int) -> None:
        if first <= last:
            self._bounds += (first, last + 1)
