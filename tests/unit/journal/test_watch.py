"""journald ends before it has stored all records: those that may be lost are recorded again."""

import contextlib
from collections.abc import Iterator
from math import inf
from pathlib import Path
from time import monotonic

import pytest

from ackd.config import Recording
from ackd.journal.entry import JournalFormat, payloads_of
from ackd.journal.journald import JournaldSocket
from ackd.journal.recorder import Recorder
from ackd.journal.storing import Storing
from ackd.journal.watch import LONGEST_PAUSE, QUIET
from ackd.loop import Loop
from ackd.records import Origin
from tests.support.journal_socket import Entry, parse
from tests.support.journald import Journald

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")


class Desk:
    """A recorder, journald, and a loop that goes round when a test says so."""

    def __init__(self, path: Path, begun: bool = True) -> None:
        self.path = path
        self.journald = Journald(path)
        self.loop = Loop()
        self.recorder = Recorder(
            JournaldSocket(str(path), Storing(str(path), {}, is_service=False)), JournalFormat()
        )
        self.recorder.watch(self.loop)
        self._written = 0
        if begun:
            self.journald.begin()
            self.go_round()

    def write(self, *payloads: bytes) -> int:
        prefix = self.recorder.prefix(ORIGIN)
        taken = self.recorder.write(prefix, self._written + 1, list(payloads))
        self._written += taken
        return taken

    def go_round(self, now: float = -inf) -> None:
        """Do what the server does in a round."""
        self.loop.handle(self.loop.wait(0))
        self.loop.meet_deadlines(now)
        self.recorder.sink.look()

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


def test_records_read_before_the_first_journald_accepts_are_not_recorded_again(
    tmp_path: Path,
) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one")
        assert desk.read(1) == ["one"]
        desk.journald.begin()
        desk.go_round()
        desk.write(b"two")
        assert desk.read_all() == ["two"]


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
