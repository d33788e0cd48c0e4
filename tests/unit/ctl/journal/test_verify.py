"""The status line of `ackctl verify` while it reads a long journal."""

from datetime import datetime

import pytest

from ackd.ctl.journal.entries import RecordedPayload
from ackd.ctl.journal.verify import RunFound
from ackd.ctl.output.status_line import StatusLine
from tests.support.screen import CLEAR, Screen

TIME = datetime(2026, 11, 25, 15, 18).astimezone()
RECORDED = RecordedPayload(
    TIME, "192.0.2.1", 1, "192.0.2.2:10008", "a", 1, b"hello", False, False, "", None
)


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    monkeypatch.setenv("TERM", "xterm")
    return Screen(columns=80)


def read(payloads: int, screen: Screen) -> str:
    """Return what a terminal shows while so many payloads are read."""
    with StatusLine(screen.stream) as line:
        RunFound("1a2b3c4d").add_all([RECORDED] * payloads, line)
    return screen.read()


def test_a_terminal_shows_how_many_payloads_are_read(screen: Screen) -> None:
    shown = read(100_000, screen)
    assert "100,000 payloads read, up to 2026-11-25 15:18" in shown
    assert shown.endswith(CLEAR)  # the line is removed


def test_a_short_journal_shows_nothing(screen: Screen) -> None:
    assert read(49_999, screen) == ""
