"""The histogram of latencies, and the hint to verify a run, as they are shown."""

import io

from ackd.ctl.runs.payloads import Run
from ackd.ctl.runs.summary import latency_histogram, verify_hint
from tests.unit.test_latency import latencies

UTF8 = io.TextIOWrapper(io.BytesIO(), "utf-8")
ASCII = io.TextIOWrapper(io.BytesIO(), "ascii")


def test_a_histogram_has_a_line_for_each_step_between_the_fastest_and_the_slowest() -> None:
    took = [150_000] * 1000 + [350_000] * 500 + [7_000_000]
    assert latency_histogram(latencies(*took), UTF8) == [
        f"0.100 to  0.200 ms  1,000  {'█' * 40}",
        f"0.200 to  0.500 ms    500  {'█' * 20}",
        "0.500 to  1.000 ms      0",
        "1.000 to  2.000 ms      0",
        "2.000 to  5.000 ms      0",
        "5.000 to 10.000 ms      1  ▏",
    ]


def test_a_bar_is_exact_to_an_eighth_of_a_letter() -> None:
    took = [150_000] * 320 + [350_000] * 163
    assert latency_histogram(latencies(*took), UTF8)[1].endswith(f"  163  {'█' * 20}▍")


def test_a_bar_without_block_letters_is_made_of_number_signs() -> None:
    took = [150_000] * 1000 + [350_000] * 500 + [7_000_000]
    lines = latency_histogram(latencies(*took), ASCII)
    assert [line.count("#") for line in lines] == [40, 20, 0, 0, 0, 1]


def test_no_latencies_have_no_histogram() -> None:
    assert latency_histogram(latencies(), UTF8) == []


def test_the_hint_to_verify_a_run_has_a_name_for_one_run() -> None:
    (hint,) = verify_hint(Run("1a2b3c4d"), 1795604297.9, ended=True, stream=ASCII)
    assert "`ackctl verify 1a2b3c4d --since @1795600697`" in hint


def test_a_name_that_the_user_has_chosen_may_have_been_used_before() -> None:
    _, note = verify_hint(Run("night", named=True), 1795604297.9, ended=True, stream=ASCII)
    assert note == "(without --since, earlier runs with this name count as well)"
