"""Times without acks."""

from ackd.ctl.runs.outages import Outage, Outages


def test_an_outage_lasts_from_the_first_payload_without_ack_to_the_next_ack() -> None:
    outages = Outages()
    outages.end(1, 99.0)
    outages.begin(1, 101.0)
    outages.begin(1, 102.0)
    outages.end(1, 103.5)
    outages.end(1, 104.0)
    assert outages.finish(200.0) == [Outage(2.5, 101.0, 103.5, connections=1)]


def test_an_outage_that_is_not_over_lasts_to_the_end() -> None:
    outages = Outages()
    outages.begin(1, 101.0)
    assert outages.finish(200.0) == [Outage(99.0, 101.0, 200.0, connections=1, over=False)]


def test_overlapping_outages_of_several_connections_are_one_outage() -> None:
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


def test_all_outages_are_counted_and_the_longest_are_kept() -> None:
    outages = Outages()
    for n in range(1000):
        outages.begin(1, 10.0 * n)
        outages.end(1, 10.0 * n + n % 7)
    kept = outages.finish(10_000.0)
    assert (outages.count, len(kept)) == (1000, 100)
    assert {outage.seconds for outage in kept} == {6.0}
    assert kept == sorted(kept, key=lambda outage: outage.since)
