"""What a terminal shows while the journal is read."""

import os
import pty
from collections.abc import Iterator
from datetime import datetime
from typing import TextIO

import pytest

from ackd.ctl.reading import Reading

TIME = datetime(2026, 11, 25, 15, 18).astimezone()


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, TextIO]]:
    """The screen's end of a terminal, and a stream on the other."""
    monkeypatch.setenv("TERM", "xterm")
    screen, line = pty.openpty()
    with open(line, "w") as stream:
        yield screen, stream
    os.close(screen)


def shown(screen: int, reading: Reading, payloads: int) -> str:
    with reading:
        for _ in range(payloads):
            reading.tell(TIME)
    os.set_blocking(screen, False)
    try:
        return os.read(screen, 65536).decode()
    except BlockingIOError:
        return ""


def test_a_terminal_shows_how_far_it_is(terminal: tuple[int, TextIO]) -> None:
    screen, stream = terminal
    told = shown(screen, Reading(stream), 100_000)
    assert "100,000 payloads read, up to 2026-11-25 15:18" in told
    assert "\x1b[2K" in told  # the line is cleared, for what comes then


def test_what_is_soon_read_shows_nothing(terminal: tuple[int, TextIO]) -> None:
    screen, stream = terminal
    assert shown(screen, Reading(stream), 49_999) == ""


def test_a_pipe_is_told_nothing(tmp_path_factory: pytest.TempPathFactory) -> None:
    out, into = os.pipe()
    with open(into, "w") as stream:
        assert shown(out, Reading(stream), 100_000) == ""
    os.close(out)


def test_without_a_standard_error_nothing_is_told() -> None:
    with Reading(None) as reading:
        for _ in range(100_000):
            reading.tell(TIME)
