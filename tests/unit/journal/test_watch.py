"""journald ends before it has stored all records: those that may be lost are recorded again."""

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from math import inf
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest

from ackd.config import Recording
from ackd.journal.datagram import new_socket
from ackd.journal.entry import JournalFormat, payloads_of
from ackd.journal.journald import JournaldConnection, JournaldSocket
from ackd.journal.recorder import Recorder
from ackd.journal.storing import Storing
from ackd.journal.watch import FIRST_ACCEPT, LONGEST_PAUSE, LOOK, QUIET, JournaldStream
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.loop import Loop
from ackd.records import Kind, Origin, Priority, Record
from tests.support.journal_socket import Entry, parse
from tests.support.journald import Journald

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")


class Desk:
    """A recorder, journald, and a loop that goes round when a test says so.

    `kept` is what the next process gets: the stream, the socket, and the descriptor of the log.
    """

    def __init__(self, path: Path, begun: bool = True, held: bool = False) -> None:
        self.path = path
        self.journald = Journald(path)
        self.kept: JournaldStream | None = None
        self._written = 0
        self._start(MemoryStorage(), None)
        if begun:
            self.journald.begin()
            self.go_round()
            self.go_round(monotonic() + FIRST_ACCEPT)
        elif not held:
            self.await_first_accept()

    def _start(self, storage: MemoryStorage, stored: JournaldConnection | None) -> None:
        self.storage = storage
        log = Log(storage)
        storing = Storing(str(self.path), {}, is_service=False)
        sink = JournaldSocket(str(self.path), storing, log, stored, keep_stream=self._keep)
        self.sink = sink
        self.recorder = Recorder(sink, JournalFormat(), log)
        self.loop = Loop()
        self.recorder.watch(self.loop)
        self.recorder.resume()

    def await_first_accept(self) -> None:
        """Go round when the recorder holds no records back any more."""
        if self.sink.holds:
            self.go_round(monotonic() + FIRST_ACCEPT)

    def _keep(self, stream: JournaldStream) -> None:
        """Do what the service manager does: duplicate the descriptor."""
        if self.kept:
            self.kept.socket.close()
        self.kept = JournaldStream(stream.socket.dup(), stream.accepted)

    def crash(self, *, stopped: bool = False, noticed: bool = True) -> None:
        """Let another process go on, as after a kill; if `stopped`, it finds only the log.

        If `noticed`, the killed process has noticed before what had happened to journald.
        """
        if noticed:
            self.go_round()
        self._replace(clean=False, stopped=stopped)

    def hand_over(self) -> None:
        """Let another process go on, as after a restart."""
        self._replace(clean=True, stopped=False)

    def _replace(self, clean: bool, stopped: bool) -> None:
        storage = os.dup(self.storage.descriptor)
        sock = socket.socket(fileno=os.dup(self.sink.fileno()))
        self.recorder.sink.close()
        self.recorder.log.close(clean)
        self.loop.close()
        stored = None
        if stopped:
            sock.close()
        else:
            stream = self.kept and JournaldStream(self.kept.socket.dup(), self.kept.accepted)
            stored = JournaldConnection(sock, stream)
        self._start(MemoryStorage(storage), stored)
        self.await_first_accept()

    def write(self, *payloads: bytes) -> int:
        prefix = self.recorder.prefix(ORIGIN)
        taken = self.recorder.write(prefix, self._written + 1, list(payloads))
        self._written += taken
        return taken

    def go_round(self, now: float = -inf) -> None:
        """Do what the server does in a round."""
        self.loop.handle(self.loop.wait(0))
        self.loop.meet_deadlines(now)
        self.recorder.look(inf)

    def succeed(self) -> None:
        """Let journald end and another one begin, and the loop go round after each."""
        self.journald.end()
        self.go_round()
        self.journald.begin()
        self.go_round()

    def be_quiet(self) -> None:
        """Go round twice after some time in which nothing is written."""
        for _ in range(2):
            self.go_round(monotonic() + QUIET)

    def read(self, count: int) -> list[str]:
        return [message(parse(self.journald.read())) for _ in range(count)]

    def read_all(self) -> list[str]:
        return [message(parse(datagram)) for datagram in self.journald.read_all() if datagram]

    def close(self) -> None:
        self.recorder.close()
        self.loop.close()
        self.journald.close()
        if self.kept:
            self.kept.socket.close()


