"""A journald that ends with records in hand, and what is recorded once more."""

import contextlib
import select
from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from ackd.config import Recording
from ackd.journal.entry import JournalFormat, payloads_of
from ackd.journal.journald import JournalSocket
from ackd.journal.recorder import Recorder
from ackd.journal.watch import QUIET, Vigil
from ackd.records import Origin
from tests.support.journal_socket import Entry, parse
from tests.support.journald import Journald

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")


class Desk:
    """A recorder under a vigil; the loop goes round when a test says so."""

    def __init__(self, path: Path, begun: bool = True) -> None:
        self.path = path
        self.journald = Journald(path)
        self.sink = JournalSocket(str(path))
        self.recorder = Recorder(self.sink, JournalFormat())
        self.vigil = Vigil(self.recorder, self.sink)
        self._written = 0
        self._now = 0.0
        if begun:
            self.journald.begin()
            self.go_round()

    def write(self, *payloads: bytes) -> int:
        origin = self.recorder.origin(ORIGIN)
        taken = self.recorder.write(origin, self._written + 1, list(payloads))
        self._written += taken
        return taken

    def go_round(self) -> None:
        """Do what the loop does."""
        if select.select([self.vigil], [], [], 0)[0]:
            self.vigil.on_event()
        self.vigil.attend(self._now)

    def succeed(self) -> None:
        """Let journald end and another one begin, and the loop go round after each."""
        self.journald.end()
        self.go_round()
        self.journald.begin()
        self.go_round()

    def be_quiet(self) -> None:
        """Go round twice after some time in which nothing is written."""
        for _ in range(2):
            self._now += QUIET
            self.go_round()

    def read(self, count: int) -> list[str]:
        return [shown(parse(self.journald.read())) for _ in range(count)]

    def read_all(self) -> list[str]:
        return [shown(parse(datagram)) for datagram in self.journald.read_all() if datagram]

    def close(self) -> None:
        self.vigil.close()
        self.recorder.close()
        self.journald.close()


def shown(entry: Entry) -> str:
    mark = "again " if entry.get("ACKD_REPEATED") == b"1" else ""
    return mark + entry["MESSAGE"].decode().removeprefix("Buffer: ")


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with contextlib.closing(Desk(tmp_path / "socket")) as desk:
        yield desk


def told(count: int) -> str:
    return f"journald has ended; records repeated that may be lost: {count}"


def test_what_it_had_in_hand_when_it_ended_is_recorded_again(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(2) == ["one", "two"]
    desk.go_round()
    desk.go_round()
    desk.succeed()
    assert desk.read_all() == ["three", "again two", told(1)]


def test_what_has_been_read_unseen_is_recorded_again_as_well(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(1) == ["one"]
    desk.go_round()
    desk.go_round()
    assert desk.read(1) == ["two"]
    desk.succeed()
    assert desk.read_all() == ["three", "again one", "again two", told(2)]


def test_its_queue_is_recorded_again_if_that_has_gone_as_well(desk: Desk) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(1) == ["one"]
    desk.go_round()
    desk.go_round()
    desk.journald.close()
    desk.journald = Journald(desk.path)
    assert desk.write(b"four") == 0
    assert desk.recorder.resume()
    assert desk.write(b"four") == 1
    assert desk.read_all() == ["again one", "again two", "again three", told(3), "four"]


def test_what_one_had_in_hand_that_was_gone_before_it_accepted_is_recorded_again(
    desk: Desk,
) -> None:
    desk.write(b"one", b"two", b"three")
    assert desk.read(1) == ["one"]
    desk.go_round()
    desk.go_round()
    desk.journald.end()
    desk.go_round()
    assert desk.read(1) == ["two"]  # by one that does no more than this
    for _ in range(3):
        desk.go_round()
    desk.journald.begin()
    desk.go_round()
    assert desk.read_all() == ["three", "again one", told(1), "again two", told(1)]


def test_nothing_is_recorded_again_that_it_has_had_time_for(desk: Desk) -> None:
    desk.write(b"one")
    desk.go_round()
    desk.be_quiet()
    assert desk.read_all() == ["one"]
    desk.be_quiet()
    assert desk.vigil.due == inf
    desk.succeed()
    desk.write(b"two")
    assert desk.read_all() == ["two"]


def test_what_is_read_before_the_first_is_met_is_not_recorded_again(tmp_path: Path) -> None:
    with contextlib.closing(Desk(tmp_path / "socket", begun=False)) as desk:
        desk.write(b"one")
        assert desk.read(1) == ["one"]
        desk.journald.begin()
        desk.go_round()
        desk.write(b"two")
        assert desk.read_all() == ["two"]


def test_one_that_ends_twice_with_the_same_record_in_hand_has_it_again(desk: Desk) -> None:
    desk.write(b"one")
    assert desk.read(1) == ["one"]
    desk.succeed()
    assert desk.read_all() == ["again one", told(1)]
    desk.succeed()
    assert desk.read_all() == ["again one", f"again {told(1)}", told(2)]


def test_it_is_watched_again_when_its_sockets_were_away(desk: Desk) -> None:
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


def test_one_that_takes_no_streams_is_asked_again_only_later(desk: Desk) -> None:
    desk.write(b"one")
    desk.journald.end()
    asked = 0
    for _ in range(100):
        desk.go_round()
        asked += desk.journald.refuse()
    assert asked == 1
    desk.be_quiet()
    assert desk.journald.refuse() == 1


def test_a_payload_can_not_look_like_one_that_is_there_again(desk: Desk) -> None:
    desk.write(b"x\nACKD_REPEATED=1", b"\nACKD_REPEATED=1\n")
    assert desk.read_all() == ["x\nACKD_REPEATED=1", "\nACKD_REPEATED=1\n"]


def test_payloads_that_share_a_record_are_recorded_again_together(desk: Desk) -> None:
    desk.recorder.recording = Recording.BATCH
    assert desk.write(b"one", b"two") == 2
    assert desk.read(1) == ["one\nBuffer: two"]
    desk.succeed()
    (again, _) = map(parse, desk.journald.read_all())
    assert again["ACKD_REPEATED"] == b"1"
    assert payloads_of(again) == [(1, b"one"), (2, b"two")]
