"""What is recorded about one client, what is left out, and when that is reported."""

import tracemalloc
from ipaddress import IPv4Address
from math import inf
from time import monotonic

import pytest

from ackd.deadlines import Deadlines
from ackd.loop import Timer
from ackd.records import Kind, Priority, Record
from ackd.server import quota
from ackd.server.quota import CONNECT_CLIENTS, CONNECTS, MINUTE, NAMED, Quota


class Desk:
    """A quota of three connections for each of four clients, and what it has reported."""

    def __init__(self, limit: int = 3, clients: int = 4) -> None:
        self.records: list[Record] = []
        self.timers: Deadlines[Timer] = Deadlines()
        self.quota = Quota("connections", limit, clients, self.records.append, self.timers)

    def admitted(self, peer: str, count: int) -> int:
        """Have a peer connect `count` times; return how often that may be recorded."""
        return sum(self.quota.admits(peer) for _ in range(count))

    def reported(self) -> list[str]:
        """Let the minute be over; return what is reported then."""
        self.pass_time(inf)
        messages = [record.message for record in self.records]
        self.records.clear()
        return messages

    def pass_time(self, now: float) -> None:
        """Do what the loop does with timers that are due at `now`."""
        for timer in self.timers.expired(now):
            timer.on_deadline()
            self.timers.watch(timer)


def test_each_client_has_its_own_limit() -> None:
    desk = Desk()
    assert desk.admitted("192.0.2.1", 5) == 3
    assert desk.admitted("192.0.2.2", 2) == 2
    assert desk.admitted("192.0.2.1", 1) == 0
    assert desk.reported() == ["left out about 192.0.2.1: connections: 3, beyond 3 a minute"]


def test_the_report_has_the_client_and_the_count_as_fields() -> None:
    desk = Desk()
    desk.admitted("192.0.2.1", 5)
    desk.quota.report()
    assert desk.records == [
        Record(
            Kind.LIMITED,
            Priority.WARNING,
            "left out about 192.0.2.1: connections: 2, beyond 3 a minute",
            None,
            (("ACKD_PEER", "192.0.2.1"), ("ACKD_LEFT_OUT", 2)),
        )
    ]


def test_an_ipv6_host_can_not_evade_its_limit_with_other_addresses() -> None:
    desk = Desk()
    admitted = [desk.quota.admits(f"2001:db8::{number:x}") for number in range(5)]
    assert admitted == [True, True, True, False, False]
    assert desk.reported() == ["left out about 2001:db8::/64: connections: 2, beyond 3 a minute"]


def test_left_out_records_are_reported_once_and_then_counted_from_0() -> None:
    desk = Desk()
    desk.admitted("192.0.2.1", 4)
    assert len(desk.reported()) == 1
    assert desk.reported() == []
    assert desk.admitted("192.0.2.1", 4) == 3


def test_the_loop_is_woken_only_if_something_was_left_out() -> None:
    desk = Desk()
    assert desk.timers.next() == inf
    desk.admitted("192.0.2.1", 3)
    assert desk.timers.next() == inf
    desk.admitted("192.0.2.1", 1)
    assert desk.timers.next() < inf
    desk.reported()
    assert desk.timers.next() == inf


def test_nothing_is_reported_before_the_minute_is_over() -> None:
    desk = Desk()
    desk.admitted("192.0.2.1", 4)
    desk.pass_time(desk.timers.next() - 0.001)
    assert desk.records == []
    assert desk.admitted("192.0.2.1", 1) == 0
    assert desk.reported() == ["left out about 192.0.2.1: connections: 2, beyond 3 a minute"]


def test_the_minute_begins_with_the_first_record() -> None:
    desk = Desk()
    before = monotonic()
    desk.admitted("192.0.2.1", 1)
    after = monotonic()
    desk.admitted("192.0.2.2", 4)
    assert before + MINUTE <= desk.timers.next() <= after + MINUTE


def test_clients_beyond_the_counted_number_share_one_limit() -> None:
    desk = Desk()
    for number in range(1, 5):
        assert desk.admitted(f"192.0.2.{number}", 1) == 1
    assert desk.admitted("192.0.2.5", 2) == 2
    assert desk.admitted("192.0.2.6", 2) == 1
    assert desk.admitted("192.0.2.1", 2) == 2
    assert desk.reported() == ["left out about further clients: connections: 1, beyond 3 a minute"]


def test_only_the_clients_with_most_records_are_named() -> None:
    desk = Desk(limit=1, clients=1000)
    for number in range(NAMED + 20):
        desk.admitted(f"192.0.2.{number}", 2 if number < 20 else 3)
    reports = desk.reported()
    assert len(reports) == NAMED + 1
    assert "left out about 192.0.2.20: connections: 2, beyond 1 a minute" in reports
    assert reports[-1] == "left out about further clients: connections: 20, beyond 1 a minute"


def test_the_memory_is_bounded_however_many_addresses_come(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quota, "MINUTE", 1e6)  # tracemalloc can make these calls take a minute
    desk = Desk(CONNECTS, CONNECT_CLIENTS)
    tracemalloc.start()
    for number in range(10 * CONNECT_CLIENTS):
        desk.quota.admits(str(IPv4Address(number)))
        if number == 2 * CONNECT_CLIENTS:
            full, _ = tracemalloc.get_traced_memory()
    more, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert full < 4 << 20
    assert more < full + 1000
    left_out = 9 * CONNECT_CLIENTS - CONNECTS
    report = f"left out about further clients: connections: {left_out}, beyond 100 a minute"
    assert desk.reported() == [report]