def message(entry: Entry) -> str:
    mark = "again " if entry.get("ACKD_REPEATED") == b"1" else ""
    return mark + entry["MESSAGE"].decode().removeprefix("Buffer: ")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with contextlib.closing(Desk(tmp_path / "socket")) as desk:
        yield desk


def repeated(count: int) -> str:
    return f"journald has ended; records repeated that may be lost: {count}"


def test_the_record_that_journald_had_in_hand_when_it_ended_is_recorded_again(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(2) == ["one", "two"]
    desk.go_round()
    desk.go_round()
    desk.succeed()
    assert desk.read_all() == ["three", "again two", repeated(1)]


def test_records_read_since_the_last_look_are_recorded_again(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(1) == ["one"]
    desk.go_round()
    desk.go_round()
    assert desk.read(1) == ["two"]
    desk.succeed()
    assert desk.read_all() == ["three", "again one", "again two", repeated(2)]


def test_looks_that_follow_each_other_too_soon_count_as_one(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(2) == ["one", "two"]
    now = monotonic()
    desk.recorder.look(now)
    desk.recorder.look(now + LOOK / 2)
    desk.succeed()
    assert desk.read_all() == ["three", "again one", "again two", repeated(2)]


def test_records_are_confirmed_soon_after_the_last_even_without_a_look_after_it(desk: Desk) -> None:
    desk.write(b"one")
    now = monotonic()
    desk.recorder.look(now)
    desk.write(b"two")
    desk.recorder.look(now + LOOK / 2)
    looks = 0
    while (due := desk.loop.timers.next()) < inf:
        desk.read_all()
        desk.loop.meet_deadlines(due)
        desk.recorder.look(due)
        looks += 1
    assert desk.recorder.unsettled == 0
    assert looks < 6


def test_the_queue_is_recorded_again_if_it_has_gone_with_journald(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(1) == ["one"]
    desk.go_round()
    desk.go_round()
    desk.journald.close()
    desk.journald = Journald(desk.path)
    assert desk.write(b"four") == 0
    assert desk.recorder.resume()
    assert desk.write(b"four") == 1
    assert desk.read_all() == ["again one", "again two", "again three", repeated(3), "four"]


def test_records_read_by_a_journald_that_ended_before_it_accepted_are_recorded_again(
    desk: Desk,
) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(1) == ["one"]
    desk.go_round()
    desk.go_round()
    desk.journald.end()
    desk.go_round()
    assert desk.read(1) == ["two"]  # by a journald that does no more than this
    for _ in range(3):
        desk.go_round()
    desk.journald.begin()
    desk.go_round()
    assert desk.read_all() == ["three", "again one", repeated(1), "again two", repeated(1)]


def test_nothing_is_recorded_again_that_journald_had_time_to_store(desk: Desk) -> None:
    desk.write(b"one")
    desk.go_round()
    desk.be_quiet()
    assert desk.read_all() == ["one"]
    desk.be_quiet()
    desk.be_quiet()
    assert desk.loop.timers.next() == inf
    desk.succeed()
    desk.write(b"two")
    assert desk.read_all() == ["two"]


def test_records_read_before_the_first_journald_accepts_are_recorded_again(
    tmp_path: Path,
) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one")
        assert desk.read(1) == ["one"]
        desk.journald.begin()
        desk.go_round()
        desk.write(b"two")
        assert desk.read_all() == ["again one", repeated(1), "two"]


def test_a_record_that_was_in_hand_at_two_ends_is_recorded_again_twice(desk: Desk) -> None:
    desk.write(b"one")
    assert desk.read(1) == ["one"]
    desk.succeed()
    assert desk.read_all() == ["again one", repeated(1)]
    desk.succeed()
    assert desk.read_all() == ["again one", f"again {repeated(1)}", repeated(2)]


def test_journald_is_watched_again_after_its_sockets_were_away(desk: Desk) -> None:
    desk.journald.close()
    desk.go_round()
    desk.journald = Journald(desk.path)
    assert desk.write(b"one") == 0
    assert desk.recorder.resume()
    assert desk.write(b"one") == 1
    desk.go_round()
    desk.be_quiet()
    desk.journald.begin()
    desk.go_round()
    assert desk.read(1) == ["one"]
    desk.succeed()
    assert "again one" in desk.read_all()


def test_a_journald_that_refuses_the_stream_is_tried_again_only_later(desk: Desk) -> None:
    desk.write(b"one")
    desk.journald.end()
    asked = 0
    for _ in range(100):
        desk.go_round()
        asked += desk.journald.refuse()
    assert asked == 1
    desk.be_quiet()
    assert desk.journald.refuse() == 1


def test_the_end_of_journald_and_its_sockets_is_noticed_although_nothing_is_sent(
    desk: Desk,
) -> None:
    desk.journald.close()
    desk.go_round()
    assert not desk.recorder.resume()
    assert not desk.sink.reachable


def test_the_end_of_the_sockets_after_journald_is_noticed_although_nothing_is_sent(
    desk: Desk,
) -> None:
    desk.journald.end()
    desk.go_round()
    assert desk.sink.reachable
    desk.journald.close()
    desk.go_round()
    assert not desk.sink.reachable
    assert desk.recorder.blocked


def test_sockets_that_end_one_after_the_other_are_noticed_although_nothing_is_sent(
    desk: Desk,
) -> None:
    desk.journald.end()
    desk.go_round()
    desk.journald.close_streams()
    desk.go_round()
    assert desk.sink.reachable
    desk.journald.close()
    desk.go_round(monotonic() + LONGEST_PAUSE)
    assert not desk.sink.reachable


def refuse_streams(desk: Desk, count: int) -> list[float]:
    """Have journald refuse so many streams; return the pause before each of them, in seconds."""
    pauses = []
    for _ in range(count):
        began = now = monotonic()
        while not desk.journald.refuse():
            now = desk.loop.timers.next()
            desk.go_round(now)
        desk.go_round()
        pauses.append(now - began)
    return pauses


def test_refused_streams_have_nothing_recorded_again_and_are_tried_ever_more_rarely(
    tmp_path: Path,
) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one", b"two")
        pauses = refuse_streams(desk, 20)
        assert desk.read_all() == ["one", "two"]
        assert QUIET < pauses[6] < pauses[10]
        assert LONGEST_PAUSE / 2 < pauses[-1] <= LONGEST_PAUSE


def test_streams_refused_after_the_end_of_a_journald_repeat_its_records_once(desk: Desk) -> None:
    desk.write(b"one")
    assert desk.read(1) == ["one"]
    desk.journald.end()
    desk.go_round()
    refuse_streams(desk, 20)
    assert desk.read_all() == ["again one", repeated(1)]


def test_a_record_read_while_streams_were_refused_is_recorded_again_once(desk: Desk) -> None:
    desk.write(b"one")
    desk.journald.end()
    desk.go_round()
    refuse_streams(desk, 3)
    assert desk.read(1) == ["one"]  # this journald may end before it stores the record
    came: list[str] = []
    while (now := desk.loop.timers.next()) < inf:  # until nothing is unconfirmed
        desk.go_round(now)
        desk.journald.begin()
        came += desk.read_all()
    assert came.count("again one") == 1


def test_what_is_recorded_again_after_refused_streams_is_bounded(tmp_path: Path) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one")
        refuse_streams(desk, 1)
        payload = b"x" * 60_000
        for _ in range(1000):
            while not desk.write(payload):
                desk.journald.read_all()
                desk.recorder.resume()
            desk.go_round()
        desk.journald.read_all()
        desk.go_round(desk.loop.timers.next())
        desk.journald.begin()
        desk.go_round()
        again = 0
        while lines := desk.read_all():
            again += sum(line.startswith("again") for line in lines)
            desk.recorder.resume()
        assert 0 < again * len(payload) < 20_000_000


def test_no_payload_can_look_like_a_repeated_record(desk: Desk) -> None:
    desk.write(b"x\nACKD_REPEATED=1", b"\nACKD_REPEATED=1\n")
    assert desk.read_all() == ["x\nACKD_REPEATED=1", "\nACKD_REPEATED=1\n"]


def test_payloads_that_share_a_record_are_recorded_again_in_one_record(desk: Desk) -> None:
    desk.recorder.recording = Recording.BATCH
    assert desk.write(b"one", b"two") == 2
    assert desk.read(1) == ["one\nBuffer: two"]
    desk.succeed()
    (again, _) = map(parse, desk.journald.read_all())
    assert again["ACKD_REPEATED"] == b"1"
    assert payloads_of(again) == [(1, b"one"), (2, b"two")]


def test_a_start_holds_records_back_until_journald_accepts_the_stream(tmp_path: Path) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False, held=True)) as desk:
        desk.recorder.note(Record(Kind.LOG, Priority.INFO, "note"))
        assert desk.write(b"one") == 0
        desk.go_round()
        assert desk.read_all() == []
        desk.journald.begin()
        desk.go_round()
        assert desk.write(b"one") == 1
        assert desk.read_all() == ["note", "one"]


def test_a_start_holds_no_records_back_before_a_journald_that_refuses_the_stream(
    tmp_path: Path,
) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False, held=True)) as desk:
        assert desk.write(b"one") == 0
        assert desk.journald.refuse() == 1
        desk.go_round()
        assert desk.write(b"one") == 1


