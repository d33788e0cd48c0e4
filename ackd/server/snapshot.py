"""A connection that one process leaves to the next."""

from typing import NamedTuple

from ackd.protocol import ProtocolState, Run
from ackd.records import Origin, Reason


# A named tuple: the decorator `dataclass` would delay each start noticeably.
class Snapshot(NamedTuple):
    """One connection between two processes.

    `cookie` is the kernel's number for the socket, SO_COOKIE in socket(7). The next process finds
    the snapshot of a descriptor by this number. `started` is a time of time.monotonic(), a clock
    that all processes share. `has_sent` is whether the client has sent anything,
    `connect_recorded` whether CONNECTED was recorded, so that CLOSED must be. `send_error` is the
    errno of a send that has failed, or 0. `leaving` is why the connection has ended, if it only
    waits until its client closes. `facts` are those of the connection's Origin.
    """

    cookie: int
    peer: str
    peer_port: int
    listener: str
    connection: str
    started: float
    has_sent: bool
    connect_recorded: bool
    eof: bool
    owed: tuple[Run, ...]
    send_error: int
    leaving: Reason | None
    protocol: ProtocolState
    facts: tuple[tuple[str, str], ...] = ()

    @property
    def origin(self) -> Origin:
        """The origin of the connection's payloads."""
        return Origin(self.peer, self.peer_port, self.listener, self.connection, self.facts)
