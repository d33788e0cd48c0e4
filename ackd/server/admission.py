"""Which clients are admitted: by their addresses, by how many there are, and if ackd can record."""

import logging
from collections import Counter
from collections.abc import Callable

from ackd.config import Config
from ackd.peers import Networks, address_of, client_of
from ackd.protocol import NOT_ALLOWED, TOO_MANY_CONNECTIONS
from ackd.records import Kind

log = logging.getLogger("ackd")

# The limit is logged again only after the clients were fewer than this share of the limit.
_QUIET_SHARE = 0.9


class Admission:
    """Counts the connected clients, and decides whether another client can be admitted.

    `obstacle` returns why ackd would not record the payloads of another client; empty if it would.
    """

    def __init__(self, config: Config, obstacle: Callable[[], str] = str) -> None:
        self.connected = 0
        self.most = 0  # that were connected at a time
        self._obstacle = obstacle
        self._by_client: Counter[str] = Counter()
        self._limit_logged = False
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Set the limits from now on; clients that are connected stay."""
        self._allow = Networks(config.allow) if config.allow else None
        self.limit = config.max_connections
        self._limit_per_client = config.max_connections_per_client

    def rejection(self, peer: str) -> str:
        """Return why a client is rejected, as text for the client; empty if it is admitted.

        An empty `peer` stands for clients that are not known yet: no limit is about them alone.
        """
        if self._allow and peer:
            address = address_of(peer)
            if address not in self._allow:
                return f"{address} {NOT_ALLOWED}"
        if obstacle := self._obstacle():
            return obstacle
        if self.connected >= self.limit:
            self._log_limit()
            return f"{TOO_MANY_CONNECTIONS}, the limit is {self.limit}"
        client, limit = client_of(peer), self._limit_per_client
        if peer and limit is not None and self._by_client[client] >= limit:
            return f"{TOO_MANY_CONNECTIONS} from {client}, the limit is {limit}"
        return ""

    def enter(self, peer: str) -> None:
        """Count a client that is admitted."""
        self.connected += 1
        self.most = max(self.most, self.connected)
        self._by_client[client_of(peer)] += 1

    def leave(self, peer: str) -> None:
        """Count a client that has left."""
        client = client_of(peer)
        self.connected -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if self.connected < self.limit * _QUIET_SHARE:
            self._limit_logged = False

    def _log_limit(self) -> None:
        if not self._limit_logged:
            self._limit_logged = True
            text = "max_connections: all %d are in use; further clients are turned away"
            log.warning(text, self.limit, extra={"kind": Kind.LIMIT_REACHED})
