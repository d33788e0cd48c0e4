"""Payloads and notes are recorded in one order, over a real socket that is full, away or back."""

import contextlib
import logging
import os
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.config import Recording
from ackd.journal.datagram import DatagramSocket
from ackd.journal.entry import JournalFormat, payloads_of
from ackd.journal.log_handler import RecordHandler
from ackd.journal.recorder import MAX_NOTES, TURN_PAYLOADS, TURN_RECORDS, Recorder
from ackd.journal.terminal import StandardOutput, TerminalFormat
from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.records import Kind, Origin, Priority, Record
from tests.support.journal_socket import Entry, parse
from tests.support.log_daemon import LogDaemon

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")


class Desk:
    """A recorder, and the journal at the other end, which is open from the start or not."""

    def __init__(
        self, path: Path, journal_is_there: bool, sink: type[DatagramSocket] = DatagramSocket
    ) -> None:
        self._path = path
        self._journal = LogDaemon(path) if journal_is_there else None
        self.storage = MemoryStorage()
        self.recorder = Recorder(sink(str(path)), JournalFormat(), Log(self.storage))
        self.prefix = self.recorder.prefix(ORIGIN)
        self._taken = 0
        self._closed = False

    def write(self, *payloads: bytes) -> int:
        taken = self.recorder.write(self.prefix, self._taken + 1, list(payloads))
        self._taken += taken
        return taken

    def note(self, message: str) -> None:
        self.recorder.note(Record(Kind.LOG, Priority.INFO, message))

    def fill(self) -> int:
        """Write payloads until one is not taken; return the number of those taken."""
        count = 0
        while self.write(b"filler"):
            count += 1
        return count

    def entries(self) -> list[Entry]:
        """Read all that the journal has."""
        assert self._journal
        return [parse(datagram) for datagram in self._journal.read_all()]

    def messages(self) -> list[str]:
        return [entry["MESSAGE"].decode() for entry in self.entries()]

    def all_entries(self) -> list[Entry]:
        """Read and resume until nothing waits any more."""
        entries = self.entries()
        while not self.recorder.resume():
            entries += self.entries()
        return entries + self.entries()

    def all_messages(self) -> list[str]:
        return [entry["MESSAGE"].decode() for entry in self.all_entries()]

    def open_journal(self) -> None:
        self._journal = LogDaemon(self._path)

    def close_journal(self) -> None:
        if self._journal:
            self._journal.close()

    def close_recorder(self) -> None:
        if not self._closed:
            self._closed = True
            self.recorder.close()

    def close(self) -> None:
        self.close_recorder()
        self.close_journal()


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with contextlib.closing(Desk(tmp_path / "journal", journal_is_there=True)) as desk:
        yield desk


@pytest.fixture
def early_desk(tmp_path: Path) -> Iterator[Desk]:
    with contextlib.closing(Desk(tmp_path / "journal", journal_is_there=False)) as desk:
        yield desk


def test_payloads_and_notes_are_recorded_in_one_order(desk: Desk) -> None:
    desk.note("socket connected")
    assert desk.write(b"one", b"two") == 2
    desk.note("closed the socket")
    assert desk.messages() == [
        "socket connected",
        "Buffer: one",
        "Buffer: two",
        "closed the socket",
    ]


def test_payloads_are_numbered_from_the_first(desk: Desk) -> None:
    assert desk.recorder.write(desk.prefix, 7, [b"one", b"two"]) == 2
    sequence = [entry["ACKD_SEQUENCE"] for entry in desk.entries()]
    assert sequence == [b"7", b"8"]


def test_the_longest_record_fits_into_a_datagram(desk: Desk) -> None:
    assert desk.recorder.longest(131072) == JournalFormat().longest(131072)
    assert desk.recorder.longest(131072) <= desk.recorder.sink.capacity


def test_no_payloads_leave_no_record(desk: Desk) -> None:
    assert desk.write() == 0
    assert not desk.recorder.blocked
    assert desk.messages() == []


def test_one_turn_has_a_bounded_number_of_records() -> None:
    with open(os.devnull, "wb") as nowhere:
        recorder = Recorder(StandardOutput(nowhere.fileno()), TerminalFormat(colour=False))
    assert recorder.write(recorder.prefix(ORIGIN), 1, [b""] * (TURN_RECORDS + 1)) == TURN_RECORDS
    assert not recorder.blocked
    recorder.close()


