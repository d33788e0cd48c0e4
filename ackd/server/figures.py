"""What the server reports about itself. Imported when somebody asks: most ackds are never asked."""

import socket
from collections import Counter
from collections.abc import Callable, Iterable
from heapq import nlargest
from operator import attrgetter

from ackd.peers import client_of
from ackd.server.admission import Admission
from ackd.server.arrivals import Arrivals
from ackd.server.commits import Commits
from ackd.server.connection import Connection, Shared
from ackd.server.connections import Connections
from ackd.server.journal_queue import JournalQueue
from ackd.server.rates import RateSamples
from ackd.status import Clients, ClientStatus, Counted, Durations, Payloads, Rates

# Clients that are named in each order.
_BUSIEST = 5
# Bytes of an IPv6 address that name the network: see client_of.
_NETWORK = 8


class _Sums:
    """A client, by the address of one of its peers, and the sums of its open connections."""

    def __init__(self, peer: str) -> None:
        self.peer = peer
        self.connections = self.acknowledged = self.refused = self.received = 0

    def report(self) -> ClientStatus:
        """Return the client and its sums."""
        sums = (self.connections, self.acknowledged, self.refused, self.received)
        return ClientStatus(client_of(self.peer), *sums)


class Figures:
    """Reports what the parts of the server know. Nothing here is on the way of a payload."""

    def __init__(
        self,
        admission: Admission,
        arrivals: Arrivals,
        connections: Connections,
        queue: JournalQueue,
        commits: Commits,
        shared: Shared,
        samples: RateSamples,
    ) -> None:
        self._admission = admission
        self._arrivals = arrivals
        self._connections = connections
        self._queue = queue
        self._commits = commits
        self._shared = shared
        self._samples = samples

    def clients(self) -> Clients:
        """Report the clients. This takes a microsecond for each connection."""
        admission, counters = self._admission, self._shared.counters
        clients = _by_client(c for c in self._connections if c.admitted)
        return Clients(
            admission.connected - len(self._arrivals),
            admission.most,
            admission.limit,
            len(self._arrivals),
            counters.connections,
            counters.turned_away,
            _counted(self._shared.turned_away_for),
            _busiest(clients, attrgetter("connections")),
            _busiest(clients, attrgetter("acknowledged")),
        )

    def payloads(self) -> Payloads:
        """Report the payloads."""
        counters, refused_for = self._shared.counters, _counted(self._shared.refused_for)
        return Payloads(counters.acknowledged, counters.refused, refused_for, counters.received)

    def rates(self, now: float) -> Rates:
        """Report the rates of the last seconds before `now`, a time of time.monotonic()."""
        return self._samples.report(now)

    @property
    def waiting(self) -> int:
        """How many connections wait to have payloads recorded."""
        return len(self._queue)

    def waits(self, now: float) -> Durations:
        """Report how long connections have waited to have payloads recorded."""
        return self._queue.waits.report(now)

    def commits(self, now: float) -> Durations:
        """Report how long commits of the log take."""
        return self._commits.durations.report(now)


def _counted(counts: Counter[str]) -> tuple[Counted, ...]:
    return tuple(Counted(reason, count) for reason, count in counts.most_common())


def _by_client(connections: Iterable[Connection]) -> list[_Sums]:
    clients: dict[str | bytes, _Sums] = {}
    for connection in connections:
        key, protocol = _key(connection.peer), connection.protocol
        sums = clients.get(key)
        if not sums:
            sums = clients[key] = _Sums(connection.peer)
        sums.connections += 1
        sums.acknowledged += protocol.acknowledged
        sums.refused += protocol.refused
        sums.received += protocol.received
    return list(clients.values())


def _key(peer: str) -> str | bytes:
    """Return the same key for all peers of one client. For most, client_of would be slower."""
    if ":" not in peer:
        return peer
    network = socket.inet_pton(socket.AF_INET6, peer.partition("%")[0])[:_NETWORK]
    return network if any(network) else client_of(peer)


def _busiest(clients: list[_Sums], order: Callable[[_Sums], int]) -> tuple[ClientStatus, ...]:
    return tuple(sums.report() for sums in nlargest(_BUSIEST, clients, key=order))
