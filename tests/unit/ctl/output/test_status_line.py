"""The status line on a real terminal."""

import contextlib
import os
from collections.abc import Iterator

import pytest

from ackd.ctl.output.status_line import StatusLine
from ackd.ctl.output.streams import Output
from tests.support.screen import CLEAR, Screen


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(columns=10)
    yield screen
    screen.stream.close()


def test_the_line_is_overwritten_and_removed(screen: Screen) -> None:
    with StatusLine(screen.stream) as line:
        line.show("one")
        line.show("two")
    assert screen.read() == f"{CLEAR}one{CLEAR}two{CLEAR}"


def test_a_line_that_was_never_shown_leaves_no_trace(screen: Screen) -> None:
    with StatusLine(screen.stream):
        pass
    assert screen.read() == ""


def test_a_text_is_cut_so_that_the_last_column_stays_free(screen: Screen) -> None:
    StatusLine(screen.stream).show("0123456789")
    assert screen.read() == f"{CLEAR}012345678"


def test_the_line_waits_before_it_appears(screen: Screen) -> None:
    line = StatusLine(screen.stream, after=3600)
    line.show("one")
    assert 3599 < line.due() <= 3600
    assert not line.shown
    assert screen.read() == ""


def test_the_line_waits_between_two_texts(screen: Screen) -> None:
    line = StatusLine(screen.stream, every=3600)
    line.show("one")
    line.show("two")
    assert 3599 < line.due() <= 3600
    assert screen.read() == f"{CLEAR}one"


def test_a_line_that_has_ended_does_not_come_back(screen: Screen) -> None:
    line = StatusLine(screen.stream)
    line.show("one")
    line.end()
    line.show("two")
    assert screen.read() == f"{CLEAR}one{CLEAR}"


def test_the_line_makes_room_for_other_output(screen: Screen) -> None:
    output = Output(None, screen.stream)
    output.status_line().show("one")
    output.warn("two")
    assert screen.read() == f"{CLEAR}one{CLEAR}ackctl: two\r\none"


def test_a_line_that_was_cleared_is_shown_again_only_with_a_text(screen: Screen) -> None:
    output = Output(None, screen.stream)
    line = output.status_line()
    line.show("one")
    line.clear()
    output.warn("two")
    line.show("three")
    assert screen.read() == f"{CLEAR}one{CLEAR}ackctl: two\r\n{CLEAR}three"


def test_output_that_fails_leaves_the_terminal_clean(screen: Screen) -> None:
    # Closing the file writes, and fails, once more.
    with contextlib.suppress(OSError), open("/dev/full", "w") as full:
        output = Output(full, screen.stream)
        output.status_line().show("one")
        with pytest.raises(OSError, match="No space left"):
            output.print("two")
    assert screen.read() == f"{CLEAR}one{CLEAR}"


def test_a_dumb_terminal_shows_no_line(screen: Screen, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "dumb")
    StatusLine(screen.stream).show("one")
    assert screen.read() == ""


def test_a_pipe_and_a_closed_stream_get_no_line() -> None:
    reader, writer = os.pipe()
    with open(reader) as end:
        with open(writer, "w") as stream:
            StatusLine(stream).show("one")
            StatusLine(None).show("one")
        assert end.read() == ""
