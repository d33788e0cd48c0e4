"""Which deadlines have passed, and when the next one will."""

import heapq
from math import inf
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Anything with a deadline, in seconds of time.monotonic(); inf is never."""

    scheduled: float

    @property
    def deadline(self) -> float:
        """When something must be done about it."""


TimedT = TypeVar("TimedT", bound=Timed)


class Deadlines(Generic[TimedT]):
    """A lazily updated heap of deadlines.

    Traffic only moves an object's own `deadline` to a later time, which costs no heap operation:
    an entry of the heap that comes up too early is then pushed again. `scheduled` is the time of
    the one valid entry of an object, inf without one; other entries are dropped as they come up.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimedT]] = []
        self._live = 0

    def watch(self, timed: TimedT) -> None:
        """Report `timed` at its deadline; must be called whenever that has become earlier."""
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
        """Return all whose deadline has passed; those that live on must be watched again."""
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
        """Bound the heap: each client that comes and goes leaves an entry behind."""
        if len(self._heap) > 64 + 2 * self._live:
            self._heap = [entry for entry in self._heap if entry[2].scheduled == entry[0]]
            heapq.heapify(self._heap)
