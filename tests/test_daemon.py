"""The daemon as its clients see it: transcripts over real sockets."""

from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.peer import ACK


def test_payloads_are_recorded_then_acknowledged(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"this data will send to server!\n")
        peer.expect(ACK)
        entry = ackd.journal.next(Kind.PAYLOAD)
        assert entry["MESSAGE"] == b"Buffer: this data will send to server!"
