"""Times and counts as they are shown."""

import pytest

from ackd.ctl.output.figures import clock, many, milliseconds


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


def test_one_is_not_plural() -> None:
    assert [many(n, "client") for n in (0, 1, 1000)] == ["0 clients", "1 client", "1,000 clients"]
