"""How long acks took, in memory that does not grow, and when none came."""

import heapq
from array import array
from dataclasses import dataclass

# As HdrHistogram has it: a bucket for each value below 2,048 and, from there on, 1,024 for each
# power of two. None is wider than a thousandth of what it holds: three significant digits.
_BITS = 11
_HALF = 1 << (_BITS - 1)
_LONGEST = 86_400 * 10**9  # ns: no wait is longer
_BUCKETS = _HALF * (_LONGEST.bit_length() - _BITS + 2)


class Latencies:
    """Times in nanoseconds, a day at most, to three significant digits."""

    def __init__(self) -> None:
        self._buckets = array("Q", bytes(8 * _BUCKETS))
        self._total = 0
        self.count = 0
        self.least = _LONGEST
        self.most = 0

    def add(self, nanoseconds: int) -> None:
        """Count one."""
        self._buckets[_bucket(nanoseconds)] += 1
        self._total += nanoseconds
        self.count += 1
        self.least = min(self.least, nanoseconds)
        self.most = max(self.most, nanoseconds)

    def quantile(self, permille: int) -> int:
        """Return what that part of all, of which there must be one, took at most."""
        rank = max(1, -(-permille * self.count // 1000))
        for index, held in enumerate(self._buckets):
            rank -= held
            if rank <= 0:
                return min(_end(index) - 1, self.most)
        raise ValueError("there is none")

    def figures(self) -> list[tuple[str, float]]:
        """Return the names and values, in seconds, of what is told of all; nothing of none."""
        if not self.count:
            return []
        quantiles = [(f"p{part / 10:g}", self.quantile(part)) for part in (500, 950, 990, 999)]
        told = [("min", self.least), ("mean", self._total / self.count), *quantiles]
        return [(name, ns / 1e9) for name, ns in (*told, ("max", self.most))]

    def steps(self, bounds: list[int]) -> list[tuple[int, int, int]]:
        """Return (from, below, how many) between bounds, all that is empty at the ends left out."""
        counts = [0] * (len(bounds) + 1)
        place = 0
        for index, held in enumerate(self._buckets):
            while place < len(bounds) and _end(index) > bounds[place]:
                place += 1
            counts[place] += held
        full = [place for place, count in enumerate(counts[1:-1]) if count]
        steps = list(zip(bounds, bounds[1:], counts[1:], strict=False))
        return steps[full[0] : full[-1] + 1] if full else []


def _bucket(value: int) -> int:
    shift = max(0, value.bit_length() - _BITS)
    return shift * _HALF + (value >> shift)


def _end(index: int) -> int:
    """Return the least value above those in a bucket."""
    shift = max(0, index // _HALF - 1)
    return (index - shift * _HALF + 1) << shift


# As many outages are told of, the longest; all are counted.
_TOLD = 100


@dataclass(frozen=True, slots=True, order=True)
class Outage:
    """A time without acks, in seconds of time.time(), on so many of the connections.

    `until` is when the next ack came or, where it is not `over`, when nobody waited any more.
    """

    seconds: float
    since: float
    until: float
    connections: int
    over: bool = True


class Outages:
    """When no ack came: from the sending of the first payload that has none to the next ack.

    Those of several connections are one as long as they overlap.
    """

    def __init__(self) -> None:
        self.count = 0
        self._longest: list[Outage] = []
        self._since = 0.0
        self._out: set[int] = set()
        self._affected: set[int] = set()

    def begin(self, connection: int, since: float) -> None:
        """Tell that a payload sent at `since`, or due then, has no ack."""
        self._since = min(self._since, since) if self._out else since
        self._out.add(connection)
        self._affected.add(connection)

    def end(self, connection: int, until: float) -> None:
        """Tell that an ack has come."""
        if connection not in self._out:
            return
        self._out.remove(connection)
        if not self._out:
            self._keep(until, over=True)

    def finish(self, until: float) -> list[Outage]:
        """Return the outages, at most the hundred longest, by their time; the last may go on."""
        if self._out:
            self._out.clear()
            self._keep(until, over=False)
        return sorted(self._longest, key=lambda outage: outage.since)

    def _keep(self, until: float, over: bool) -> None:
        self.count += 1
        seconds = max(0.0, until - self._since)  # the clock may have been set
        outage = Outage(seconds, self._since, until, len(self._affected), over)
        self._affected.clear()
        if len(self._longest) < _TOLD:
            heapq.heappush(self._longest, outage)
        else:
            heapq.heappushpop(self._longest, outage)
