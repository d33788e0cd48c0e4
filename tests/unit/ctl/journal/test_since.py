"""The times that --since takes."""

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
def test_dates(text: str, seconds: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    assert since(text) == seconds


@needs_systemd
@pytest.mark.parametrize("text", ["-1h", "1h ago", "1 hour ago"])
def test_times_relative_to_now(text: str) -> None:
    before = time()
    assert before - 3601 < since(text) <= time() - 3600


@needs_systemd
def test_a_day_begins_at_local_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "JST-9")
    assert (since("today") + 9 * 3600) % 86400 == 0
    assert since("today") - since("yesterday") == 86400


@needs_systemd
@pytest.mark.parametrize("text", ["", "soon", "2026-13-01", "today\ntomorrow", "\0", "--help"])
def test_other_texts_are_reported(text: str) -> None:
    with pytest.raises(ArgumentTypeError, match=r"is no time|can't be read"):
        since(text)


def test_a_host_without_systemd_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(
        ArgumentTypeError, match=r"'today' can't be read: systemd-analyze: .*No such"
    ):
        since("today")
