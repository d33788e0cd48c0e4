"""What a connection does that no client can bring about from outside."""

import socket
from math import inf
from pathlib import Path

from ackd.journal.datagram import DatagramSocket
from ackd.journal.entry import JournalFormat
from ackd.journal.recorder import Recorder
from ackd.protocol import ServerProtocol, ack_line
from ackd.records import Origin
from ackd.server.connection import Connection, Surroundings, Timeouts, Wait, attempt
from ackd.server.counters import Counters
from ackd.server.quota import Quota
from tests.support.log_daemon import LogDaemon


def exhaust() -> None:
    bytearray(1 << 62)


def test_a_want_of_memory_is_one_connections_end(tmp_path: Path) -> None:
    logd = LogDaemon(tmp_path / "log")
    recorder = Recorder(DatagramSocket(str(tmp_path / "log")), JournalFormat())
    quota = Quota("connections", 100, 100, recorder.note)
    around = Surroundings(recorder, Timeouts(inf, inf), Counters(), quota, quota, lambda *_: None)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        origin = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")
        connection = Connection(theirs, origin, ServerProtocol(100, ack_line(b"ok")), around)
        ours.send(b"hello\n")
        attempt(connection, connection.on_readable)
        assert ours.recv(100) == b"ok\n"
        attempt(connection, exhaust)
        assert connection.wait is Wait.NOTHING
        assert ours.recv(100) == b""
    assert b"ACKD_REASON=lost: ackd is out of memory\n" in logd.read_all()[-1]
    recorder.close()
    logd.close()
