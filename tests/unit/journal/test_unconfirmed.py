"""Which records may be lost when journald ends, with a real socket."""

import socket

from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from ackd.journal.datagram import charge, unread
from ackd.journal.unconfirmed import Unconfirmed
from ackd.log.log import Log, Outlet
from ackd.log.memory import MemoryStorage

SIZES = st.one_of(st.integers(1, 2000), st.sampled_from([4096, 16000, 65536, 131072]))
MARK = -1


class Queue(RuleBasedStateMachine):
    """journald reads, stores, ends, or ends together with its queue; ackd starts anew.

    journald loses the record that it has read last, unless it has had time to store it. Checks that
    all records before the cursor `read` are stored, and that all others can still be recorded.
    """

    @initialize()
    def open(self) -> None:
        self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ours.setblocking(False)
        self.log = Log(MemoryStorage())
        self.unconfirmed = Unconfirmed(self.log)
        self.queue: list[int] = []  # the numbers that journald has not read, and marks
        self.in_hand: int | None = None
        self.stored: set[int] = set()

    def teardown(self) -> None:
        if hasattr(self, "ours"):
            self.ours.close()
            self.theirs.close()
            self.log.close(clean=True)

    def send(self, number: int, record: bytes) -> bool:
        try:
            self.ours.send(record)
        except BlockingIOError:
            return False
        self.queue.append(number)
        return True

    @rule(size=SIZES)
    @precondition(lambda self: not self.unconfirmed.lost)
    def put(self, size: int) -> None:
        number = self.log.sent
        if self.log.extend(
            [bytes(size)], Outlet(self.ours.send, self.unconfirmed.queue.append, id)
        ):
            self.queue.append(number)

    @rule()
    def put_mark(self) -> None:
        if self.send(MARK, b""):
            self.unconfirmed.append_mark()

    @rule()
    @precondition(lambda self: self.unconfirmed.lost)
    def put_lost(self) -> None:
        number = self.unconfirmed.lost[0]
        (record,) = self.log.records(number, number + 1)
        if self.send(number, record):
            self.unconfirmed.append(number, len(record))
            self.unconfirmed.lost.popleft()

    @rule()
    @precondition(lambda self: self.queue)
    def read_one(self) -> None:
        self.store()
        self.theirs.recv(1 << 20)
        self.in_hand = self.queue.pop(0)

    @rule()
    def store(self) -> None:
        if self.in_hand is not None:
            self.stored.add(self.in_hand)
        self.in_hand = None

    @rule()
    @precondition(lambda self: self.unconfirmed.queue)
    def look(self) -> None:
        self.unconfirmed.look(unread(self.ours.fileno()))

    @rule()
    def end(self) -> None:
        self.in_hand = None
        before = set(self.unconfirmed.lost)
        count = self.unconfirmed.lose(unread(self.ours.fileno()))
        after = list(self.unconfirmed.lost)
        assert sorted({*before, *after}) == after
        assert count >= len(after) - len(before)

    @rule()
    def end_with_the_queue(self) -> None:
        while self.queue:
            self.theirs.recv(1 << 20)
            self.queue.pop(0)
        self.end()

    @rule()
    def start_anew(self) -> None:
        lost = self.unconfirmed.lost
        self.unconfirmed = Unconfirmed(self.log)
        if lost:  # then the stream in the store has broken
            self.unconfirmed.lose(unread(self.ours.fileno()))

    @invariant()
    def nothing_is_forgotten(self) -> None:
        if not hasattr(self, "log"):
            return
        assert self.stored >= set(range(self.log.read))
        kept = {*self.unconfirmed.lost, *self.queue, self.in_hand, *self.unconfirmed.numbers()}
        assert kept | self.stored >= set(range(self.log.sent))


TestQueue = Queue.TestCase


def test_a_record_is_confirmed_when_the_same_journald_has_read_a_later_one() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    log = Log(MemoryStorage())
    with ours, theirs:
        unconfirmed = Unconfirmed(log)
        send(log, unconfirmed, b"one", ours)
        assert not unconfirmed.marked
        ours.send(b"")
        unconfirmed.append_mark()
        assert unconfirmed.marked
        unconfirmed.look(unread(ours.fileno()))
        theirs.recv(10)
        theirs.recv(10)
        unconfirmed.look(unread(ours.fileno()))
        assert unconfirmed.queue
        assert log.read == 0
        unconfirmed.look(unread(ours.fileno()))
        assert not unconfirmed.queue
        assert log.read == 1
        assert unconfirmed.lose(unread(ours.fileno())) == 0
    log.close(clean=True)


def test_the_record_that_journald_may_have_in_hand_is_not_confirmed() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    log = Log(MemoryStorage())
    with ours, theirs:
        unconfirmed = Unconfirmed(log)
        for record in (b"one", b"two", b"three"):
            send(log, unconfirmed, record, ours)
        assert theirs.recv(10) == b"one"
        assert theirs.recv(10) == b"two"
        for _ in range(2):
            unconfirmed.look(unread(ours.fileno()))
        unconfirmed.confirm()
        assert log.read == 1
    log.close(clean=True)


def send(log: Log, unconfirmed: Unconfirmed, record: bytes, sock: socket.socket) -> None:
    assert log.append(record)
    sock.send(record)
    unconfirmed.append(log.sent, len(record))
    log.set_sent(log.appended)


def test_records_that_have_been_read_are_not_kept_in_a_long_stream() -> None:
    log = Log(MemoryStorage())
    unconfirmed = Unconfirmed(log)
    outlet = Outlet(len, unconfirmed.queue.append, id)
    for number in range(1000):
        assert log.extend([b"%065536d" % number], outlet) == 1
        unconfirmed.look(charge(65536))
    unconfirmed.lose(0)
    assert list(unconfirmed.lost) == [997, 998, 999]
    log.close(clean=True)


def test_records_of_the_process_before_are_confirmed_once_all_of_them_are_read() -> None:
    """Marks and repeated records may be between them: the process before does not leave that."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    log = Log(MemoryStorage())
    with ours, theirs:
        before = Unconfirmed(log)
        for record in (b"one", b"two"):
            send(log, before, record, ours)
        ours.send(b"")
        after = Unconfirmed(log)
        send(log, after, b"three", ours)
        for read in (b"one", b"two"):
            assert theirs.recv(10) == read
            after.look(unread(ours.fileno()))
            after.look(unread(ours.fileno()))
        assert log.read == 0
        assert after.size == len(b"one" + b"two" + b"three")
        assert after.lose(unread(ours.fileno())) == 2
        assert list(after.lost) == [0, 1]
        assert after.size == len(b"three")
    log.close(clean=True)


def test_the_kernel_charges_more_than_a_datagram_has() -> None:
    sizes = [0, 1, 400, 4096, 65536, 131072]
    charges = [charge(size) for size in sizes]
    assert charges == sorted(charges)
    assert all(cost > size for cost, size in zip(charges, sizes, strict=True))
