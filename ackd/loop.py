"""The loop: events on descriptors, and timers. Nothing that the loop calls may block."""

import selectors
from collections.abc import Callable
from math import inf
from time import monotonic
from typing import Protocol, TypeAlias

from ackd.deadlines import Deadlines, Timed

READABLE, WRITABLE = selectors.EVENT_READ, selectors.EVENT_WRITE
# A ready descriptor and its events, as BaseSelector.select() returns them.
Event: TypeAlias = tuple[selectors.SelectorKey, int]


class HasDescriptor(Protocol):
    """Anything with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Timer(Timed, Protocol):
    """Anything that must act at its `deadline`, in seconds of time.monotonic(); inf is never."""

    def on_deadline(self) -> None:
        """Act; a timer that must act again sets a later deadline before it returns."""


class Loop:
    """Calls a handler for each descriptor that is ready, and each timer that is due.

    An object with a deadline calls `timers.watch(self)` when its deadline becomes earlier.
    """

    def __init__(self) -> None:
        self.timers: Deadlines[Timer] = Deadlines()
        self._selector = selectors.DefaultSelector()
        self._changed: set[int] = set()  # descriptors whose events of this round are out of date

    def watch(self, source: HasDescriptor, events: int, handler: Callable[[], object]) -> None:
        """Call only this `handler` when `source` has one of `events`: READABLE, WRITABLE."""
        descriptor = source.fileno()
        self._changed.add(descriptor)
        try:
            self._selector.register(descriptor, events, handler)
        except KeyError:  # it is watched already
            self._selector.modify(descriptor, events, handler)

    def unwatch(self, source: HasDescriptor) -> None:
        """Stop watching `source`, if it is watched; call this before `source` is closed."""
        descriptor = source.fileno()
        self._changed.add(descriptor)
        try:
            self._selector.unregister(descriptor)
        except KeyError:
            return  # it is not watched

    def timeout(self) -> float | None:
        """Return the seconds until the next timer is due; None if there is no timer."""
        due = self.timers.next()
        return None if due == inf else max(0.0, due - monotonic())

    def wait(self, timeout: float | None) -> list[Event]:
        """Wait at most `timeout` seconds for events, None for ever, and return them."""
        return self._selector.select(timeout)

    def handle(self, events: list[Event]) -> None:
        """Call the handler of each event, unless an earlier handler has changed the watch.

        Such an event may belong to a descriptor that is closed. If it is still ready, and still
        watched, the next round reports it again.
        """
        changed = self._changed
        changed.clear()
        for key, _ in events:
            if not (changed and key.fd in changed):
                key.data()

    def meet_deadlines(self, now: float) -> None:
        """Call the timers that are due at `now`."""
        for timer in self.timers.expired(now):
            if timer.deadline <= now:  # otherwise an earlier timer has postponed this timer
                timer.on_deadline()
            self.timers.watch(timer)

    def close(self) -> None:
        """Close the loop's own descriptor."""
        self._selector.close()
