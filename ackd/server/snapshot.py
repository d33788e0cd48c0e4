"""A connection between two processes."""

from dataclasses import dataclass

from ackd.protocol import ProtocolState
from ackd.records import Reason


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One connection between two processes.

    `cookie` is the kernel's number for the socket, SO_COOKIE in socket(7): it says which
    descriptor this belongs to. `started` is a time of time.monotonic(), which goes on over the
    restart. `heard` says whether it has sent anything, `introduced` whether that was recorded and
    its end will be. `leaving` is why it has ended, if it only waits for its client to close.
    """

    cookie: int
    peer: str
    peer_port: int
    listener: str
    connection: str
    started: float
    heard: bool
    introduced: bool
    eof: bool
    output: bytes
    leaving: Reason | None
    protocol: ProtocolState