# From one process to the next


def may_have_ended(count: int) -> str:
    return f"journald may have ended; records repeated that may be lost: {count}"


def test_a_crash_repeats_nothing_while_the_same_journald_lives(desk: Desk) -> None:
    desk.write(b"one", b"two")
    desk.crash()
    desk.write(b"three")
    desk.go_round()
    assert desk.read_all() == ["one", "two", "three"]
    desk.be_quiet()
    assert desk.read_all() == []
    desk.be_quiet()
    desk.be_quiet()
    assert desk.recorder.unsettled == 0
    desk.succeed()
    assert desk.read_all() == []


def test_what_is_unread_at_a_restart_is_recorded_again_if_the_queue_goes_later(desk: Desk) -> None:
    desk.write(b"one", b"two")
    desk.hand_over()
    desk.go_round()
    desk.write(b"three")
    desk.journald.close()
    desk.journald = Journald(desk.path)
    assert desk.write(b"four") == 0
    assert desk.recorder.resume()
    assert desk.write(b"four") == 1
    assert desk.read_all() == ["again one", "again two", "again three", repeated(3), "four"]


def test_ackd_and_journald_end_in_the_same_moment(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(2) == ["one", "two"]
    desk.go_round()
    desk.journald.end()
    desk.crash(noticed=False)
    desk.write(b"four")
    assert desk.read(1) == ["three"]
    assert desk.read_all() == ["again one", "again two", "again three", repeated(3), "four"]


def test_ackd_journald_and_its_queue_end_in_the_same_moment(desk: Desk) -> None:
    desk.write(b"one", b"two")
    desk.journald.close()
    desk.journald = Journald(desk.path)
    desk.crash(noticed=False)
    desk.recorder.resume()
    assert desk.write(b"three") == 1
    assert desk.read_all() == ["again one", "again two", repeated(2), "three"]


def test_the_record_that_was_perhaps_being_sent_at_a_crash_is_recorded_again(desk: Desk) -> None:
    assert desk.write(b"one") == 1
    record = JournalFormat().payload(desk.recorder.prefix(ORIGIN), 2, b"two")
    assert desk.recorder.log.append(record)
    desk.crash()
    assert desk.write(b"three") == 1
    assert desk.read_all() == ["one", "again two", "three"]


def test_a_crash_in_the_middle_of_a_repetition_repeats_all_of_it(desk: Desk) -> None:
    records = [b"%d" % number for number in range(7)]
    assert desk.write(*records) == 7
    desk.read(7)
    desk.journald.end()
    with contextlib.closing(fill(desk.path)):  # so there is no room for the repeated records
        desk.go_round()
        assert desk.recorder.blocked
        desk.journald.read()
        desk.crash()
    lines = desk.read_all()
    while not desk.recorder.resume():
        lines += desk.read_all()
    lines += desk.read_all()
    again = [line for line in lines if re.fullmatch("again [0-9]", line)]
    assert again[-7:] == [f"again {number}" for number in range(7)]


def fill(path: Path) -> socket.socket:
    """Fill a socket's queue with datagrams of another sender; return the sender."""
    sender = new_socket()  # with the default buffer its own bytes could be the limit
    sender.connect(str(path))
    with contextlib.suppress(BlockingIOError):
        while True:
            sender.send(b"MESSAGE=filler\n")
    return sender


def test_a_stop_that_leaves_the_log_only_repeats_what_was_not_confirmed(desk: Desk) -> None:
    desk.write(b"one")
    desk.go_round()
    desk.be_quiet()
    desk.read_all()
    desk.be_quiet()
    desk.write(b"two", b"three")
    desk.crash(stopped=True)
    desk.write(b"four")
    expected = ["two", "three", "again two", "again three", may_have_ended(2), "four"]
    assert desk.read_all() == expected


def test_a_process_that_ends_before_the_accept_leaves_the_repetition_to_the_next(
    tmp_path: Path,
) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one")
        desk.go_round()
        for _ in range(3):
            desk.crash()
            desk.go_round()
        assert desk.read_all() == ["one"]
        desk.journald.begin()
        desk.go_round()
        assert desk.read_all() == ["again one", repeated(1)]


def test_refused_streams_repeat_nothing_over_crashes(tmp_path: Path) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one")
        for _ in range(3):
            refuse_streams(desk, 3)
            desk.crash()
        assert desk.read_all() == ["one"]


def test_nothing_is_repeated_twice_for_the_same_end_of_journald(desk: Desk) -> None:
    desk.write(b"one")
    assert desk.read(1) == ["one"]
    desk.succeed()
    for _ in range(3):
        desk.crash()
        desk.go_round()
    assert desk.read_all() == ["again one", repeated(1)]


def test_a_stop_has_a_mark_put_that_shows_at_once_that_all_is_stored(desk: Desk) -> None:
    desk.write(b"one")
    desk.recorder.sink.settle()
    desk.recorder.sink.settle()
    assert [len(datagram) > 0 for datagram in desk.journald.read_all()] == [True, False]
    desk.go_round()
    assert desk.recorder.unsettled
    desk.go_round()
    assert desk.recorder.unsettled == 0


def test_another_journald_gets_what_the_one_before_has_not_read(desk: Desk, tmp_path: Path) -> None:
    """As after own-journal: then the same path leads to the socket of another journald."""
    desk.write(b"one", b"two")
    (tmp_path / "other").mkdir()
    desk.path = tmp_path / "other" / "socket"
    with contextlib.closing(desk.journald):
        desk.journald = Journald(desk.path)
        desk.hand_over()
        desk.write(b"three")
        assert desk.read_all() == ["again one", "again two", may_have_ended(2), "three"]


def test_another_journald_gets_nothing_that_the_one_before_reads_in_a_moment(
    desk: Desk, tmp_path: Path
) -> None:
    desk.write(b"one", b"two")
    (tmp_path / "other").mkdir()
    desk.path = tmp_path / "other" / "socket"
    with contextlib.closing(desk.journald) as before:
        reader = Thread(target=before.read_to_mark)
        reader.start()
        desk.journald = Journald(desk.path)
        desk.hand_over()
        reader.join()
        desk.write(b"three")
        assert desk.read_all() == ["three"]
