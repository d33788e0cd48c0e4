"""Which records of a log the journal does not have."""

import contextlib
import errno
import os
import select
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from time import monotonic

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.journal.entry import JournalFormat, fields_of
from ackd.journal.journald import JournaldSocket
from ackd.journal.reader import NotReadableError
from ackd.journal.recorder import Recorder
from ackd.journal.recovery import Entry, Fingerprints, Recovery
from ackd.journal.storing import Storing
from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.storage import Found
from ackd.loop import Loop
from ackd.records import Kind, Origin, Priority, Record
from tests.support.journald import Journald

FORM = JournalFormat()


def prefix(connection: str = "0123456789abcdef-1") -> bytes:
    return FORM.prefix(Origin("192.0.2.1", 40000, "192.0.2.2:10008", connection))


def payloads(count: int, connection: str = "0123456789abcdef-1") -> list[bytes]:
    shared = prefix(connection)
    return [FORM.payload(shared, number, b"payload %d" % number) for number in range(1, count + 1)]


def entry(record: bytes) -> dict[str, bytes]:
    """Return the entry that journald makes of a record."""
    return fields_of(record) | {"_UID": b"61184", "_PID": b"1", "LOCAL": b"by LogExtraFields="}


class ListLog:
    """A log whose records are a list; some numbers can have no record."""

    def __init__(self, records: list[bytes], read: int = 0, gap: range = range(0)) -> None:
        self.records, self.read, self.gap = records, read, gap
        self.appended = len(records)
        self.recovered = False
        self.broken_at = -1

    def set_recovered(self) -> None:
        self.recovered = True

    def reader(self, start: int) -> "ListReader":
        return ListReader(self, start)


class ListReader:
    def __init__(self, log: ListLog, start: int) -> None:
        self.number = start
        self._log = log
        self._skip()

    def peek(self, stop: int | None = None) -> bytes | None:
        end = len(self._log.records) if stop is None else stop
        if self.number == self._log.broken_at:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return self._log.records[self.number] if self.number < end else None

    def advance(self) -> None:
        self.number += 1
        self._skip()

    def _skip(self) -> None:
        while self.number in self._log.gap:
            self.number += 1


class ListRecorder:
    """A recorder that notes the numbers that are recorded again; its sink refuses some records."""

    def __init__(self, log: ListLog, refusals: Iterable[bool] = ()) -> None:
        self.log = log
        self.held = False
        self.repeated: list[int] = []
        self._refusals = iter(refusals)

    def hold(self) -> None:
        self.held = True

    def repeat(self, number: int, record: bytes) -> bool:
        assert self.held
        assert record == self.log.records[number]
        if next(self._refusals, False):
            return False
        self.repeated.append(number)
        return True

    def release(self, number: int) -> None:
        assert number == self.log.appended
        self.held = False


def recover(log: ListLog, journal: Iterable[Entry], refusals: Iterable[bool] = ()) -> list[int]:
    """Return the numbers of the records that are recorded again."""
    recorder = ListRecorder(log, refusals)
    recovery = Recovery(recorder, lambda _: journal)
    while not recovery.advance(1.0):
        assert recorder.held
        assert not log.recovered
    assert recovery.done
    assert log.recovered
    assert not recorder.held
    assert recovery.progress == ""
    assert recovery.repeated == len(recorder.repeated)
    return recorder.repeated


def journal_of(records: Iterable[bytes]) -> list[Entry]:
    """Return a journal with these records; their order does not matter."""
    entries: list[Entry] = [entry(record) for record in records]
    return entries[::-1]


def test_nothing_is_missing_from_a_whole_journal() -> None:
    records = payloads(100)
    assert recover(ListLog(records), journal_of(records)) == []


def test_exactly_the_missing_records_are_found() -> None:
    records = payloads(100)
    journal = journal_of(records[:10] + records[11:50] + records[60:99])
    assert recover(ListLog(records), journal) == [*range(10, 11), *range(50, 60), *range(99, 100)]


def test_safe_records_are_not_looked_for() -> None:
    assert recover(ListLog(payloads(10), read=7), []) == [*range(7, 10)]


def test_an_empty_log_lacks_nothing() -> None:
    assert recover(ListLog([]), journal_of(payloads(3))) == []


