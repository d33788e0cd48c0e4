"""The progress bar, on a terminal that it has to fit."""

import re
from collections.abc import Iterator
from time import monotonic

import pytest

from ackd.ctl.output.progress_bar import ProgressBar
from tests.support.screen import Screen

STYLE = r"\x1b\[[\d;]*m"  # Select Graphic Rendition, ECMA-48


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Iterator[Screen]:
    monkeypatch.setenv("TERM", "xterm")
    screen = Screen(columns=80)
    yield screen
    assert screen.read() == ""  # only the status line writes to the terminal


@pytest.mark.parametrize("width", [10, 39, 79, 200])
def test_the_bar_is_one_line_that_fits(screen: Screen, width: int) -> None:
    bar = ProgressBar(screen.stream, 100, monotonic() - 1)
    bar.update(42)
    line = re.sub(STYLE, "", bar.render("1,234,567 acknowledged 123,456/s", width))
    assert "\n" not in line
    assert len(line) <= width


def test_the_bar_shows_percentage_and_text(screen: Screen) -> None:
    bar = ProgressBar(screen.stream, 100, monotonic() - 1)
    bar.update(42)
    line = re.sub(STYLE, "", bar.render("[b]text", 79))
    assert re.fullmatch(r"━+╸?╺?━+  42% \[b\]text [-\d]:[-\d]{2}:[-\d]{2}", line)


def test_without_a_total_there_is_neither_bar_nor_percentage(screen: Screen) -> None:
    bar = ProgressBar(screen.stream, None, monotonic() - 1)
    bar.update(42)
    assert re.sub(STYLE, "", bar.render("text", 79)).startswith("text 0:00:0")