def test_payloads_that_a_full_journal_does_not_take_are_not_counted(desk: Desk) -> None:
    count = desk.fill()
    assert count
    assert desk.recorder.blocked
    assert desk.messages() == ["Buffer: filler"] * count


def test_only_as_many_payloads_are_taken_as_there_is_room_for(desk: Desk) -> None:
    count = desk.fill()
    assert desk.messages() == ["Buffer: filler"] * count
    assert desk.recorder.resume()
    payloads = [b"%d" % number for number in range(count + 5)]
    taken = desk.write(*payloads)
    assert taken == min(count, TURN_RECORDS)
    assert desk.messages() == [f"Buffer: {number}" for number in range(taken)]


def test_no_payload_overtakes_a_note_that_waits(desk: Desk) -> None:
    desk.fill()
    desk.note("first")
    desk.messages()
    assert desk.write(b"third") == 0  # there is room again, but the note comes first
    desk.note("second")
    assert desk.messages() == []
    assert desk.recorder.resume()
    assert desk.write(b"third") == 1
    assert desk.messages() == ["first", "second", "Buffer: third"]


class ForgetfulSocket(DatagramSocket):
    """Has lost records, which must be put again first."""

    confirms = True
    lost: tuple[bytes, ...] = ()

    def put_lost(self) -> bool:
        while self.lost and self.put(self.lost[0]):
            self.lost = self.lost[1:]
        return not self.lost


@pytest.fixture
def forgetful(tmp_path: Path) -> Iterator[tuple[Desk, ForgetfulSocket]]:
    with contextlib.closing(Desk(tmp_path / "journal", True, ForgetfulSocket)) as desk:
        assert isinstance(desk.recorder.sink, ForgetfulSocket)
        yield desk, desk.recorder.sink


def lose(desk: Desk, sink: ForgetfulSocket, *payloads: bytes) -> None:
    sink.lost = tuple(JournalFormat().payload(desk.prefix, 1, payload) for payload in payloads)
    desk.recorder.block()


def test_lost_records_come_before_all_that_wait(forgetful: tuple[Desk, ForgetfulSocket]) -> None:
    desk, sink = forgetful
    count = desk.fill()
    desk.note("waits")
    lose(desk, sink, b"1", b"2")
    assert desk.messages() == ["Buffer: filler"] * count
    assert desk.recorder.resume()
    assert desk.messages() == ["Buffer: 1", "Buffer: 2", "waits"]


def test_lost_records_hold_up_payloads_until_they_are_taken(
    forgetful: tuple[Desk, ForgetfulSocket],
) -> None:
    desk, sink = forgetful
    lose(desk, sink, b"one")
    assert desk.write(b"two") == 0
    assert desk.recorder.resume()
    assert desk.write(b"two") == 1
    assert desk.messages() == ["Buffer: one", "Buffer: two"]


def test_each_record_is_in_the_log_until_the_sink_has_stored_it(
    forgetful: tuple[Desk, ForgetfulSocket],
) -> None:
    desk, _ = forgetful
    log = desk.recorder.log
    assert desk.write(b"one", b"two") == 2
    desk.note("three")
    assert (log.read, log.sent, log.appended) == (0, 3, 3)
    count = desk.fill()
    assert (log.sent, log.appended) == (3 + count, 3 + count)
    desk.note("waits")
    assert (log.sent, log.appended) == (3 + count, 4 + count)
    records = [parse(record)["MESSAGE"] for record in log.records(0, log.appended)]
    assert records[:3] == [b"Buffer: one", b"Buffer: two", b"three"]
    assert records[-1] == b"waits"


def test_a_log_that_is_full_makes_payloads_wait_until_it_has_room(
    forgetful: tuple[Desk, ForgetfulSocket],
) -> None:
    desk, _ = forgetful
    log, payload = desk.recorder.log, b"x" * 60_000
    while desk.write(payload):
        desk.messages()
    assert desk.recorder.must_wait
    assert not desk.recorder.blocked  # the journal has room, and its socket is not watched
    assert log.appended == log.sent
    assert not desk.write(payload)
    log.set_read(log.sent)
    assert not desk.recorder.must_wait
    assert desk.write(payload) == 1


