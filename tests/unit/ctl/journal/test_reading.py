"""What a terminal shows while the journal is read."""

import contextlib
import os
import pty
from collections.abc import Iterator
from datetime import datetime
from typing import BinaryIO

import pytest

from ackd.ctl.journal.reading import Reading

TIME = datetime(2026, 11, 25, 15, 18).astimezone()


def shown(screen: int, line: int, payloads: int) -> str:
    """Return what comes out at the other end of the descriptor `line`."""
    with open(line, "w") as stream, Reading(stream) as reading:
        for _ in range(payloads):
            reading.tell(TIME)
    with open(screen, "rb") as end:
        return b"".join(chunks(end)).decode()


def chunks(end: BinaryIO) -> Iterator[bytes]:
    with contextlib.suppress(OSError):  # EIO, at the end of a terminal
        while chunk := os.read(end.fileno(), 65536):
            yield chunk


def test_a_terminal_shows_how_far_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    told = shown(*pty.openpty(), 100_000)
    assert "100,000 payloads read, up to 2026-11-25 15:18" in told
    assert told.endswith("\x1b[2K")  # the line is cleared, for what comes then


def test_what_is_soon_read_shows_nothing() -> None:
    assert shown(*pty.openpty(), 49_999) == ""


def test_a_pipe_is_told_nothing() -> None:
    assert shown(*os.pipe(), 100_000) == ""


def test_without_a_standard_error_nothing_is_told() -> None:
    with Reading(None) as reading:
        for _ in range(100_000):
            reading.tell(TIME)
