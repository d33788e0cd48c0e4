"""How long acks, waits and commits took, in memory that does not grow."""

from array import array

LONGEST = 86_400 * 10**9  # ns: the longest wait that an option allows


class Latencies:
    """Durations in nanoseconds, a day at most.

    As in HdrHistogram, there is a bucket for each value below 2 ** `bits` and, above that,
    2 ** (`bits` - 1) for each power of two. With 11 bits no bucket is wider than a thousandth of
    its values: three significant digits, in 600 KB. With 5 bits it is a sixteenth, in 6 KB.
    """

    def __init__(self, bits: int = 11) -> None:
        self._bits = bits
        self._half = 1 << (bits - 1)
        self._buckets = array("Q", bytes(8 * self._half * (LONGEST.bit_length() - bits + 2)))
        self._total = 0
        self.count = 0
        self.least = LONGEST
        self.most = 0

    def add(self, nanoseconds: int) -> None:
        """Count a duration."""
        self._buckets[self._bucket(nanoseconds)] += 1
        self._total += nanoseconds
        self.count += 1
        self.least = min(self.least, nanoseconds)
        self.most = max(self.most, nanoseconds)

    def add_all(self, other: "Latencies") -> None:
        """Count the durations of another object, with as many bits, as well."""
        for index, count in enumerate(other._buckets):
            self._buckets[index] += count
        self._total += other._total
        self.count += other.count
        self.least = min(self.least, other.least)
        self.most = max(self.most, other.most)

    def quantile(self, permille: int) -> int:
        """Return a duration that `permille` thousandths of all durations do not exceed.

        Raises ValueError if there are no durations.
        """
        rank = max(1, -(-permille * self.count // 1000))
        for index, count in enumerate(self._buckets):
            rank -= count
            if rank <= 0:
                return min(self._end(index) - 1, self.most)
        raise ValueError("there are no durations")

    def figures(self) -> list[tuple[str, float]]:
        """Return names and values, in seconds, that sum up all durations; [] if there are none."""
        if not self.count:
            return []
        quantiles = [(f"p{part / 10:g}", self.quantile(part)) for part in (500, 950, 990, 999)]
        least, mean, most = ("min", self.least), ("mean", self._total / self.count), self.most
        return [(name, ns / 1e9) for name, ns in (least, mean, *quantiles, ("max", most))]

    def supported(self) -> list[tuple[str, float]]:
        """Return the figures without percentiles that so few durations can't have.

        At least one of the durations must be above a percentile, or it is only the highest one.
        """
        needed = {"p50": 2, "p95": 20, "p99": 100, "p99.9": 1000}
        return [each for each in self.figures() if self.count >= needed.get(each[0], 0)]

    def steps(self, bounds: list[int]) -> list[tuple[int, int, int]]:
        """Return (from, below, count) for each step between bounds, without empty steps outside."""
        counts = [0] * (len(bounds) + 1)
        step = 0
        for index, count in enumerate(self._buckets):
            while step < len(bounds) and self._end(index) > bounds[step]:
                step += 1
            counts[step] += count
        used = [step for step, count in enumerate(counts[1:-1]) if count]
        steps = list(zip(bounds, bounds[1:], counts[1:], strict=False))
        return steps[used[0] : used[-1] + 1] if used else []

    def _bucket(self, value: int) -> int:
        shift = max(0, value.bit_length() - self._bits)
        return shift * self._half + (value >> shift)

    def _end(self, index: int) -> int:
        """Return the least value above those of a bucket."""
        shift = max(0, index // self._half - 1)
        return (index - shift * self._half + 1) << shift