def test_notes_for_which_a_full_log_has_no_room_are_counted_and_the_next_note_reports_them(
    forgetful: tuple[Desk, ForgetfulSocket],
) -> None:
    desk, _ = forgetful
    log = desk.recorder.log
    while not log.full:
        desk.note("x" * 60_000)
        desk.messages()
    desk.note("x" * 60_000)
    assert not desk.recorder.blocked
    log.set_read(log.sent)
    desk.note("next")
    report = "left out 2 records about connections: the journal was full"
    assert desk.messages() == [report, "next"]


def test_the_recorder_stays_blocked_while_the_journal_is_full(desk: Desk) -> None:
    desk.fill()
    desk.note("waits")
    assert not desk.recorder.resume()
    assert desk.recorder.blocked
    assert desk.recorder.sink.reachable


def test_waiting_notes_are_recorded_as_there_is_room(desk: Desk) -> None:
    count = desk.fill()
    notes = [f"note {number}" for number in range(3 * count)]
    for note in notes:
        desk.note(note)
    assert desk.all_messages() == ["Buffer: filler"] * count + notes


def test_notes_alone_can_fill_the_journal(desk: Desk) -> None:
    sent = 0
    while not desk.recorder.blocked:
        desk.note(f"note {sent}")
        sent += 1
    assert desk.all_messages() == [f"note {number}" for number in range(sent)]


def test_notes_beyond_the_backlog_are_left_out_and_counted(desk: Desk) -> None:
    count = desk.fill()
    for number in range(MAX_NOTES + 5):
        desk.note(f"note {number}")
    entries = desk.all_entries()
    assert len(entries) == count + MAX_NOTES + 1
    assert entries[-2]["MESSAGE"] == b"note %d" % (MAX_NOTES - 1)
    assert says(entries[-1], Kind.LEFT_OUT, Priority.WARNING)
    report = b"left out 5 records about connections: the journal was full"
    assert entries[-1]["MESSAGE"] == report


def says(entry: Entry, kind: Kind, priority: Priority) -> bool:
    return entry["MESSAGE_ID"] == kind.value.encode() and entry["PRIORITY"] == b"%d" % priority


def test_notes_that_were_left_out_are_reported_once(desk: Desk) -> None:
    desk.fill()
    for _ in range(MAX_NOTES + 1):
        desk.note("note")
    assert desk.all_messages()[-1].startswith("left out 1 ")
    desk.fill()
    desk.note("note")
    assert desk.all_messages()[-1] == "note"


def test_a_journal_that_starts_later_gets_the_earlier_notes(early_desk: Desk) -> None:
    desk = early_desk
    desk.note("first")
    assert desk.recorder.blocked
    assert desk.write(b"second") == 0
    assert not desk.recorder.resume()
    desk.open_journal()
    assert desk.recorder.resume()
    assert desk.write(b"second") == 1
    assert desk.messages() == ["first", "Buffer: second"]


def test_a_journal_that_was_away_gets_the_notes_of_meanwhile(
    desk: Desk,
) -> None:
    desk.close_journal()
    assert desk.write(b"one") == 0
    desk.note("first")
    assert not desk.recorder.sink.reachable
    assert not desk.recorder.resume()
    desk.open_journal()
    assert desk.recorder.resume()
    assert desk.write(b"one") == 1
    assert desk.messages() == ["first", "Buffer: one"]


def test_the_recorder_stays_blocked_while_the_journal_is_away(desk: Desk) -> None:
    desk.close_journal()
    assert desk.write(b"one") == 0
    assert not desk.recorder.resume()
    assert desk.recorder.blocked
    desk.open_journal()
    assert desk.recorder.resume()
    assert desk.write(b"one") == 1


def test_notes_that_one_journal_did_not_take_go_to_the_next(desk: Desk) -> None:
    count = desk.fill()
    for number in range(2 * count):
        desk.note(f"note {number}")
    desk.messages()
    assert not desk.recorder.resume()
    desk.messages()
    desk.close_journal()
    assert not desk.recorder.resume()
    desk.open_journal()
    assert desk.all_messages() == [f"note {number}" for number in range(count, 2 * count)]


def inherit(desk: Desk, path: Path) -> Recorder:
    """Return the recorder of the next process, which finds the log of the desk's one."""
    descriptor = os.dup(desk.storage.descriptor)
    desk.recorder.close()
    log = Log(MemoryStorage(descriptor))
    return Recorder(DatagramSocket(str(path)), JournalFormat(), log)


