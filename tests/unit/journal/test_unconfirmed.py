"""Which records may be lost when journald ends, with a real socket."""

import socket

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ackd.journal.datagram import charge, unread
from ackd.journal.unconfirmed import Unconfirmed

SIZES = st.one_of(st.integers(1, 2000), st.sampled_from([0, 4096, 16000, 65536, 131072]))


class Queue(RuleBasedStateMachine):
    """journald reads, ends, or ends together with its queue; checks what must be repeated."""

    @initialize()
    def open(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.unconfirmed = Unconfirmed()
        self.records: list[bytes] = []
        self.read = 0
        self.read_at_looks = (0, 0)
        self.repeated = 0  # records before this number have been repeated

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
        self.unconfirmed.append(record)
        self.records.append(record)

    @rule()
    @precondition(lambda self: self.read < len(self.records))
    def read_one(self) -> None:
        assert self.theirs.recv(1 << 20) == self.records[self.read]
        self.read += 1

    @rule()
    @precondition(lambda self: not self.unconfirmed.empty)
    def look(self) -> None:
        self.unconfirmed.look(unread(self.ours))
        self.read_at_looks = self.read_at_looks[1], self.read

    @rule()
    def end(self) -> None:
        first = max(self.repeated, self.read_at_looks[0] - 1)
        taken = self.unconfirmed.take(unread(self.ours))
        assert taken == [record for record in self.records[first : self.read] if record]
        self.repeated = self.read
        self.read_at_looks = self.read, self.read

    @rule()
    def end_with_the_queue(self) -> None:
        while self.read < len(self.records):
            self.read_one()
        self.end()


TestQueue = Queue.TestCase


def test_a_record_is_confirmed_when_the_same_journald_has_read_a_later_one() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        unconfirmed = Unconfirmed()
        for record in (b"one", b""):
            ours.send(record)
            unconfirmed.append(record)
        assert unconfirmed.marked
        unconfirmed.look(unread(ours))
        theirs.recv(10)
        theirs.recv(10)
        unconfirmed.look(unread(ours))
        assert not unconfirmed.empty
        unconfirmed.look(unread(ours))
        assert unconfirmed.empty
        assert unconfirmed.take(unread(ours)) == []


def test_records_that_have_been_read_are_not_kept_in_a_long_stream() -> None:
    unconfirmed = Unconfirmed()
    for number in range(1000):
        unconfirmed.append(b"%065536d" % number)
        unconfirmed.look(charge(65536))
    kept = unconfirmed.take(0)
    assert len(kept) == 3
    assert kept[-1] == b"%065536d" % 999


def test_the_kernel_charges_more_than_a_datagram_has() -> None:
    sizes = [0, 1, 400, 4096, 65536, 131072]
    charges = [charge(size) for size in sizes]
    assert charges == sorted(charges)
    assert all(cost > size for cost, size in zip(charges, sizes, strict=True))
