"""The times that --since takes."""

import shutil
from argparse import ArgumentTypeError
from time import time

import pytest

from ackd.ctl.journal.since import since
from ackd.ctl.main import parser

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


@needs_systemd
@pytest.mark.parametrize("text", ["-1h", "-1min", "-90s", "-2 weeks", "+1h", "now"])
@pytest.mark.parametrize("verb", ["log", "verify"])
def test_a_time_that_begins_with_a_dash_is_no_option(verb: str, text: str) -> None:
    run = ("night",) if verb == "verify" else ()
    options = parser(verb).parse_args([verb, "--since", text, *run])
    assert options.since == pytest.approx(since(text), abs=60)


def test_a_missing_time_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parser("log").parse_args(["log", "--since", "--json"])
    assert "argument --since: expected one argument" in capsys.readouterr().err
