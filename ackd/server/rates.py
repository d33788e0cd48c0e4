"""How much happens each second: from samples of the counters."""

from collections import deque
from typing import TYPE_CHECKING

from ackd.server.counters import Counters

if TYPE_CHECKING:
    from ackd.status import Rates

# Seconds between two samples, at least, and how many are kept.
_INTERVAL, _KEPT = 1.0, 6
_Sample = tuple[float, int, int, int, int]


class RateSamples:
    """Takes a sample of the counters each second, as long as the loop has something to do.

    A sample is due at `next`, a time of time.monotonic(). There is no timer: it would wake an idle
    ackd up, whose counters do not change.
    """

    def __init__(self, counters: Counters) -> None:
        self.next = 0.0
        self._counters = counters
        self._samples: deque[_Sample] = deque(maxlen=_KEPT)

    def take(self, now: float) -> None:
        """Take a sample."""
        self._samples.append(self._sample(now))
        self.next = now + _INTERVAL

    def report(self, now: float) -> "Rates":
        """Return the rates of the last seconds; if nothing has happened in these, of longer."""
        from ackd.status import Rates  # here: most ackds are never asked

        recent = [sample for sample in self._samples if sample[0] >= now - _KEPT * _INTERVAL]
        begin = next(iter(recent or list(self._samples)[-1:]), None)
        if not begin or now <= begin[0]:
            return Rates()
        seconds = now - begin[0]
        differences = zip(self._sample(now)[1:], begin[1:], strict=True)
        return Rates(seconds, *((after - before) / seconds for after, before in differences))

    def _sample(self, now: float) -> _Sample:
        counters = self._counters
        return (
            now,
            counters.acknowledged,
            counters.refused,
            counters.received,
            counters.connections,
        )
