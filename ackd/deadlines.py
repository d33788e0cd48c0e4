"""Which deadlines have passed, and when the next one will."""

import heapq
from math import inf
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Anything with a deadline, in seconds of time.monotonic(); inf is never."""

    scheduled: float

    @property
    def deadline(self) -> float:
        """When the object must act."""


TimedT = TypeVar("TimedT", bound=Timed)


class Deadlines(Generic[TimedT]):
    """A lazily updated heap of deadlines.

    Traffic only moves an object's own `deadline` to a later time. This needs no heap operation: an
    entry that expires too early is pushed again. `scheduled` is the time of the only valid entry of
    an object, inf if it has no entry; other entries are dropped when they expire.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimedT]] = []
        self._live = 0

    def watch(self, timed: TimedT) -> None:
        """Report `timed` at its deadline; call this whenever the deadline has become earlier."""
        if timed.deadline >= timed.scheduled:
            return
        self._live += timed.scheduled == inf
        timed.scheduled = timed.deadline
        heapq.heappush(self._heap, (timed.deadline, id(timed), timed))
        self._drop_stale()

    def forget(self, timed: TimedT) -> None:
        """Do not report `timed` any more."""
        self._live -= timed.scheduled < inf
        timed.scheduled = inf

    def next(self) -> float:
        """Return the time of the earliest entry, valid or not; inf if there is none."""
        return self._heap[0][0] if self._heap else inf

    def expired(self, now: float) -> list[TimedT]:
        """Return the objects whose deadline has passed; the caller watches them again if needed."""
        expired = []
        while self._heap and self._heap[0][0] <= now:
            when, _, timed = heapq.heappop(self._heap)
            if timed.scheduled == when:
                self.forget(timed)
                if timed.deadline <= now:
                    expired.append(timed)
                else:
                    self.watch(timed)
        return expired

    def _drop_stale(self) -> None:
        """Bound the heap: each closed connection leaves an entry behind."""
        if len(self._heap) > 64 + 2 * self._live:
            self._heap = [entry for entry in self._heap if entry[2].scheduled == entry[0]]
            heapq.heapify(self._heap)
