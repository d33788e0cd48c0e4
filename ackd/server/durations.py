"""How long something took since the start, and how long of late."""

from time import monotonic
from typing import TYPE_CHECKING

from ackd.latency import LONGEST, Latencies

if TYPE_CHECKING:
    from ackd.status import Durations

# Seconds: the percentiles are about the last one or two of these, so that they show the present.
_WINDOW = 300.0
# No percentile is more than a sixteenth too high; see Latencies.
_BITS = 5


class RecentDurations:
    """Counts durations, and knows the percentiles of those of late.

    All times are of time.monotonic(), all durations in seconds.
    """

    def __init__(self) -> None:
        self._count = 0
        self._sum = 0.0
        self._since = self._window_began = monotonic()
        self._current = Latencies(_BITS)
        self._before = Latencies(_BITS)  # those of the window before

    def add(self, seconds: float, now: float) -> None:
        """Count a duration that has ended `now`."""
        if now >= self._window_began + _WINDOW:
            self._begin_window(now)
        self._count += 1
        self._sum += seconds
        self._current.add(min(int(seconds * 1e9), LONGEST))

    def report(self, now: float) -> "Durations":
        """Return the counts and the percentiles."""
        from ackd.status import Durations  # here: most ackds are never asked

        if now >= self._window_began + _WINDOW:
            self._begin_window(now)
        late = Latencies(_BITS)
        for window in (self._before, self._current):
            late.add_all(window)
        if not late.count:
            return Durations(self._count, self._sum, now - self._since)
        percentiles = (late.quantile(permille) / 1e9 for permille in (500, 950, 990, 1000))
        return Durations(self._count, self._sum, now - self._since, late.count, *percentiles)

    def _begin_window(self, now: float) -> None:
        """Begin a window; the one before is kept, unless it has ended long ago."""
        stale = now >= self._window_began + 2 * _WINDOW
        self._before = Latencies(_BITS) if stale else self._current
        self._since = now - _WINDOW if stale else self._window_began
        self._current = Latencies(_BITS)
        self._window_began = now
