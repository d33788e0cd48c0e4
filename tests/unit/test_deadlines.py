"""Deadlines expire when they are due, also if they have been moved meanwhile."""

import tracemalloc
import weakref
from math import inf

from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.deadlines import Deadlines


class Client:
    """A client with a deadline."""

    def __init__(self, deadline: float = inf) -> None:
        self.deadline = deadline
        self.scheduled = inf


def watched(*deadlines: float) -> tuple[Deadlines[Client], list[Client]]:
    heap: Deadlines[Client] = Deadlines()
    clients = [Client(deadline) for deadline in deadlines]
    for client in clients:
        heap.watch(client)
    return heap, clients


def test_expired_deadlines_come_in_order() -> None:
    heap, (third, first, second, _) = watched(3, 1, 2, 4)
    assert heap.next() == 1
    assert heap.expired(3) == [first, second, third]
    assert heap.next() == 4


def test_a_deadline_expires_once_and_not_early() -> None:
    heap, (client,) = watched(5)
    assert heap.expired(4.999) == []
    assert heap.expired(5) == [client]
    assert heap.expired(100) == []
    assert heap.next() == inf


def test_without_deadlines_there_is_nothing_to_wait_for() -> None:
    heap, _ = watched()
    assert heap.next() == inf
    assert heap.expired(1000) == []


def test_an_infinite_deadline_never_expires() -> None:
    heap, _ = watched(inf)
    assert heap.next() == inf
    assert heap.expired(1e300) == []


def test_equal_deadlines_expire_together() -> None:
    heap, clients = watched(5, 5, 5)
    assert set(heap.expired(5)) == set(clients)


def test_a_deadline_moved_to_later_is_corrected_when_its_old_time_comes() -> None:
    heap, (client,) = watched(5)
    client.deadline = 8  # without a call, which would cost time with each payload
    assert heap.next() == 5
    assert heap.expired(5) == []
    assert heap.next() == 8
    assert heap.expired(8) == [client]


def test_a_deadline_moved_to_later_expires_when_that_has_passed_too() -> None:
    heap, (client,) = watched(5)
    client.deadline = 8
    assert heap.expired(10) == [client]


def test_a_deadline_moved_to_never_does_not_expire() -> None:
    heap, (client,) = watched(5)
    client.deadline = inf
    assert heap.expired(10) == []
    assert heap.next() == inf
    client.deadline = 20
    heap.watch(client)
    assert heap.expired(20) == [client]


def test_a_deadline_moved_to_earlier_expires_once_and_earlier() -> None:
    heap, (client,) = watched(5)
    client.deadline = 2
    heap.watch(client)
    assert heap.next() == 2
    assert heap.expired(2) == [client]
    assert heap.expired(5) == []


def test_a_forgotten_deadline_does_not_expire() -> None:
    heap, (gone, stays) = watched(1, 2)
    heap.forget(gone)
    heap.forget(gone)
    assert heap.expired(5) == [stays]


def test_a_forgotten_deadline_can_be_watched_again() -> None:
    heap, (client,) = watched(5)
    heap.forget(client)
    heap.watch(client)
    assert heap.expired(5) == [client]
    client.deadline = 7
    heap.watch(client)
    assert heap.expired(7) == [client]


def test_clients_that_come_and_go_leave_no_memory_behind() -> None:
    heap, residents = watched(*range(1000, 1010))
    gone = []
    for number in range(10_000):
        client = Client(2000 + number)
        heap.watch(client)
        heap.forget(client)
        gone.append(weakref.ref(client))
    del client
    assert not any(reference() for reference in gone)
    assert heap.expired(1e6) == residents


def test_a_deadline_moved_to_earlier_again_and_again_leaves_no_memory_behind() -> None:
    heap, (client,) = watched(1e6)
    tracemalloc.start()
    for _ in range(10_000):
        client.deadline -= 1
        heap.watch(client)
    size, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert size < 100_000
    assert heap.next() == 990_000
    assert heap.expired(1e6) == [client]


def test_deadlines_stay_in_order_when_stale_entries_are_dropped() -> None:
    heap, (gone, late, first, *_) = watched(1, 10, 2, 11, 12, 3, 4)
    heap.forget(gone)
    for number in range(1000):
        client = Client(100 + number)
        heap.watch(client)
        heap.forget(client)
    assert heap.next() <= 2
    assert heap.expired(2) == [first]
    assert late in heap.expired(10)


class Observed(Client):
    """Counts how often the heap looks at it."""

    looks = 0

    @property
    def scheduled(self) -> float:
        Observed.looks += 1
        return self._scheduled

    @scheduled.setter
    def scheduled(self, scheduled: float) -> None:
        self._scheduled = scheduled


def test_watching_one_of_many_clients_does_not_scan_the_others() -> None:
    heap: Deadlines[Observed] = Deadlines()
    for number in range(5000):
        heap.watch(Observed(number))
    assert Observed.looks < 5 * 5000


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["watch", "move ahead", "forget", "let time pass"]),
        st.integers(0, 4),
        st.integers(0, 9),
    )
)


@settings(deadline=None)
@given(STEPS)
def test_after_any_steps_exactly_the_due_deadlines_expire(
    steps: list[tuple[str, int, int]],
) -> None:
    now, heap, clients = 0, *watched(*[inf] * 5)
    due: dict[Client, float] = {}
    for step, number, time in steps:
        client = clients[number]
        match step:
            case "watch":
                client.deadline = due[client] = now + time
                heap.watch(client)
            case "move ahead":
                client.deadline += time
                due |= {client: client.deadline} if client in due else {}
            case "forget":
                heap.forget(client)
                due.pop(client, None)
            case "let time pass":
                now += time
                expected = {client for client, deadline in due.items() if deadline <= now}
                expired = heap.expired(now)
                assert set(expired) == expected
                assert len(expired) == len(expected)
                due = {client: at for client, at in due.items() if client not in expected}
        assert heap.next() <= min(due.values(), default=inf)
