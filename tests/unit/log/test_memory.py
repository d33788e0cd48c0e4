"""The log in memory: records outlive the process, and few pages are used."""

import os
import struct
from collections.abc import Callable, Iterator
from itertools import count

import pytest

from ackd.log.format import HEADER_SIZE
from ackd.log.log import Log, Outlet, SentRecord
from ackd.log.memory import MemoryStorage
from ackd.log.storage import Found, LogError
from tests.unit.log.log_process import record_of, started, use_memory

PAGE = 4096
SEGMENT = 256 * 1024


class Memory:
    """The memory of logs that follow each other."""

    def __init__(self) -> None:
        storage = MemoryStorage()
        self.descriptor = os.dup(storage.descriptor)
        self.log = Log(storage)

    def reopen(self, clean: bool = False) -> Log:
        self.log.close(clean)
        self.log = Log(MemoryStorage(os.dup(self.descriptor)))
        return self.log

    @property
    def touched(self) -> int:
        """The bytes of all pages that exist."""
        return os.fstat(self.descriptor).st_blocks * 512


@pytest.fixture
def memory() -> Iterator[Memory]:
    memory = Memory()
    yield memory
    memory.log.close(clean=True)
    os.close(memory.descriptor)


def append(log: Log, records: int) -> None:
    for number in range(log.appended, log.appended + records):
        assert log.append(record_of(number))


def test_records_come_back_in_order_over_many_segments(memory: Memory) -> None:
    log = memory.log
    append(log, 2000)
    assert log.size > 5 * SEGMENT
    assert list(log.records(0, 2000)) == [record_of(number) for number in range(2000)]
    assert list(log.records(1234, 1236)) == [record_of(1234), record_of(1235)]
    assert list(log.records(1999, 10**9)) == [record_of(1999)]
    assert list(log.records(2000, 10**9)) == []
    assert (log.appended, log.synced, log.sent, log.read, log.safe) == (2000, 2000, 0, 0, 0)


def test_a_reader_follows(memory: Memory) -> None:
    log = memory.log
    reader = log.reader(0)
    for size in (1, 0, 0, 300, 5, 2000, 0):
        append(log, size)
        while (record := reader.peek()) is not None:
            assert record == reader.peek() == record_of(reader.number)
            reader.advance()
        assert reader.number == log.appended


def test_a_reader_starts_anywhere(memory: Memory) -> None:
    append(memory.log, 900)
    for number in (0, 1, 450, 899):
        reader = memory.log.reader(number)
        assert reader.peek() == record_of(number)
        assert reader.number == number
    assert memory.log.reader(900).peek() is None
    assert memory.log.reader(5).peek(5) is None


def test_records_of_all_sizes(memory: Memory) -> None:
    log = memory.log
    records = [b"x" * size for size in (*range(1, 20), log.longest, 1, log.longest - 1, 8)]
    for record in records:
        assert log.append(record)
    assert list(log.records(0, len(records))) == records
    with pytest.raises(ValueError, match="larger than a segment"):
        log.append(b"x" * (log.longest + 1))
    assert log.appended == len(records)


def test_without_room_nothing_changes_until_records_are_read(memory: Memory) -> None:
    log = memory.log
    while log.append(b"x" * 5000):
        assert log.room >= 0
    full = log.appended
    assert log.size == 64 * SEGMENT
    assert log.room < 5000 + HEADER_SIZE
    assert not log.append(b"x" * 5000)
    assert (log.appended, log.synced, len(list(log.records(0, full)))) == (full, full, full)
    log.set_sent(full)
    log.set_read(51)  # the first segment has 52 records
    assert not log.append(b"x" * 5000)
    log.set_read(52)
    assert log.append(b"y" * 5000)
    assert log.size == 64 * SEGMENT
    assert [*log.records(full - 1, full + 1)] == [b"x" * 5000, b"y" * 5000]
    assert memory.reopen().appended == full + 1
    assert log.gaps == ()


def test_few_segments_are_used_while_the_journal_follows(memory: Memory) -> None:
    log = memory.log
    reader = log.reader(0)
    for number in range(100_000):
        assert log.append(b"%d" % number * 50)
        log.set_sent(number + 1)
        if number % 100 == 0:
            while (record := reader.peek()) is not None:
                assert record == b"%d" % reader.number * 50
                reader.advance()
            log.set_read(reader.number)
    assert memory.touched == PAGE + 2 * SEGMENT
    assert memory.reopen().appended == 100_000
    assert memory.touched == PAGE + 2 * SEGMENT


# Records that are sent before they are appended


def refuse(_record: bytes) -> None:
    raise BlockingIOError


def outlet(
    send: Callable[[bytes], object], note_sent: Callable[[SentRecord], object] = id
) -> tuple[Outlet, list[OSError]]:
    """Return an outlet, and the errors that it will note."""
    errors: list[OSError] = []
    return Outlet(send, note_sent, errors.append), errors


def test_records_are_appended_once_they_are_sent(memory: Memory) -> None:
    log = memory.log
    sent: list[bytes] = []
    noted: list[SentRecord] = []
    records = [record_of(0), record_of(1)]
    to, errors = outlet(sent.append, noted.append)
    assert log.extend(records, to) == 2
    assert not errors
    assert sent == records
    assert noted == [(0, len(records[0])), (1, len(records[1]))]
    append(log, 1)
    assert (log.sent, log.appended) == (2, 3)
    log = memory.reopen()
    assert (log.sent, log.appended) == (2, 3)
    assert list(log.records(0, 9)) == [record_of(number) for number in range(3)]


