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
    an object, inf if it has no entry; other entries are dropped when they expire. They do not hold
    the object: a connection that is closed may have much memory.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int]] = []  # times and identities
        self._watched: dict[int, TimedT] = {}  # by identity

    def watch(self, timed: TimedT) -> None:
        """Report `timed` at its deadline; call this whenever the deadline has become earlier."""
        if timed.deadline >= timed.scheduled:
            return
        self._watched[id(timed)] = timed
        timed.scheduled = timed.deadline
        heapq.heappush(self._heap, (timed.deadline, id(timed)))
        self._drop_stale()

    def forget(self, timed: TimedT) -> None:
        """Do not report `timed` any more."""
        self._watched.pop(id(timed), None)
        timed.scheduled = inf

    def next(self) -> float:
        """Return the time of the earliest entry, valid or not; inf if there is none."""
        return self._heap[0][0] if self._heap else inf

    def expired(self, now: float) -> list[TimedT]:
        """Return the objects whose deadline has passed; the caller watches them again if needed."""
        expired = []
        while self._heap and self._heap[0][0] <= now:
            entry = heapq.heappop(self._heap)
            if (timed := self._valid(entry)) is not None:
                self.forget(timed)
                if timed.deadline <= now:
                    expired.append(timed)
                else:
                    self.watch(timed)
        return expired

    def _drop_stale(self) -> None:
        """Bound the heap: each closed connection leaves an entry behind."""
        if len(self._heap) > 64 + 2 * len(self._watched):
            self._heap = [entry for entry in self._heap if self._valid(entry) is not None]
            heapq.heapify(self._heap)

    def _valid(self, entry: tuple[float, int]) -> TimedT | None:
        """Return the object of an entry; None if the entry is not valid any more."""
        when, identity = entry
        timed = self._watched.get(identity)
        return timed if timed is not None and timed.scheduled == when else None
