"""Texts and figures as they fit a terminal."""

import pytest

from ackd.ctl.output.figures import histogram
from ackd.ctl.output.streams import Output
from ackd.ctl.output.terminal import wrapped
from ackd.ctl.probe.finding import Finding, Outcome, Stage, Summary
from ackd.ctl.probe.report import ProbeReport
from ackd.ctl.runs.payloads import Run
from tests.support.screen import Screen

TEXT = "connection refused: nothing listens on that port, or a firewall refuses"


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_a_terminal_breaks_no_words(columns: int) -> None:
    screen = Screen(columns)
    lines = wrapped(TEXT, screen.stream)
    screen.read()
    assert max(map(len, lines)) <= columns
    assert " ".join(lines) == TEXT


def test_elsewhere_a_text_is_one_line() -> None:
    assert wrapped(TEXT, None) == [TEXT]
    assert wrapped("", None) == [""]


def test_an_empty_line_stays() -> None:
    screen = Screen(40)
    assert wrapped("", screen.stream) == [""]
    screen.read()


@pytest.mark.parametrize("columns", [20, 40, 80, 200])
def test_the_bars_of_a_histogram_fit(columns: int) -> None:
    screen = Screen(columns)
    steps = [(100_000, 200_000, 7), (200_000, 500_000, 123_456), (500_000, 1_000_000, 1)]
    lines = histogram(steps, screen.stream)
    screen.read()
    bars = [len(line) - line.rindex("  ") - 2 for line in lines]
    assert bars[1] == max(1, min(40, columns - 1 - lines[1].rindex("  ") - 2))


@pytest.mark.parametrize("columns", [40, 80, 120])
def test_a_probe_breaks_no_words(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    screen = Screen(columns)
    report = ProbeReport(Output(screen.stream, None))
    report.begin("1a2b3c4d", "a-rather-long-name.example.org port 10008")
    report.found(Finding(Stage.CONNECTED, Outcome.FAILED, TEXT, 0.001, "192.0.2.17"))
    report.found(Finding(Stage.SENT, Outcome.NOT_TRIED))
    report.end(Summary(Run("1a2b3c4d"), acknowledged=1, meanings=[f"{TEXT} {TEXT}"]))
    shown = screen.read().replace("\r\n", "\n")
    assert max(map(len, shown.splitlines())) <= columns
    assert " ".join(shown.split()).count(TEXT) == 3