def test_waiting_notes_are_left_to_the_next_process(desk: Desk, tmp_path: Path) -> None:
    count = desk.fill()
    desk.note("first")
    desk.note("second")
    desk.recorder = inherit(desk, tmp_path / "journal")
    assert desk.recorder.blocked
    assert not desk.recorder.resume()
    assert desk.all_messages() == ["Buffer: filler"] * count + ["first", "second"]


def test_notes_of_an_earlier_version_wait_like_others(desk: Desk) -> None:
    count = desk.fill()
    form = JournalFormat()
    notes = [form.record(Record(Kind.LOG, Priority.INFO, text)) for text in ("first", "second")]
    desk.recorder.append_notes(notes)
    assert desk.write(b"third") == 0
    assert desk.all_messages() == ["Buffer: filler"] * count + ["first", "second"]


def test_the_next_process_reports_what_was_left_out(desk: Desk, tmp_path: Path) -> None:
    desk.fill()
    for number in range(MAX_NOTES + 5):
        desk.note(f"note {number}")
    desk.recorder = inherit(desk, tmp_path / "journal")
    report = "left out 5 records about connections: the journal was full"
    assert desk.all_messages()[-1] == report


def test_closing_tries_the_waiting_notes_a_last_time(desk: Desk) -> None:
    desk.fill()
    desk.note("stopped")
    desk.messages()
    desk.close_recorder()
    assert desk.messages() == ["stopped"]


def test_closing_does_not_wait_for_a_full_journal(desk: Desk) -> None:
    count = desk.fill()
    desk.note("stopped")
    desk.close_recorder()
    assert desk.messages() == ["Buffer: filler"] * count


# Payloads that share entries, or have none


def test_payloads_that_come_together_share_an_entry(desk: Desk) -> None:
    desk.recorder.recording = Recording.BATCH
    assert desk.write(b"one", b"two") == 2
    assert desk.write(b"three") == 1
    assert [payloads_of(entry) for entry in desk.entries()] == [
        [(1, b"one"), (2, b"two")],
        [(3, b"three")],
    ]


def test_payloads_that_share_an_entry_are_taken_together_or_not_at_all(desk: Desk) -> None:
    desk.recorder.recording = Recording.BATCH
    count = 0
    while taken := desk.write(b"one", b"two", b"\x1b", b"four"):
        count += taken
    assert desk.recorder.blocked
    read = [one for entry in desk.entries() for one in payloads_of(entry)]
    assert [number for number, _ in read] == [*range(1, count + 1)]
    assert count % 4 in (0, 2, 3)
    assert desk.recorder.resume()
    assert desk.write(b"five", b"six") == 2


def test_one_turn_has_a_bounded_number_of_payloads_that_share_entries(desk: Desk) -> None:
    desk.recorder.recording = Recording.BATCH
    assert desk.write(*[b""] * (TURN_PAYLOADS + 1)) == TURN_PAYLOADS
    (entry,) = desk.entries()
    assert entry["ACKD_COUNT"] == b"%d" % TURN_PAYLOADS


def test_one_turn_has_a_bounded_number_of_records_even_if_none_is_shared() -> None:
    with open(os.devnull, "wb") as nowhere:
        recorder = Recorder(StandardOutput(nowhere.fileno()), TerminalFormat(colour=False))
    recorder.recording = Recording.BATCH
    assert recorder.write(recorder.prefix(ORIGIN), 1, [b""] * TURN_PAYLOADS) == TURN_RECORDS
    recorder.close()


def test_payloads_that_need_no_record_do_not_wait_for_the_journal(early_desk: Desk) -> None:
    desk = early_desk
    desk.recorder.recording = Recording.NONE
    assert desk.recorder.blocked
    assert not desk.recorder.must_wait
    assert desk.write(b"one", b"two") == 2
    assert desk.write(*[b""] * (TURN_PAYLOADS + 1)) == TURN_PAYLOADS
    desk.note("a note")
    desk.open_journal()
    assert desk.recorder.resume()
    assert desk.messages() == ["a note"]


# The program's own log lines.


@pytest.fixture
def log(desk: Desk) -> logging.Logger:
    log = logging.Logger("ackd")
    log.addHandler(RecordHandler(desk.recorder))
    return log


