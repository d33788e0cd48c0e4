"""A set of whole numbers that is small where the numbers lie close together."""

from bisect import bisect_right
from collections.abc import Iterator


class Ranges:
    """A set of numbers as a sorted list of ranges: a million consecutive numbers are one range."""

    def __init__(self) -> None:
        # The first number of a range, then the first number after that range, and so on.
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
        """The highest number; 0 if there are none."""
        return self._bounds[-1] - 1 if self._bounds else 0

    def add(self, number: int) -> bool:
        """Add a number; return whether it is new."""
        at = bisect_right(self._bounds, number)
        if at % 2:  # after the first number of a range, and before its end
            return False
        extends_left = at > 0 and self._bounds[at - 1] == number
        extends_right = at < len(self._bounds) and self._bounds[at] == number + 1
        bounds = [*([] if extends_left else [number]), *([] if extends_right else [number + 1])]
        self._bounds[at - extends_left : at + extends_right] = bounds
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

    def _append(self, first: int, last: int) -> None:
        if first <= last:
            self._bounds += (first, last + 1)
