"""Who is let in, as addresses and numbers decide it."""

import logging
from collections import Counter

from ackd.config import Config
from ackd.peers import address_of, client_of
from ackd.protocol import NOT_ALLOWED, TOO_MANY_CONNECTIONS
from ackd.records import Kind

log = logging.getLogger("ackd")

# Below this share of the limit its next crossing is news again.
_QUIET_SHARE = 0.9


class Admission:
    """Counts the clients inside and says who can't come in as well."""

    def __init__(self, config: Config) -> None:
        self.inside = 0
        self._by_client: Counter[str] = Counter()
        self._limit_told = False
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Set the limits from now on; nobody who is inside is sent away."""
        self._allow = config.allow
        self._limit = config.max_connections
        self._limit_per_client = config.max_connections_per_client

    def refusal(self, peer: str) -> str:
        """Return why a client can't come in, in words meant for it; empty if it can."""
        if self._allow:
            address = address_of(peer)
            if not any(address in network for network in self._allow):
                return f"{address} {NOT_ALLOWED}"
        if self.inside >= self._limit:
            self._tell_limit()
            return f"{TOO_MANY_CONNECTIONS}, the limit is {self._limit}"
        client, limit = client_of(peer), self._limit_per_client
        if limit is not None and self._by_client[client] >= limit:
            return f"{TOO_MANY_CONNECTIONS} from {client}, the limit is {limit}"
        return ""

    def enter(self, peer: str) -> None:
        """Count a client in."""
        self.inside += 1
        self._by_client[client_of(peer)] += 1

    def leave(self, peer: str) -> None:
        """Count a client out."""
        client = client_of(peer)
        self.inside -= 1
        self._by_client[client] -= 1
        if not self._by_client[client]:
            del self._by_client[client]
        if self.inside < self._limit * _QUIET_SHARE:
            self._limit_told = False

    def _tell_limit(self) -> None:
        if not self._limit_told:
            self._limit_told = True
            text = "max_connections: all %d are in use; further clients are turned away"
            log.warning(text, self._limit, extra={"kind": Kind.LIMIT_REACHED})
