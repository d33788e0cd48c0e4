"""Connections that are opened, and watched, while others are in use."""

from collections import deque
from collections.abc import Callable
from functools import partial
from math import inf
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from time import monotonic
from typing import Any, Generic, TypeAlias

from ackd.client.addresses import Destination, Order, SocketAddress, resolve
from ackd.client.errors import ClientError
from ackd.client.opening import open_to
from ackd.client.transport import Transport
from ackd.client.waiting import Awaited, Steps
from ackd.protocol import TagT

# How many attempts at once: more could overflow the queue of the server's listener.
_AT_ONCE = 64
# Seconds for which the addresses of a name are good. When a connection is opened again later, the
# name is resolved again, because the server may have moved.
_FRESH = 1.0
# Seconds that name servers have to answer then. Afterwards the addresses known from before are
# used: the name servers may have failed together with the server.
_HEAD_START = 0.25

Opened: TypeAlias = Callable[[int, Transport[TagT] | ClientError], None]


def watch(selector: BaseSelector, transport: Transport[Any]) -> None:
    """Select a registered connection for the events that it waits for now."""
    key = selector.get_key(transport)
    events = _events(transport.writing)
    if key.events != events:
        selector.modify(transport, events, key.data)


def _events(writing: bool) -> int:
    return EVENT_READ | EVENT_WRITE if writing else EVENT_READ


class _Task:
    """Steps that the loop continues when the event or the time of `wait` has come."""

    def __init__(self, steps: Steps[Any], done: Callable[[Any], None]) -> None:
        self.steps = steps
        self.done = done
        self.wait: Awaited | None = None


class Opening(Generic[TagT]):
    """Opens connections to a server, some at a time, in the loop of a selector.

    The selector's data are functions to be called. `opened` gets the number that was given to
    `open`, and the greeted connection or the error.
    """

    def __init__(
        self, destination: Destination, selector: BaseSelector, opened: Opened[TagT]
    ) -> None:
        self._destination = destination
        self._selector = selector
        self._opened = opened
        self._waiting: deque[int] = deque()
        self._tasks: list[_Task] = []
        self._addresses: list[SocketAddress] = []
        self._resolving = False
        self._asked = -inf  # when the name servers were asked
        self._order = Order()

    def __enter__(self) -> "Opening[TagT]":
        return self

    def __exit__(self, *_: object) -> None:
        for task in self._tasks:
            task.steps.close()

    @property
    def deadline(self) -> float:
        """When to call `expire`, by time.monotonic(); inf for never."""
        held = self._resolving and self._waiting and self._addresses
        head_start = self._asked + _HEAD_START if held else inf
        waits = (task.wait.deadline for task in self._tasks if task.wait)
        return min(head_start, min(waits, default=inf))

    def open(self, number: int) -> None:
        """Open a connection; `opened` gets the number back."""
        self._waiting.append(number)
        if not self._resolving and monotonic() >= self._asked + _FRESH:
            self._resolving, self._asked = True, monotonic()
            self._begin(resolve(self._destination), self._on_resolved)
        self._start()

    def note_failure(self, transport: Transport[TagT]) -> None:
        """Have the server of a connection that was lost tried last."""
        self._order.note_failure(transport.address)

    def expire(self) -> None:
        """Continue the steps whose deadline has passed."""
        now = monotonic()
        for task in [task for task in self._tasks if task.wait and task.wait.deadline <= now]:
            self._advance(task)
        self._start()

    def _on_resolved(self, found: list[SocketAddress] | ClientError) -> None:
        self._resolving = False
        if not isinstance(found, ClientError):
            self._addresses = found
        elif not self._addresses:
            self._asked = -inf  # ask again for the next connection
            failed, self._waiting = self._waiting, deque()
            for number in failed:
                self._opened(number, found)
        self._start()

    def _start(self) -> None:
        """Begin as many attempts as there may be."""
        if not self._addresses:
            return
        if self._resolving and monotonic() < self._asked + _HEAD_START:
            return
        while self._waiting and len(self._tasks) < _AT_ONCE:
            number = self._waiting.popleft()
            steps: Steps[Transport[TagT]]
            steps = open_to(self._destination, self._addresses, self._order)
            self._begin(steps, partial(self._opened, number))

    def _begin(self, steps: Steps[Any], done: Callable[[Any], None]) -> None:
        task = _Task(steps, done)
        self._tasks.append(task)
        self._advance(task)

    def _go_on(self, task: _Task) -> None:
        self._advance(task)
        self._start()

    def _advance(self, task: _Task) -> None:
        if task.wait:
            self._selector.unregister(task.wait.descriptor)
            task.wait = None
        try:
            task.wait = next(task.steps)
        except StopIteration as end:
            self._finish(task, end.value)
        except ClientError as error:
            self._finish(task, error)
        else:
            events, go_on = _events(task.wait.writing), partial(self._go_on, task)
            self._selector.register(task.wait.descriptor, events, go_on)

    def _finish(self, task: _Task, result: Any) -> None:
        self._tasks.remove(task)
        task.done(result)
