"""What a daemon has done since it started."""

from dataclasses import dataclass


@dataclass(slots=True)
class Counters:
    """Counts of connections and payloads, and bytes received from clients."""

    connections: int = 0
    turned_away: int = 0
    acknowledged: int = 0
    refused: int = 0
    received: int = 0