def test_records_that_the_log_has_lost_are_not_missing() -> None:
    assert recover(ListLog(payloads(10), gap=range(3, 6)), []) == [*range(3), *range(6, 10)]


def test_repeated_and_older_entries_do_no_harm() -> None:
    records = payloads(10)
    again = [b"ACKD_REPEATED=1\n" + record for record in records]
    assert recover(ListLog(records, read=5), journal_of(records[:3] + again + records[3:])) == []


def test_a_record_that_was_repeated_is_there() -> None:
    records = payloads(10)
    again = b"ACKD_REPEATED=1\n" + records[4]
    assert recover(ListLog(records), journal_of([*records[:4], *records[5:], again])) == []


def test_a_record_of_several_payloads_is_one_record() -> None:
    batch = [record for _, record in FORM.batches(prefix(), 1, [b"a", b"b", b"c"], 131072)]
    assert len(batch) == 1
    one = payloads(1, "0123456789abcdef-2")
    assert recover(ListLog(batch + one), journal_of(one)) == [0]
    assert recover(ListLog(batch + one), journal_of(batch)) == [1]


def test_notes_are_compared_too() -> None:
    notes = [
        FORM.record(Record(Kind.LISTENING, Priority.INFO, f"listening\non port {port}"))
        for port in (1, 2, 2)
    ]
    assert recover(ListLog(notes), journal_of(notes)) == []
    assert recover(ListLog(notes), journal_of(notes[:2])) == [1]  # one of two equal ones


@pytest.mark.parametrize(
    "changed",
    [
        {"MESSAGE": b"Buffer: payload 2."},
        {"ACKD_SEQUENCE": b"3"},
        {"ACKD_CONNECTION": b"0123456789abcdef-2"},
        {"ACKD_PEER": b"192.0.2.9"},
        {"MESSAGE_ID": Kind.LOG.value.encode()},
        {"MESSAGE": [b"Buffer: payload 2", b"Buffer: payload 2"]},
    ],
)
def test_an_entry_with_another_value_is_another_record(changed: Entry) -> None:
    records = payloads(3)
    journal = journal_of(records)
    journal[1] = {**journal[1], **changed}
    assert recover(ListLog(records), journal) == [1]


@pytest.mark.parametrize("name", ["MESSAGE", "ACKD_PEER", "ACKD_SEQUENCE"])
def test_an_entry_that_has_lost_a_field_does_not_count(name: str) -> None:
    records = payloads(3)
    journal = journal_of(records)
    journal[1] = {key: value for key, value in journal[1].items() if key != name}
    assert recover(ListLog(records), journal) == [1]


def test_all_are_missing_from_a_journal_that_can_not_be_read() -> None:
    def unreadable() -> Iterator[Entry]:
        raise NotReadableError("no right to read /var/log/journal")
        yield {}

    assert recover(ListLog(payloads(5), read=2), unreadable()) == [*range(2, 5)]


def test_what_was_read_before_an_error_counts() -> None:
    records = payloads(5)

    def half() -> Iterator[Entry]:
        yield from journal_of(records[3:])
        raise NotReadableError("the journal can't be read: Bad message")

    assert recover(ListLog(records), half()) == [*range(3)]


def test_the_journal_is_read_only_until_all_is_found() -> None:
    records = payloads(3)

    def endless() -> Iterator[Entry]:
        yield from journal_of(records)
        yield entry(payloads(1, "0123456789abcdef-9")[0])
        pytest.fail("read beyond what is looked for")

    assert recover(ListLog(records), endless()) == []


def test_a_record_in_another_form_is_recorded_again() -> None:
    lines = [b"192.0.2.1 #1: hello\n", b"\n", b"A\n\xff"]
    assert recover(ListLog(lines), journal_of(payloads(1))) == [0, 1, 2]


def test_records_before_a_place_that_can_not_be_read_are_recovered(
    caplog: pytest.LogCaptureFixture,
) -> None:
    log = ListLog(payloads(5))
    log.broken_at = 3
    assert recover(log, []) == [0, 1, 2]
    text = "records of the log are lost, it can't be read: Input/output error"
    assert caplog.messages[0] == text


