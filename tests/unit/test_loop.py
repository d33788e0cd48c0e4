"""The loop calls handlers of ready descriptors, and timers that are due, over real sockets."""

import socket
from collections.abc import Iterator
from contextlib import closing
from functools import partial
from math import inf

import pytest

from ackd.loop import READABLE, WRITABLE, Loop

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def loop() -> Iterator[Loop]:
    with closing(Loop()) as loop:
        yield loop


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    pairs = [socket.socketpair() for _ in range(2)]
    yield pairs
    for ours, theirs in pairs:
        ours.close()
        theirs.close()


class Alarm:
    """A timer that notes when it was called, and then does something."""

    def __init__(self, deadline: float, calls: list["Alarm"]) -> None:
        self.deadline = deadline
        self.scheduled = inf
        self.next = inf
        self.postpones: Alarm | None = None
        self._calls = calls

    def on_deadline(self) -> None:
        self._calls.append(self)
        self.deadline = self.next
        if self.postpones:
            self.postpones.deadline = inf


def go_round(loop: Loop) -> None:
    loop.handle(loop.wait(0))


def test_only_the_handler_of_a_ready_descriptor_is_called(loop: Loop, pairs: list[Pair]) -> None:
    calls: list[int] = []
    for number, (ours, _) in enumerate(pairs):
        loop.watch(ours, READABLE, partial(calls.append, number))
    go_round(loop)
    assert calls == []
    pairs[1][1].send(b"x")
    go_round(loop)
    assert calls == [1]


def test_a_descriptor_has_the_handler_that_was_given_last(loop: Loop, pairs: list[Pair]) -> None:
    calls: list[str] = []
    ours, theirs = pairs[0]
    loop.watch(ours, READABLE, lambda: calls.append("readable"))
    loop.watch(ours, WRITABLE, lambda: calls.append("writable"))
    theirs.send(b"x")
    go_round(loop)
    assert calls == ["writable"]


def test_an_unwatched_descriptor_is_ignored(loop: Loop, pairs: list[Pair]) -> None:
    calls: list[str] = []
    ours, theirs = pairs[0]
    loop.unwatch(ours)
    loop.watch(ours, READABLE, lambda: calls.append("readable"))
    loop.unwatch(ours)
    theirs.send(b"x")
    go_round(loop)
    assert calls == []


def test_a_handler_can_close_a_descriptor_that_is_ready_too(loop: Loop, pairs: list[Pair]) -> None:
    calls: list[socket.socket] = []

    def close_both() -> None:
        for ours, _ in pairs:
            loop.unwatch(ours)
            ours.close()
        calls.append(ours)

    for ours, theirs in pairs:
        loop.watch(ours, READABLE, close_both)
        theirs.send(b"x")
    go_round(loop)
    assert len(calls) == 1


def test_the_loop_reports_all_events_at_once(loop: Loop, pairs: list[Pair]) -> None:
    for ours, theirs in pairs:
        loop.watch(ours, READABLE, lambda: None)
        theirs.send(b"x")
    assert len(loop.wait(0)) == 2


def test_the_loop_waits_until_the_first_deadline(loop: Loop) -> None:
    assert loop.timeout() is None
    loop.timers.watch(Alarm(0.0, []))
    assert loop.timeout() == 0.0


def test_a_timer_is_called_at_each_of_its_deadlines(loop: Loop) -> None:
    calls: list[Alarm] = []
    alarm = Alarm(5.0, calls)
    alarm.next = 8.0
    loop.timers.watch(alarm)
    loop.meet_deadlines(4.9)
    assert calls == []
    loop.meet_deadlines(5.0)
    assert calls == [alarm]
    alarm.next = inf
    loop.meet_deadlines(8.0)
    assert calls == [alarm] * 2
    assert loop.timeout() is None


def test_a_timer_that_another_has_postponed_is_not_called(loop: Loop) -> None:
    calls: list[Alarm] = []
    first, second = Alarm(1.0, calls), Alarm(2.0, calls)
    first.postpones = second
    loop.timers.watch(first)
    loop.timers.watch(second)
    loop.meet_deadlines(3.0)
    assert calls == [first]