def test_a_record_that_can_not_be_sent_is_not_appended(memory: Memory) -> None:
    log = memory.log
    append(log, 3)
    to, errors = outlet(refuse)
    assert log.extend([b"refused"], to) == 0
    assert (log.appended, log.synced) == (3, 3)
    assert list(log.records(0, 9)) == [record_of(number) for number in range(3)]
    append(log, 1)
    assert list(log.records(2, 9)) == [record_of(2), record_of(3)]
    assert log.extend([b"refused"], to) == 0
    assert [type(error) for error in errors] == [BlockingIOError] * 2
    log = memory.reopen()
    assert (log.appended, log.gaps) == (4, ())
    assert list(log.records(0, 9)) == [record_of(number) for number in range(4)]


def test_records_before_one_that_can_not_be_sent_are_appended(memory: Memory) -> None:
    room = iter((1, 1))

    def send(_record: bytes) -> None:
        if not next(room, 0):
            raise BlockingIOError

    to, errors = outlet(send)
    assert memory.log.extend(map(record_of, range(9)), to) == 2
    assert [type(error) for error in errors] == [BlockingIOError]
    assert (memory.log.sent, memory.log.appended) == (2, 2)
    assert list(memory.reopen().records(0, 9)) == [record_of(0), record_of(1)]


def test_the_first_record_of_a_segment_can_not_be_sent(memory: Memory) -> None:
    log = memory.log
    longest = b"x" * log.longest
    to, errors = outlet(refuse)
    for _ in range(2):
        assert log.extend([longest], to) == 0
    assert log.append(b"a")
    assert log.extend([longest], to) == 0
    assert log.append(b"b")
    assert [type(error) for error in errors] == [BlockingIOError] * 3
    assert list(log.records(0, 9)) == [b"a", b"b"]
    assert list(memory.reopen().records(0, 9)) == [b"a", b"b"]


def test_no_record_is_sent_that_the_log_has_no_room_for(memory: Memory) -> None:
    log = memory.log
    longest = b"x" * log.longest
    sent: list[bytes] = []
    to, _ = outlet(sent.append)
    assert log.extend([longest] * 70, to) == len(sent) == 64
    log.set_read(3)
    assert log.extend([longest] * 70, to) == 3
    assert len(sent) == 67


# The next process


def test_a_new_log_is_empty(memory: Memory) -> None:
    assert memory.log.found is Found.NEW
    assert memory.log.size == 0
    assert list(memory.log.records(0, 9)) == []


@pytest.mark.parametrize(("clean", "found"), [(True, Found.CLEAN), (False, Found.SAME_BOOT)])
def test_the_next_process_goes_on_at_the_cursors(memory: Memory, clean: bool, found: Found) -> None:
    append(memory.log, 1000)
    memory.log.set_sent(990)
    memory.log.set_read(970)
    memory.log.set_sent(980)  # the rest is to be sent again
    for _ in range(3):
        log = memory.reopen(clean)
        assert log.found is found
        assert (log.appended, log.sent, log.read, log.gaps) == (1000, 980, 970, ())
        assert list(log.records(970, 1000)) == [record_of(n) for n in range(970, 1000)]
    append(log, 500)
    assert list(log.records(970, 1500)) == [record_of(n) for n in range(970, 1500)]


def test_numbers_go_on_when_all_is_read(memory: Memory) -> None:
    for end in (700, 1400, 2100):
        append(memory.log, 700)
        memory.log.set_sent(end)
        memory.log.set_read(end)
        log = memory.reopen()
        assert (log.appended, log.read, log.gaps, log.size) == (end, end, (), 0)


def test_a_killed_process_leaves_all_its_records(memory: Memory) -> None:
    for lines in (1, 2, 3, 50, 500, 1500, 1501, 1502):
        with started(use_memory, memory.descriptor) as process:
            assert process.stdout
            last = max(int(line) for line, _ in zip(process.stdout, range(lines), strict=False))
        log = memory.reopen()
        assert log.found is Found.SAME_BOOT
        assert last < log.appended
        assert log.appended - 1 <= log.sent <= log.appended
        assert log.gaps == ()
        assert list(log.records(log.read, log.appended)) == [
            record_of(number) for number in range(log.read, log.appended)
        ]


# What is not a log


@pytest.mark.parametrize(("path", "problem"), [("/dev/null", "Invalid"), (__file__, "not have")])
def test_a_descriptor_of_something_else_is_no_log(path: str, problem: str) -> None:
    with open(path, "rb") as file, pytest.raises(LogError, match=problem) as error:
        MemoryStorage(os.dup(file.fileno()))
    assert error.value.place == "the log in memory"


@pytest.mark.parametrize("place", [8, PAGE + 8])
def test_a_log_of_another_version_is_refused(memory: Memory, place: int) -> None:
    append(memory.log, 1)
    os.pwrite(memory.descriptor, struct.pack("=I", 9), place)
    with pytest.raises(LogError, match="version 9, and this ackd reads 1"):
        MemoryStorage(os.dup(memory.descriptor))


def test_arbitrary_bytes_are_no_records(memory: Memory) -> None:
    for start, byte in zip(range(0, 40 * PAGE, 1000), count(), strict=False):
        os.pwrite(memory.descriptor, bytes([byte % 256]) * 1000, start)
    log = memory.reopen()
    assert list(log.records(0, 10**9)) == []
    log.set_sent(log.appended)
    append(log, 1)
    assert list(log.records(0, 10**9)) == [record_of(log.appended - 1)]
