"""How many records there are about one client, so that no client can fill the journal with them."""

from collections import Counter
from collections.abc import Callable
from math import inf
from time import monotonic

from ackd.deadlines import Deadlines
from ackd.loop import Timer
from ackd.peers import client_of
from ackd.records import Kind, Priority, Record

MINUTE = 60.0
# Clients that are named when something was left out about them; one record counts all others.
NAMED = 100
# Connections of one client that are recorded within a minute, with two records each: a health check
# each second stays below. The clients that are counted one by one; they take some 3 MB.
CONNECTS, CONNECT_CLIENTS = 100, 16384
# The same for connections of one client that are rejected.
REJECTS, REJECT_CLIENTS = 1, 1024
_FURTHER = "further clients"


class Quota:
    """Admits up to `limit` records about each client a minute, and reports what was left out.

    `what` names what is counted. The minute begins with the first record about any client, and is
    the same for all. The memory is bounded: `clients` are counted one by one, and those beyond
    share one limit. The quota is a timer only while there is something to report.
    """

    def __init__(
        self,
        what: str,
        limit: int,
        clients: int,
        note: Callable[[Record], None],
        timers: Deadlines[Timer],
    ) -> None:
        self.deadline = self.scheduled = inf
        self._what = what
        self._limit = limit
        self._clients = clients
        self._note = note
        self._timers = timers
        self._counts: Counter[str] = Counter()
        self._ends_at = inf

    def admits(self, peer: str) -> bool:
        """Count one more record about a peer, and return whether it is within the limit."""
        now = monotonic()
        if now >= self._ends_at:
            self.report()
        if not self._counts:
            self._ends_at = now + MINUTE
        client = client_of(peer)
        if client not in self._counts and len(self._counts) >= self._clients:
            client = _FURTHER
        self._counts[client] += 1
        if self._counts[client] <= self._limit:
            return True
        self.deadline = self._ends_at
        self._timers.watch(self)
        return False

    def on_deadline(self) -> None:
        """End the minute."""
        self.report()

    def report(self) -> None:
        """End the minute, over or not: report what was left out, and count anew."""
        beyond = {client: n - self._limit for client, n in self._counts.items() if n > self._limit}
        self._counts = Counter()
        self._ends_at = self.deadline = inf
        further = beyond.pop(_FURTHER, 0)
        most = Counter(beyond).most_common(NAMED)
        further += sum(beyond.values()) - sum(count for _, count in most)
        for client, count in most:
            self._report(client, count, (("ACKD_PEER", client),))
        if further:
            self._report(_FURTHER, further)

    def _report(self, client: str, count: int, peer: tuple[tuple[str, str], ...] = ()) -> None:
        text = f"left out about {client}: {self._what}: {count}, beyond {self._limit} a minute"
        count_field = ("ACKD_LEFT_OUT", count)
        self._note(Record(Kind.LIMITED, Priority.WARNING, text, None, (*peer, count_field)))
