"""A single connection of ackd, without a server around it."""

import socket
from math import inf

from ackd.deadlines import Deadlines
from ackd.journal.recorder import Recorder
from ackd.protocol import ServerProtocol, ack_line
from ackd.records import Origin
from ackd.server.budget import Budget
from ackd.server.connection import Connection, Shared, Timeouts
from ackd.server.counters import Counters
from ackd.server.quota import Quota
from ackd.server.unfinished import UnfinishedLines


def shared_with(recorder: Recorder) -> Shared:
    """Return what a server's connections share, without any limit that a test could reach."""
    quota = Quota("connections", 100, 100, recorder.note, Deadlines())
    return Shared(
        recorder,
        Budget(recorder),
        (),
        Timeouts(inf, inf),
        Counters(),
        quota,
        quota,
        changed=lambda *_: None,
        received=UnfinishedLines().note,
    )


def connection_of(sock: socket.socket, shared: Shared) -> Connection:
    """Return a connection over this socket; its acks are `ok`."""
    origin = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")
    return Connection(sock, origin, ServerProtocol(100, ack_line(b"ok")), shared)
