"""What a daemon has done since it started."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counts of connections and payloads, and of bytes received from clients.

    The journal fields ACKD_CONNECTIONS and so on have these names.
    """

    connections: int = 0
    turned_away: int = 0
    acknowledged: int = 0
    refused: int = 0
    received: int = 0
