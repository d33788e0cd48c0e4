"""How much is recorded about one client, so that none can fill the journal with its comings."""

from collections import Counter
from collections.abc import Callable
from math import inf
from time import monotonic

from ackd.peers import client_of
from ackd.records import Kind, Priority, Record

MINUTE = 60.0
# Clients of whom it is told by name what was left out; of further ones in one record.
NAMED = 100
_FURTHER = "further clients"


class Quota:
    """Admits up to `limit` records about each client a minute, and tells what it has left out.

    `what` names what is counted. The minute begins with the first record of anybody, for all.
    The memory is that of `room` clients, whoever comes: those beyond have one limit together.
    """

    def __init__(self, what: str, limit: int, room: int, note: Callable[[Record], None]) -> None:
        self._what = what
        self._limit = limit
        self._room = room
        self._note = note
        self._counts: Counter[str] = Counter()
        self._ends_at = inf
        self.due = inf

    def admits(self, peer: str) -> bool:
        """Count one more about a peer, and say whether it may be recorded."""
        now = monotonic()
        if now >= self._ends_at:
            self.tell()
        if not self._counts:
            self._ends_at = now + MINUTE
        client = client_of(peer)
        if client not in self._counts and len(self._counts) >= self._room:
            client = _FURTHER
        self._counts[client] += 1
        admitted = self._counts[client] <= self._limit
        self.due = self.due if admitted else self._ends_at
        return admitted

    def attend(self, now: float) -> None:
        """End the minute, if it is over and something was left out."""
        if now >= self.due:
            self.tell()

    def tell(self) -> None:
        """End the minute, over or not: tell what was left out, and count anew."""
        beyond = {client: n - self._limit for client, n in self._counts.items() if n > self._limit}
        self._counts = Counter()
        self._ends_at = self.due = inf
        further = beyond.pop(_FURTHER, 0)
        most = Counter(beyond).most_common(NAMED)
        further += sum(beyond.values()) - sum(count for _, count in most)
        for client, count in most:
            self._tell(client, count, (("ACKD_PEER", client),))
        if further:
            self._tell(_FURTHER, further)

    def _tell(self, who: str, count: int, peer: tuple[tuple[str, str], ...] = ()) -> None:
        text = f"left out about {who}: {self._what}: {count}, beyond {self._limit} a minute"
        count_field = ("ACKD_LEFT_OUT", count)
        self._note(Record(Kind.LIMITED, Priority.WARNING, text, None, (*peer, count_field)))
