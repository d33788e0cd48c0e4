"""What a daemon has done since it started."""


class Counters:
    """Counts of connections and payloads, and of bytes received from clients.

    The journal fields ACKD_CONNECTIONS and so on have these names.
    """

    def __init__(self) -> None:
        self.connections = 0
        self.turned_away = 0
        self.acknowledged = 0
        self.refused = 0
        self.received = 0