def test_a_full_sink_is_waited_for() -> None:
    assert recover(ListLog(payloads(3)), [], [True, False, True, True]) == [0, 1, 2]


def test_a_slice_is_short_and_the_progress_shows() -> None:
    recovery = Recovery(ListRecorder(ListLog(payloads(1000))), lambda _: [])
    assert not recovery.advance(0)
    start = "looking for 1000 records in the journal after an unclean end: reading the log, "
    assert recovery.progress == f"{start}64"
    assert not recovery.advance(0)
    assert recovery.progress == f"{start}128"


@settings(deadline=None)  # a thread is not always quick
@given(st.lists(st.booleans(), max_size=200), st.integers(0, 2**32))
def test_any_subset_in_any_order_is_found(there: list[bool], seed: int) -> None:
    records = payloads(len(there))
    journal = journal_of(
        record for record, is_there in zip(records, there, strict=True) if is_there
    )
    Random(seed).shuffle(journal)
    assert recover(ListLog(records), journal) == [
        number for number, is_there in enumerate(there) if not is_there
    ]


@given(st.binary())
def test_fields_of_is_the_inverse_of_a_record(payload: bytes) -> None:
    fields = fields_of(FORM.payload(prefix(), 7, payload))
    assert fields["MESSAGE"] == b"Buffer: " + payload
    assert fields["ACKD_SEQUENCE"] == b"7"


@given(st.binary())
def test_damaged_records_are_errors(data: bytes) -> None:
    try:
        fields_of(data)
    except ValueError:
        return


def test_fingerprints_are_counted() -> None:
    fingerprints = Fingerprints()
    for number in (-(2**63), 2**63 - 1, 5, 5):
        fingerprints.add(number)
    assert fingerprints.count == 4
    assert [fingerprints.remove(5) for _ in range(3)] == [True, True, False]
    assert fingerprints.remove(-(2**63))
    assert fingerprints.count == 1


# With a real log, recorder and queue

SIZE = 64 * 1024 * 1024


def open_log(directory: Path, boot: bytes) -> Log:
    return Log(FileStorage(Directory(str(directory)), SIZE, boot=boot * 16))


def commit(log: Log) -> None:
    while log.synced < log.appended:
        log.commit()
        select.select([log], [], [])
        assert log.collect() is None


def messages(journald: Journald) -> Iterator[str]:
    for datagram in filter(None, journald.read_all()):  # an empty one is a mark
        fields = fields_of(datagram)
        repeated = "again " * ("ACKD_REPEATED" in fields)
        yield repeated + fields["MESSAGE"].decode().removeprefix("Buffer: ")


def test_missing_records_come_before_new_ones_and_only_they_are_marked(tmp_path: Path) -> None:
    before = open_log(tmp_path, b"a")
    records = payloads(20)
    for record in records:
        assert before.append(record)
    commit(before)
    for move in (before.set_sent, before.set_read):
        move(20)
    before.set_safe(3)
    before.close(clean=True)

    log = open_log(tmp_path, b"b")
    path = tmp_path / "journal"
    with contextlib.closing(Journald(path)) as journald, contextlib.closing(Loop()) as loop:
        storing = Storing(str(path), {}, is_service=False)
        sink = JournaldSocket(str(path), storing, log)
        recorder = Recorder(sink, JournalFormat(), log, acks_wait=True)
        there = journal_of(records[:5] + records[8:19])
        recovery = Recovery(recorder, lambda _: there)
        recorder.watch(loop)
        loop.timers.watch(recovery)
        recorder.resume()
        journald.begin()
        assert recorder.write(prefix("0123456789abcdef-2"), 1, [b"new"]) == 1
        commit(log)
        seen: list[str] = []
        while log.read < log.appended:
            loop.handle(loop.wait(0.01))
            loop.meet_deadlines(monotonic())
            recorder.look(monotonic())
            seen += messages(journald)
        assert seen == [f"again payload {number}" for number in (6, 7, 8, 20)] + ["new"]
        assert (log.safe, log.sent) == (3, 21)
        recorder.close()
    after = open_log(tmp_path, b"b")
    assert (after.found, after.read, after.appended) == (Found.CLEAN, 21, 21)
    after.close(clean=True)
