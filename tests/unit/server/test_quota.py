"""What is recorded about one client, what is left out, and when that is told."""

import tracemalloc
from ipaddress import IPv4Address
from math import inf
from time import monotonic

from ackd.records import Kind, Priority, Record
from ackd.server.quota import MINUTE, NAMED, Quota
from ackd.server.server import CLIENTS, INTRODUCTIONS


class Desk:
    """A quota of three connections for each of four clients, and what it has told."""

    def __init__(self, limit: int = 3, room: int = 4) -> None:
        self.records: list[Record] = []
        self.quota = Quota("connections", limit, room, self.records.append)

    def admitted(self, peer: str, count: int) -> int:
        """Have a peer come so often; return how often that may be recorded."""
        return sum(self.quota.admits(peer) for _ in range(count))

    def told(self) -> list[str]:
        """Let the minute be over; return what is said then."""
        self.quota.attend(self.quota.due)
        messages = [record.message for record in self.records]
        self.records.clear()
        return messages


def test_each_client_has_a_limit_of_its_own() -> None:
    desk = Desk()
    assert desk.admitted("192.0.2.1", 5) == 3
    assert desk.admitted("192.0.2.2", 2) == 2
    assert desk.admitted("192.0.2.1", 1) == 0
    assert desk.told() == ["left out about 192.0.2.1: connections: 3, beyond 3 a minute"]


def test_what_was_left_out_can_be_found_by_its_client() -> None:
    desk = Desk()
    desk.admitted("192.0.2.1", 5)
    desk.quota.tell()
    assert desk.records == [
        Record(
            Kind.LIMITED,
            Priority.WARNING,
            "left out about 192.0.2.1: connections: 2, beyond 3 a minute",
            None,
            (("ACKD_PEER", "192.0.2.1"), ("ACKD_LEFT_OUT", 2)),
        )
    ]


def test_an_ipv6_host_does_not_get_round_it_by_another_address() -> None:
    desk = Desk()
    admitted = [desk.quota.admits(f"2001:db8::{number:x}") for number in range(5)]
    assert admitted == [True, True, True, False, False]
    assert desk.told() == ["left out about 2001:db8::/64: connections: 2, beyond 3 a minute"]


def test_it_is_told_once_and_then_counted_anew() -> None:
    desk = Desk()
    desk.admitted("192.0.2.1", 4)
    assert len(desk.told()) == 1
    assert desk.told() == []
    assert desk.admitted("192.0.2.1", 4) == 3


def test_the_loop_is_woken_only_if_there_is_something_to_tell() -> None:
    desk = Desk()
    assert desk.quota.due == inf
    desk.admitted("192.0.2.1", 3)
    assert desk.quota.due == inf
    desk.admitted("192.0.2.1", 1)
    assert desk.quota.due < inf
    desk.told()
    assert desk.quota.due == inf


def test_nothing_is_told_before_the_minute_is_over() -> None:
    desk = Desk()
    desk.admitted("192.0.2.1", 4)
    desk.quota.attend(desk.quota.due - 0.001)
    assert desk.records == []
    assert desk.admitted("192.0.2.1", 1) == 0
    assert desk.told() == ["left out about 192.0.2.1: connections: 2, beyond 3 a minute"]


def test_the_minute_begins_with_the_first_that_is_counted() -> None:
    desk = Desk()
    before = monotonic()
    desk.admitted("192.0.2.1", 1)
    after = monotonic()
    desk.admitted("192.0.2.2", 4)
    assert before + MINUTE <= desk.quota.due <= after + MINUTE


def test_those_beyond_the_room_have_one_limit_together() -> None:
    desk = Desk()
    for number in range(1, 5):
        assert desk.admitted(f"192.0.2.{number}", 1) == 1
    assert desk.admitted("192.0.2.5", 2) == 2
    assert desk.admitted("192.0.2.6", 2) == 1
    assert desk.admitted("192.0.2.1", 2) == 2
    assert desk.told() == ["left out about further clients: connections: 1, beyond 3 a minute"]


def test_only_the_worst_are_told_by_name() -> None:
    desk = Desk(limit=1, room=1000)
    for number in range(NAMED + 20):
        desk.admitted(f"192.0.2.{number}", 2 if number < 20 else 3)
    told = desk.told()
    assert len(told) == NAMED + 1
    assert "left out about 192.0.2.20: connections: 2, beyond 1 a minute" in told
    assert told[-1] == "left out about further clients: connections: 20, beyond 1 a minute"


def test_the_memory_is_bounded_however_many_addresses_come() -> None:
    desk = Desk(INTRODUCTIONS, CLIENTS)
    tracemalloc.start()
    for number in range(10 * CLIENTS):
        desk.quota.admits(str(IPv4Address(number)))
        if number == 2 * CLIENTS:
            full, _ = tracemalloc.get_traced_memory()
    more, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert full < 4 << 20
    assert more < full + 1000
    left_out = 9 * CLIENTS - INTRODUCTIONS
    told = f"left out about further clients: connections: {left_out}, beyond 100 a minute"
    assert desk.told() == [told]
