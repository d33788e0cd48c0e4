"""Latencies in bounded memory, what is read off them, and times without acks."""

import tracemalloc
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.ctl.runs.latency import Latencies, Outage, Outages

DAY = 86_400 * 10**9  # ns


def latencies(*nanoseconds: int) -> Latencies:
    held = Latencies()
    for value in nanoseconds:
        held.add(value)
    return held


def test_the_figures_of_a_thousand() -> None:
    assert latencies(*(1_000_000 * n for n in range(1, 1001))).figures() == [
        ("min", 0.001),
        ("mean", 0.5005),
        ("p50", pytest.approx(0.5, rel=0.001)),
        ("p95", pytest.approx(0.95, rel=0.001)),
        ("p99", pytest.approx(0.99, rel=0.001)),
        ("p99.9", pytest.approx(0.999, rel=0.001)),
        ("max", 1.0),
    ]


def test_of_a_single_one_all_figures_are_that_one() -> None:
    assert {value for _, value in latencies(224_123).figures()} == {0.000224123}


def test_of_none_there_are_no_figures() -> None:
    assert latencies().figures() == []
    assert latencies().steps([0, 1000, DAY]) == []


@settings(deadline=None)
@given(st.lists(st.integers(0, DAY), min_size=1), st.sampled_from([1, 500, 950, 990, 999, 1000]))
def test_a_quantile_is_at_most_a_thousandth_above_the_true_one(
    values: list[int], permille: int
) -> None:
    rank = -(-permille * len(values) // 1000)
    true = sorted(values)[rank - 1]
    assert true <= latencies(*values).quantile(permille) <= true + Fraction(true, 1000)


def test_a_day_is_counted_as_well_as_a_nanosecond() -> None:
    assert latencies(1, DAY).steps([0, 1000, 10**6, DAY + DAY // 1000]) == [
        (0, 1000, 1),
        (1000, 10**6, 0),
        (10**6, DAY + DAY // 1000, 1),
    ]


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
def test_no_step_loses_any(values: list[int]) -> None:
    bounds = [0, *(10**power for power in range(3, 12))]
    assert sum(count for *_, count in latencies(*values).steps(bounds)) == len(values)


# Outages


def test_an_outage_lasts_from_the_first_payload_without_ack_to_the_next_ack() -> None:
    outages = Outages()
    outages.end(1, 99.0)
    outages.begin(1, 101.0)
    outages.begin(1, 102.0)
    outages.end(1, 103.5)
    outages.end(1, 104.0)
    assert outages.finish(200.0) == [Outage(2.5, 101.0, 103.5, connections=1)]


def test_one_that_is_not_over_lasts_to_the_end() -> None:
    outages = Outages()
    outages.begin(1, 101.0)
    assert outages.finish(200.0) == [Outage(99.0, 101.0, 200.0, connections=1, over=False)]


def test_those_of_several_connections_that_overlap_are_one() -> None:
    outages = Outages()
    outages.begin(1, 101.0)
    outages.begin(2, 100.0)  # sent earlier, but given up later
    outages.end(1, 103.0)
    outages.begin(3, 104.0)
    outages.end(2, 105.0)
    outages.end(3, 106.0)
    outages.begin(1, 110.0)
    outages.end(1, 111.0)
    assert outages.finish(200.0) == [
        Outage(6.0, 100.0, 106.0, connections=3),
        Outage(1.0, 110.0, 111.0, connections=1),
    ]


def test_of_very_many_the_longest_are_kept_and_all_are_counted() -> None:
    outages = Outages()
    for n in range(1000):
        outages.begin(1, 10.0 * n)
        outages.end(1, 10.0 * n + n % 7)
    kept = outages.finish(10_000.0)
    assert (outages.count, len(kept)) == (1000, 100)
    assert {outage.seconds for outage in kept} == {6.0}
    assert kept == sorted(kept, key=lambda outage: outage.since)
