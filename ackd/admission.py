"""Who is let in, as far as numbers decide it."""

import logging
from collections import Counter

from ackd.config import Config
from ackd.records import Kind

log = logging.getLogger("ackd")

# Below this share of the limit its next crossing is news again.
_QUIET_SHARE = 0.9


class Admission:
    """Counts the clients inside and says who can't come in as well."""

    def __init__(self, config: Config) -> None:
        self.inside = 0
        self._by_peer: Counter[str] = Counter()
        self._limit_told = False
        self.configure(config)

    def configure(self, config: Config) -> None:
        """Set the limits from now on; nobody who is inside is sent away."""
        self._limit = config.max_connections
        self._limit_per_peer = config.max_connections_per_client

    def refusal(self, peer: str) -> str:
        """Return why a client can't come in, in words meant for it; empty if it can."""
        if self.inside >= self._limit:
            self._tell_limit()
            return f"too many connections, the limit is {self._limit}"
        limit = self._limit_per_peer
        if limit is not None and self._by_peer[peer] >= limit:
            return f"too many connections from {peer}, the limit is {limit}"
        return ""

    def enter(self, peer: str) -> None:
        """Count a client in."""
        self.inside += 1
        self._by_peer[peer] += 1

    def leave(self, peer: str) -> None:
        """Count a client out."""
        self.inside -= 1
        self._by_peer[peer] -= 1
        if not self._by_peer[peer]:
            del self._by_peer[peer]
        if self.inside < self._limit * _QUIET_SHARE:
            self._limit_told = False

    def _tell_limit(self) -> None:
        if not self._limit_told:
            self._limit_told = True
            text = "max_connections: all %d are in use; further clients are turned away"
            log.warning(text, self._limit, extra={"kind": Kind.LIMIT_REACHED})
