"""Times as they are shown, to the letter."""

import pytest

from ackd.ctl.output.figures import aligned, clock, histogram, many, milliseconds
from tests.unit.ctl.runs.test_latency import latencies


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0.0002244, "0.224 ms"), (0.0, "0.000 ms"), (15.0, "15,000.000 ms"), (5e-7, "0.001 ms")],
)
def test_a_duration_is_shown_in_milliseconds(seconds: float, shown: str) -> None:
    assert milliseconds(seconds) == shown


def test_a_time_of_day_is_never_rounded_up_to_the_next_second() -> None:
    at = 1_795_600_799.99996
    assert clock(at).endswith(":59.999")
    assert clock(at, date=True) == f"2026-11-{clock(at, date=True)[8:10]} {clock(at)}"


def test_names_and_values_are_aligned() -> None:
    assert aligned([("min", "0.224 ms"), ("p99.9", "1,000.000 ms")]) == [
        "min        0.224 ms",
        "p99.9  1,000.000 ms",
    ]


def test_a_histogram_has_a_line_for_each_step_between_the_fastest_and_the_slowest() -> None:
    took = [150_000] * 1000 + [350_000] * 500 + [7_000_000]
    assert histogram(latencies(*took)) == [
        f"0.100 to  0.200 ms  1,000  {'█' * 40}",
        f"0.200 to  0.500 ms    500  {'█' * 20}",
        "0.500 to  1.000 ms      0",
        "1.000 to  2.000 ms      0",
        "2.000 to  5.000 ms      0",
        "5.000 to 10.000 ms      1  ▏",
    ]


def test_a_bar_is_as_long_as_eighths_of_a_letter_allow() -> None:
    took = [150_000] * 320 + [350_000] * 163
    assert histogram(latencies(*took))[1].endswith(f"  163  {'█' * 20}▍")


def test_without_latencies_there_is_no_histogram() -> None:
    assert histogram(latencies()) == []


def test_one_is_no_plural() -> None:
    assert [many(n, "client") for n in (0, 1, 1000)] == ["0 clients", "1 client", "1,000 clients"]
