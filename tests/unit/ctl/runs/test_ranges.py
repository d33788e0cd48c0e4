"""A set of numbers as ranges."""

from hypothesis import given
from hypothesis import strategies as st

from ackd.ctl.runs.ranges import Ranges

numbers = st.integers(1, 40)


def of(*members: int) -> Ranges:
    ranges = Ranges()
    for member in members:
        ranges.add(member)
    return ranges


def test_consecutive_numbers_share_a_range() -> None:
    assert list(of(5, 1, 2, 7, 3, 6)) == [(1, 3), (5, 7)]
    assert list(of(5, 1, 2, 7, 3, 6, 4)) == [(1, 7)]


def test_adding_returns_whether_the_number_is_new() -> None:
    ranges = of(1, 2)
    assert not ranges.add(2)
    assert ranges.add(3)


def test_numbers_far_apart_are_counted_one_by_one() -> None:
    ranges = of(10**18, 1, 10**18)
    assert (ranges.count, ranges.highest) == (2, 10**18)
    assert list(ranges) == [(1, 1), (10**18, 10**18)]
    assert list(ranges.gaps(1, 10**18)) == [(2, 10**18 - 1)]
    assert ranges.gaps(1, 10**18).count == 10**18 - 2


def test_numbers_beyond_a_limit() -> None:
    assert list(of(3, 4, 7).beyond(3)) == [(4, 4), (7, 7)]
    assert not of(3, 4, 7).beyond(7)


def test_the_empty_set_has_no_ranges_and_is_false() -> None:
    assert (list(of()), of().count, of().highest, bool(of())) == ([], 0, 0, False)


def test_gaps_include_both_ends() -> None:
    assert list(of(3, 4, 7).gaps(1, 9)) == [(1, 2), (5, 6), (8, 9)]
    assert list(of(3, 4, 7).gaps(4, 7)) == [(5, 6)]
    assert list(of().gaps(1, 2)) == [(1, 2)]


@given(st.lists(numbers), numbers, numbers)
def test_ranges_are_a_set(members: list[int], first: int, last: int) -> None:
    ranges = of(*members)
    assert ranges.count == len(set(members))
    assert ranges.highest == max(members, default=0)
    assert expanded(ranges) == sorted(set(members))
    assert expanded(ranges.gaps(first, last)) == sorted(set(range(first, last + 1)) - set(members))


@given(st.lists(st.integers(1, 400), max_size=400), st.integers(1, 400))
def test_ranges_that_are_read_between_two_numbers_are_a_set(members: list[int], at: int) -> None:
    ranges = of(*members[:at])
    assert expanded(ranges) == sorted(set(members[:at]))
    new = [number for number in members[at:] if ranges.add(number)]
    assert sorted({*members[:at], *new}) == expanded(ranges)
    assert len(new) == len(set(members) - set(members[:at]))


@given(st.lists(numbers))
def test_each_number_is_new_only_once(members: list[int]) -> None:
    ranges = Ranges()
    assert sum(map(ranges.add, members)) == len(set(members))


def expanded(ranges: Ranges) -> list[int]:
    return [number for first, last in ranges for number in range(first, last + 1)]
