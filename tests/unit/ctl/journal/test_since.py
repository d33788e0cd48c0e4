"""A moment as people write it."""

import shutil
from argparse import ArgumentTypeError
from time import time

import pytest

from ackd.ctl.journal.since import since

needs_systemd = pytest.mark.skipif(
    not shutil.which("systemd-analyze"), reason="systemd is not installed"
)


@needs_systemd
@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("2026-11-25 10:00", 1795600800.0),
        ("2026-11-25 10:00:00.5", 1795600800.5),
        ("2026-11-25", 1795564800.0),
        ("2026-11-25 10:00 UTC", 1795600800.0),
        ("@1795600800", 1795600800.0),
    ],
)
def test_a_date(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert since(text) == seconds


@needs_systemd
@pytest.mark.parametrize("text", ["-1h", "1h ago", "1 hour ago"])
def test_so_long_ago(text: str) -> None:
    before = time()
    assert before - 3601 < since(text) <= time() - 3600


@needs_systemd
def test_a_day_begins_at_midnight_here(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    assert (since("today") + 9 * 3600) % 86400 == 0
    assert since("today") - since("yesterday") == 86400


@needs_systemd
@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "today\ntomorrow", "\0", "--help"])
def test_what_is_no_time_is_told_so(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is no time|can't be read"):
        since(text)


def test_without_systemd_it_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ArgumentTypeError, match=r"'today' can't be read: systemd-analyze: .*No such"
    ):
        since("today")
