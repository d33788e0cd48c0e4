"""Times without acks."""

import heapq
from dataclasses import dataclass

_KEPT = 100


@dataclass(frozen=True, slots=True, order=True)
class Outage:
    """A time without acks, as seconds of time.time(), and how many connections had none.

    `until` is when the next ack came or, if the outage is not `over`, when the waiting ended.
    """

    seconds: float
    since: float
    until: float
    connections: int
    over: bool = True


class Outages:
    """Counts outages, and keeps the hundred longest.

    An outage lasts from the sending of the first payload that gets no ack to the next ack. Outages
    of several connections are one outage as long as they overlap.
    """

    def __init__(self) -> None:
        self.count = 0
        self._longest: list[Outage] = []
        self._since = 0.0
        self._out: set[int] = set()
        self._affected: set[int] = set()

    def begin(self, connection: int, since: float) -> None:
        """Take note that a payload that was sent, or due, at `since` gets no ack."""
        self._since = min(self._since, since) if self._out else since
        self._out.add(connection)
        self._affected.add(connection)

    def end(self, connection: int, until: float) -> None:
        """Take note that an ack has come."""
        if connection not in self._out:
            return
        self._out.remove(connection)
        if not self._out:
            self._keep(until, over=True)

    def finish(self, until: float) -> list[Outage]:
        """Return the longest outages, in the order of time; the last may not be over."""
        if self._out:
            self._out.clear()
            self._keep(until, over=False)
        return sorted(self._longest, key=lambda outage: outage.since)

    def _keep(self, until: float, over: bool) -> None:
        self.count += 1
        seconds = max(0.0, until - self._since)  # the clock may have been set back
        outage = Outage(seconds, self._since, until, len(self._affected), over)
        self._affected.clear()
        if len(self._longest) < _KEPT:
            heapq.heappush(self._longest, outage)
        else:
            heapq.heappushpop(self._longest, outage)
