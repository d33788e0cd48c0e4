"""The lines of `ackctl log`."""

import argparse
from datetime import datetime

import pytest

from ackd.ctl.journal.entries import RecordedPayload
from ackd.ctl.journal.log import LogReport, Wanted
from ackd.ctl.output.streams import Output
from ackd.ctl.runs.payloads import Run

TIME = datetime(2026, 11, 25, 15, 18).astimezone()


def microseconds(time: datetime) -> int:
    return int(time.timestamp() * 1e6)


RECORDED = RecordedPayload(
    *(microseconds(TIME), "192.0.2.1", 4711, "192.0.2.2:10008", "a", 1, b"hello"),
    *(False, False, "", "ackd.service", None),
)


def line(payload: bytes = b"hello", unit: str = "ackd.service") -> str:
    """Return what follows the time."""
    whole = LogReport(Output(None, None)).line(RECORDED._replace(payload=payload, unit=unit))
    return whole.removeprefix("2026-11-25 15:18:00.000 192.0.2.1 port 4711")


def test_the_unit_is_shown_unless_it_is_the_one_that_everybody_has() -> None:
    assert line() == " #1: hello"
    assert line(unit="ackd@north.service") == " to ackd@north #1: hello"
    assert line(unit="session-1.scope") == " to session-1.scope #1: hello"
    assert line(unit="") == " #1: hello"


def test_a_payload_that_was_repeated_or_ended_without_a_line_end_is_marked() -> None:
    report = LogReport(Output(None, None))
    assert report.line(RECORDED._replace(repeated=True)).endswith(" #1 repeated: hello")
    assert report.line(RECORDED._replace(unterminated=True)).endswith(" #1 unterminated: hello")


SHOWN = {
    b"a  table   with columns": "a  table   with columns",
    b"a" + b" " * 7 + b"b": "a       b",
    b"a" + b" " * 8 + b"b": r"a\x20{8}b",
    b" " * 400 + b"2026-11-25 15:18:00.000": r"\x20{400}2026-11-25 15:18:00.000",
    b"a" + b" " * 9: r"a\x20{9}",
    rb"a\x20{9}": r"a\\x20{9}",
    "a{}b".format("\u2800" * 40).encode(): r"a\u2800{40}b",
    "a{}b".format(" \u3164" * 4).encode(): r"a" + r"\x20{1}\u3164{1}" * 4 + "b",
}


@pytest.mark.parametrize(("payload", "shown"), SHOWN.items())
def test_no_run_of_blanks_makes_a_line_look_like_two(payload: bytes, shown: str) -> None:
    assert line(payload) == f" #1: {shown}"


@pytest.mark.parametrize(
    ("payload", "shown"),
    [
        (Run().payload(1), False),
        (Run().end(1), False),
        (Run("night", b"0123456789abcdef").payload(1), False),
        (Run().payload(1) + b"\r", True),  # altered: something to look at
        (b"ackctl run=night", True),
        (b"hello", True),
    ],
    ids=range(6),  # the names of the runs differ in each process of the tests
)
def test_payloads_of_runs_can_be_left_out(payload: bytes, shown: bool) -> None:
    recorded = RECORDED._replace(payload=payload)
    assert Wanted(argparse.Namespace(directory=None, peer=None, no_runs=True))(recorded) == shown
    assert Wanted(argparse.Namespace(directory=None, peer=None, no_runs=False))(recorded)