@pytest.mark.parametrize(
    ("level", "priority"),
    [
        (logging.CRITICAL, b"2"),
        (logging.ERROR, b"3"),
        (logging.WARNING, b"4"),
        (logging.INFO, b"6"),
        (logging.DEBUG, b"7"),
        (logging.ERROR + 5, b"3"),
        (1, b"7"),
    ],
)
def test_a_log_line_has_the_priority_of_its_level(
    desk: Desk, log: logging.Logger, level: int, priority: bytes
) -> None:
    log.log(level, "listening on %s", "::1")
    (entry,) = desk.entries()
    assert entry == {
        "MESSAGE": b"listening on ::1",
        "MESSAGE_ID": Kind.LOG.value.encode(),
        "PRIORITY": priority,
        "SYSLOG_IDENTIFIER": b"ackd",
    }


def test_a_log_line_can_be_of_another_kind(desk: Desk, log: logging.Logger) -> None:
    log.info("stopped", extra={"kind": Kind.STOPPED})
    (entry,) = desk.entries()
    assert says(entry, Kind.STOPPED, Priority.INFO)


def test_a_log_line_has_the_traceback_of_an_exception_in_one_entry(
    desk: Desk, log: logging.Logger
) -> None:
    try:
        raise ValueError("broken")
    except ValueError:
        log.exception("a fault")
    (entry,) = desk.entries()
    assert entry["MESSAGE"].startswith(b"a fault\nTraceback")
    assert entry["MESSAGE"].endswith(b"\nValueError: broken")


def test_a_log_line_waits_in_order_for_a_full_journal(desk: Desk, log: logging.Logger) -> None:
    count = desk.fill()
    desk.note("before")
    log.error("the journal can't be reached")
    desk.note("behind")
    expected = ["before", "the journal can't be reached", "behind"]
    assert desk.all_messages() == ["Buffer: filler"] * count + expected


# Acks that wait for a commit of the log


class DiskDesk:
    """A recorder whose acks wait for a commit of a log in files."""

    def __init__(self, path: Path) -> None:
        (path / "log").mkdir()
        self.journal = LogDaemon(path / "journal")
        self.log = Log(FileStorage(Directory(str(path / "log")), 16 * 1024 * 1024))
        sink = DatagramSocket(str(path / "journal"))
        self.recorder = Recorder(sink, JournalFormat(), self.log, acks_wait=True)
        self.prefix = self.recorder.prefix(ORIGIN)

    def write(self, *payloads: bytes) -> int:
        return self.recorder.write(self.prefix, self.log.appended + 1, list(payloads))

    def commit(self) -> None:
        self.recorder.commit()
        while self.log.committing:
            select.select([self.log.fileno()], [], [])
            assert self.recorder.collect() is None
        self.recorder.resume()  # as at the end of a later round

    def messages(self) -> list[str]:
        return [parse(datagram)["MESSAGE"].decode() for datagram in self.journal.read_all()]

    def close(self) -> None:
        self.recorder.close()
        self.journal.close()


@pytest.fixture
def disk_desk(tmp_path: Path) -> Iterator[DiskDesk]:
    with contextlib.closing(DiskDesk(tmp_path)) as desk:
        yield desk


def test_records_are_sent_once_they_are_durable_in_one_order(disk_desk: DiskDesk) -> None:
    desk = disk_desk
    desk.recorder.note(Record(Kind.LOG, Priority.INFO, "first"))
    assert desk.write(b"second", b"third") == 2
    assert desk.log.synced == 0
    assert desk.messages() == []
    desk.commit()
    assert desk.log.synced == desk.log.sent == 3
    assert desk.messages() == ["first", "Buffer: second", "Buffer: third"]


def test_payloads_are_taken_while_the_journal_is_full(disk_desk: DiskDesk) -> None:
    desk = disk_desk
    numbers = [b"%d" % number for number in range(2000)]
    while desk.log.appended < len(numbers):
        assert desk.write(*numbers[desk.log.appended :])
        desk.commit()
    assert desk.recorder.blocked
    assert not desk.recorder.must_wait
    assert desk.log.synced == 2000
    lines = desk.messages()
    while not desk.recorder.resume():
        lines += desk.messages()
    lines += desk.messages()
    assert lines == [f"Buffer: {number}" for number in range(2000)]


def test_payloads_wait_while_the_log_is_full(disk_desk: DiskDesk) -> None:
    desk, payload = disk_desk, b"x" * 60_000
    while desk.write(payload):
        desk.commit()
        desk.messages()
        desk.recorder.resume()
    assert desk.recorder.must_wait
    desk.log.set_read(desk.log.sent)
    desk.log.set_safe(desk.log.sent)
    assert not desk.recorder.must_wait
    assert desk.write(payload) == 1
