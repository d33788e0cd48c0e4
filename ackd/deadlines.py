"""When each connection must be looked at although nothing has happened on it."""

import heapq
from math import inf
from typing import Generic, Protocol, TypeVar


class Timed(Protocol):
    """Somebody with a deadline, in seconds of time.monotonic(); inf is never."""

    scheduled: float

    @property
    def deadline(self) -> float:
        """When it must be looked at."""


TimedT = TypeVar("TimedT", bound=Timed)


class Deadlines(Generic[TimedT]):
    """A heap that is put right late.

    Who is heard of only moves its own `deadline` ahead; its entry in the heap, too early then, is
    corrected when it comes up, so traffic costs no heap operation. `scheduled` is the time of the
    one entry of each that counts, inf without one; other entries come up and vanish.
    """

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, TimedT]] = []
        self._live = 0

    def watch(self, timed: TimedT) -> None:
        """Have it come up at its deadline; to be called whenever that has become earlier."""
        if timed.deadline >= timed.scheduled:
            return
        self._live += timed.scheduled == inf
        timed.scheduled = timed.deadline
        heapq.heappush(self._heap, (timed.deadline, id(timed), timed))
        self._drop_stale()

    def forget(self, timed: TimedT) -> None:
        """Let it not come up again."""
        self._live -= timed.scheduled < inf
        timed.scheduled = inf

    def next(self) -> float:
        """Return when the next entry comes up, inf if none will."""
        return self._heap[0][0] if self._heap else inf

    def expired(self, now: float) -> list[TimedT]:
        """Return all whose deadline has passed; each must be watched anew if it lives on."""
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
        """Keep the heap in proportion: clients that come and go leave an entry each behind."""
        if len(self._heap) > 64 + 2 * self._live:
            self._heap = [entry for entry in self._heap if entry[2].scheduled == entry[0]]
            heapq.heapify(self._heap)
