"""What a connection does when memory runs out, which no client can cause from outside."""

import socket
from pathlib import Path

from ackd.journal.datagram import DatagramSocket
from ackd.journal.entry import JournalFormat
from ackd.journal.recorder import Recorder
from ackd.server.connection import Wait
from tests.support.log_daemon import LogDaemon
from tests.support.single_connection import connection_of, shared_with


def test_running_out_of_memory_closes_only_the_connection_that_needed_it(tmp_path: Path) -> None:
    logd = LogDaemon(tmp_path / "log")
    recorder = Recorder(DatagramSocket(str(tmp_path / "log")), JournalFormat())
    shared = shared_with(recorder)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        connection = connection_of(theirs, shared)
        ours.send(b"hello\n")
        connection.on_readable()
        assert ours.recv(100) == b"ok\n"
        shared.budget.chunk = 1 << 62  # more than there is memory for
        connection.on_readable()
        assert connection.wait is Wait.NOTHING
        assert ours.recv(100) == b""
    assert b"ACKD_REASON=lost: ackd is out of memory\n" in logd.read_all()[-1]
    recorder.close()
    logd.close()
