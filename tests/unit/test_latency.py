"""Latencies in bounded memory, and what is read off them."""

import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.latency import Latencies

DAY = 86_400 * 10**9  # ns


def latencies(*nanoseconds: int, bits: int = 11) -> Latencies:
    held = Latencies(bits)
    for value in nanoseconds:
        held.add(value)
    return held


def test_figures_of_a_thousand_durations() -> None:
    assert latencies(*(1_000_000 * n for n in range(1, 1001))).figures() == [
        ("min", 0.001),
        ("mean", 0.5005),
        ("p50", pytest.approx(0.5, rel=0.001)),
        ("p95", pytest.approx(0.95, rel=0.001)),
        ("p99", pytest.approx(0.99, rel=0.001)),
        ("p99.9", pytest.approx(0.999, rel=0.001)),
        ("max", 1.0),
    ]


def test_all_figures_of_a_single_duration_are_that_duration() -> None:
    assert {value for _, value in latencies(224_123).figures()} == {0.000224123}


def test_no_durations_have_no_figures() -> None:
    assert latencies().figures() == []
    assert latencies().steps([0, 1000, DAY]) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, DAY), min_size=1), st.sampled_from([1, 500, 950, 990, 999, 1000]))
def test_a_quantile_is_at_most_a_thousandth_above_the_exact_one(
    values: list[int], permille: int
) -> None:
    rank = -(-permille * len(values) // 1000)
    true = sorted(values)[rank - 1]
    assert true <= latencies(*values).quantile(permille) <= true + Fraction(true, 1000)


@settings(deadline=None)
@given(st.lists(st.integers(0, DAY), min_size=1), st.sampled_from([1, 500, 990, 1000]))
def test_with_few_bits_a_quantile_is_at_most_a_sixteenth_above(
    values: list[int], permille: int
) -> None:
    true = sorted(values)[-(-permille * len(values) // 1000) - 1]
    assert true <= latencies(*values, bits=5).quantile(permille) <= true + Fraction(true, 16)


def test_a_day_and_a_nanosecond_are_counted() -> None:
    assert latencies(1, DAY).steps([0, 1000, 10**6, DAY + DAY // 1000]) == [
        (0, 1000, 1),
        (1000, 10**6, 0),
        (10**6, DAY + DAY // 1000, 1),
    ]


@settings(deadline=None)
@given(st.lists(st.integers(0, DAY)), st.lists(st.integers(0, DAY)))
def test_durations_of_two_objects_count_together(some: list[int], others: list[int]) -> None:
    both = latencies(*some, bits=5)
    both.add_all(latencies(*others, bits=5))
    assert both.figures() == latencies(*some, *others, bits=5).figures()


def test_memory_does_not_grow() -> None:
    held = latencies()
    tracemalloc.start()
    for value in range(0, DAY, DAY // 20_000):
        held.add(value)
    grown, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert grown < 1000


@settings(deadline=None)
@given(st.lists(st.integers(0, 10**10)))
def test_steps_count_all_durations(values: list[int]) -> None:
    bounds = [0, *(10**power for power in range(3, 12))]
    assert sum(count for *_, count in latencies(*values).steps(bounds)) == len(values)
