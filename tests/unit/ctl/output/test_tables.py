"""Rows of names and values as they are shown."""

from ackd.ctl.output.tables import aligned, counted, table


def test_names_and_values_are_aligned() -> None:
    assert aligned([("min", "0.224 ms"), ("p99.9", "1,000.000 ms")]) == [
        "min        0.224 ms",
        "p99.9  1,000.000 ms",
    ]


def test_numbers_are_aligned_in_front_of_their_names() -> None:
    assert counted([("1", "sent"), ("123456789", "missing")]) == [
        "        1  sent",
        "123456789  missing",
    ]


def test_a_table_that_no_terminal_shows_is_only_aligned() -> None:
    assert table([("sent", "1")], None) == ["", "sent  1"]
