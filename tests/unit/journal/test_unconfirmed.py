"""What may be lost when journald ends, found out over a real socket."""

import socket

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ackd.journal.datagram import charge, unread
from ackd.journal.unconfirmed import Tail

SIZES = st.one_of(st.integers(1, 2000), st.sampled_from([0, 4096, 16000, 65536, 131072]))


class Queue(RuleBasedStateMachine):
    """A journald that reads, ends, or ends together with its queue; and what is to be repeated."""

    @initialize()
    def open(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.tail = Tail()
        self.records: list[bytes] = []
        self.read = 0
        self.read_at_looks = (0, 0)
        self.told = 0  # those before have been repeated

    def teardown(self) -> None:
        if hasattr(self, "ours"):
            self.ours.close()
            self.theirs.close()

    @rule(size=SIZES)
    def put(self, size: int) -> None:
        record = b"%0*d" % (size, len(self.records)) if size else b""
        try:
            self.ours.send(record)
        except BlockingIOError:
            return
        self.tail.append(record)
        self.records.append(record)

    @rule()
    @precondition(lambda self: self.read < len(self.records))
    def read_one(self) -> None:
        assert self.theirs.recv(1 << 20) == self.records[self.read]
        self.read += 1

    @rule()
    @precondition(lambda self: not self.tail.settled)
    def look(self) -> None:
        self.tail.look(unread(self.ours))
        self.read_at_looks = self.read_at_looks[1], self.read

    @rule()
    def end(self) -> None:
        first = max(self.told, self.read_at_looks[0] - 1)
        doubtful = self.tail.doubtful(unread(self.ours))
        assert doubtful == [record for record in self.records[first : self.read] if record]
        self.told = self.read
        self.read_at_looks = self.read, self.read

    @rule()
    def end_with_the_queue(self) -> None:
        while self.read < len(self.records):
            self.read_one()
        self.end()


TestQueue = Queue.TestCase


def test_it_is_settled_when_a_later_one_has_been_read_by_a_journald_that_lives() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        tail = Tail()
        for record in (b"one", b""):
            ours.send(record)
            tail.append(record)
        assert tail.marked
        tail.look(unread(ours))
        theirs.recv(10)
        theirs.recv(10)
        tail.look(unread(ours))
        assert not tail.settled
        tail.look(unread(ours))
        assert tail.settled
        assert tail.doubtful(unread(ours)) == []


def test_it_keeps_no_more_than_about_what_is_unread() -> None:
    """A long stream of records that are read is not kept."""
    tail = Tail()
    for number in range(1000):
        tail.append(b"%065536d" % number)
        tail.look(charge(65536))
    kept = tail.doubtful(0)
    assert len(kept) == 3
    assert kept[-1] == b"%065536d" % 999


def test_the_kernel_charges_more_than_a_datagram_has() -> None:
    sizes = [0, 1, 400, 4096, 65536, 131072]
    charges = [charge(size) for size in sizes]
    assert charges == sorted(charges)
    assert all(cost > size for cost, size in zip(charges, sizes, strict=True))
