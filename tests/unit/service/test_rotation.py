"""When ackd asks for an archived file of the journal."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from ackd.loop import Loop
from ackd.service.rotation import Rotation


@dataclass
class FilledLog:
    """A log of 100 bytes."""

    read: int
    safe: int
    size: int

    @property
    def room(self) -> int:
        return 100 - self.size


@pytest.mark.parametrize(
    ("log", "asks"),
    [
        (FilledLog(10, 0, 49), False),
        (FilledLog(10, 0, 50), True),
        (FilledLog(10, 0, 100), True),
        (FilledLog(10, 10, 100), False),  # the journal does not even have the others
    ],
)
def test_a_file_asks_when_half_of_the_log_is_in_use(
    tmp_path: Path, log: FilledLog, asks: bool
) -> None:
    rotation = Rotation(Loop(), log, str(tmp_path))
    rotation.on_deadline()
    assert (tmp_path / "rotate").exists() == asks


def test_each_look_sets_the_next_and_a_request_needs_time(tmp_path: Path) -> None:
    log = FilledLog(10, 0, 0)
    rotation = Rotation(Loop(), log, str(tmp_path))
    rotation.on_deadline()
    usual = rotation.deadline
    log.size = 100
    rotation.on_deadline()
    assert rotation.deadline > usual + 1


def test_a_directory_that_is_gone_does_no_harm(tmp_path: Path) -> None:
    Rotation(Loop(), FilledLog(10, 0, 100), str(tmp_path / "none")).on_deadline()
