"""Connections that are accepted and not greeted yet, and what must be done before the greeting.

Such steps are the preliminaries of a connection, in this order: the PROXY header of a load
balancer, and the handshake of TLS. Most servers need none; then a connection is never an arrival.
"""

from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import Protocol, TypeAlias

from ackd.loop import Loop
from ackd.protocol import STOPPING
from ackd.records import Origin
from ackd.server.admission import Admission
from ackd.server.stream import Stream

# Seconds of one round of the loop in which steps begin. A step of a TLS handshake takes two
# milliseconds, so then there is one step in a round, after all that connected clients need.
_SHARE = 0.001


class PreliminaryError(Exception):
    """A preliminary has failed; `reason` says why, for the record.

    The client gets the reason as well, as `not connect: REASON` over the preliminary's `stream`. It
    gets nothing but the end if `answer` is False.
    """

    def __init__(self, reason: str, answer: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.answer = answer


class Preliminary(Protocol):
    """One thing that must be done before the greeting. It never blocks.

    `stream` and `origin` are what the next preliminary, or the connection, goes on with. `events`
    are those that the preliminary waits for now: READABLE, WRITABLE, or both. `deadline` is a time
    of time.monotonic(). Each call can change all of these; they are read after it.
    """

    stream: Stream
    origin: Origin
    events: int
    deadline: float

    @property
    def finds_client(self) -> bool:
        """Whether the peer only stands before a client, whose address `origin` has in the end.

        Then the limits are not about the peer. Only the first preliminary can find a client.
        """

    def go_on(self) -> bool:
        """Take one step, and return whether this was the last one.

        The first call comes at once, whether or not the stream has one of `events`. Not one byte
        is read from the stream that belongs to what follows. Raises PreliminaryError, and OSError
        if the client has left, about which nothing is recorded. BlockingIOError means: not yet.
        """

    def on_deadline(self) -> None:
        """Raise PreliminaryError, or set a later deadline."""


# Makes a preliminary for a connection; None if this connection needs none of its kind. It does no
# work: connections that are about to be rejected come here as well.
BeginPreliminary: TypeAlias = Callable[[Stream, Origin], Preliminary | None]


class Arrival:
    """A connection that is accepted and not greeted yet.

    `counted` is the peer as which Admission has counted it; empty while the client is not known.
    """

    __slots__ = ("_on_deadline", "counted", "deadline", "preliminary", "rest", "scheduled")

    def __init__(
        self,
        preliminary: Preliminary,
        rest: Iterable[BeginPreliminary],
        on_deadline: Callable[["Arrival"], None],
    ) -> None:
        self.preliminary = preliminary
        self.rest = rest
        self.counted = "" if preliminary.finds_client else preliminary.origin.peer
        self.deadline = self.scheduled = inf
        self._on_deadline = on_deadline

    def on_deadline(self) -> None:
        """Act, because the deadline has passed."""
        self._on_deadline(self)


class Arrivals:
    """Does the preliminaries of connections, and then has them greeted, rejected, or left.

    An arrival counts for the limits from its accept on. Its steps are taken in `go_on`, in turns: a
    client with many handshakes can't make another client wait for all of them. An arrival that
    waits for its turn has no deadline.

    `greet`, `reject` and `leave` get a connection's stream and origin. `greet` is called with
    connections that Admission counts, the others with connections that it does not count. `reject`
    gets the reason as well, and whether the client gets it. `leave` is for clients that have left,
    and gets the reason.
    """

    def __init__(
        self,
        loop: Loop,
        admission: Admission,
        greet: Callable[[Stream, Origin], None],
        reject: Callable[[Stream, Origin, str, bool], None],
        leave: Callable[[Stream, Origin, str], None],
    ) -> None:
        self.preliminaries: tuple[BeginPreliminary, ...] = ()
        self._loop = loop
        self._admission = admission
        self._greet = greet
        self._reject = reject
        self._leave = leave
        self._arrivals: set[Arrival] = set()
        self._turns: dict[str, deque[Arrival]] = {}  # by peer, the peer with the next turn first

    def __len__(self) -> int:
        return len(self._arrivals)

    @property
    def can_go_on(self) -> bool:
        """Whether `go_on` has something to do."""
        return bool(self._turns)

    def begin(self, stream: Stream, origin: Origin) -> None:
        """Begin with a connection that was accepted just now."""
        arrival = self._arrival(stream, origin) if self.preliminaries else None
        counted = arrival.counted if arrival else origin.peer
        if rejection := self._admission.rejection(counted):
            self._reject(stream, origin, rejection, True)
            return
        self._admission.enter(counted)
        if arrival:
            self._arrivals.add(arrival)
            self._queue(arrival)
        else:
            self._greet(stream, origin)

    def go_on(self) -> None:
        """Take steps, one for each client in turn, as many as one round allows."""
        end = monotonic() + _SHARE
        while self._turns:
            peer, arrivals = next(iter(self._turns.items()))
            del self._turns[peer]
            arrival = arrivals.popleft()
            if arrivals:
                self._turns[peer] = arrivals
            self._act(arrival, arrival.preliminary.go_on)
            if monotonic() >= end:
                return

    def stop(self) -> None:
        """Reject all arrivals, because ackd stops."""
        self._turns.clear()
        for arrival in list(self._arrivals):
            self._loop.unwatch(arrival.preliminary.stream)
            self._act(arrival, _stop)

    def _arrival(self, stream: Stream, origin: Origin) -> Arrival | None:
        rest = iter(self.preliminaries)
        preliminary = _next(rest, stream, origin)
        return Arrival(preliminary, rest, self._on_deadline) if preliminary else None

    def _queue(self, arrival: Arrival) -> None:
        arrival.deadline = inf
        self._turns.setdefault(arrival.preliminary.origin.peer, deque()).append(arrival)

    def _on_event(self, arrival: Arrival) -> None:
        self._loop.unwatch(arrival.preliminary.stream)
        self._queue(arrival)

    def _on_deadline(self, arrival: Arrival) -> None:
        self._loop.unwatch(arrival.preliminary.stream)
        self._act(arrival, arrival.preliminary.on_deadline)

    def _act(self, arrival: Arrival, call: Callable[[], bool | None]) -> None:
        """Call a method of the preliminary, and go on as its result says.

        MemoryError closes this connection only, in silence: there is no room to say more.
        """
        try:
            self._try(arrival, call)
        except MemoryError:
            if arrival in self._arrivals:
                self._remove(arrival)
            arrival.preliminary.stream.close()

    def _try(self, arrival: Arrival, call: Callable[[], bool | None]) -> None:
        finished: bool | None = False
        try:
            with suppress(BlockingIOError):
                finished = call()
            if finished:
                self._finish(arrival)
            else:
                self._wait(arrival)
        except PreliminaryError as error:
            self._remove(arrival)
            preliminary = arrival.preliminary
            self._reject(preliminary.stream, preliminary.origin, error.reason, error.answer)
        except OSError as error:
            self._remove(arrival)
            why = error.strerror or str(error)
            self._leave(arrival.preliminary.stream, arrival.preliminary.origin, why)

    def _wait(self, arrival: Arrival) -> None:
        preliminary = arrival.preliminary
        on_event = partial(self._on_event, arrival)
        self._loop.watch(preliminary.stream, preliminary.events, on_event)
        arrival.deadline = preliminary.deadline
        self._loop.timers.watch(arrival)

    def _finish(self, arrival: Arrival) -> None:
        """Go on with the next preliminary or with the greeting; raises PreliminaryError."""
        stream, origin = arrival.preliminary.stream, arrival.preliminary.origin
        if origin.peer != arrival.counted:
            self._count_as(arrival, origin.peer)
        preliminary = _next(arrival.rest, stream, origin)
        if preliminary:
            arrival.preliminary = preliminary
            self._queue(arrival)
        else:
            self._greet(stream, origin)
            self._forget(arrival)

    def _count_as(self, arrival: Arrival, peer: str) -> None:
        """Count an arrival for its client, now that it is known; raises PreliminaryError."""
        self._admission.leave(arrival.counted)
        rejection = self._admission.rejection(peer)
        self._admission.enter(peer)
        arrival.counted = peer
        if rejection:
            raise PreliminaryError(rejection)

    def _remove(self, arrival: Arrival) -> None:
        self._forget(arrival)
        self._admission.leave(arrival.counted)

    def _forget(self, arrival: Arrival) -> None:
        """Forget an arrival that Admission still counts."""
        self._arrivals.remove(arrival)
        arrival.deadline = inf
        self._loop.timers.forget(arrival)


def _stop() -> bool:
    raise PreliminaryError(STOPPING)


def _next(rest: Iterable[BeginPreliminary], stream: Stream, origin: Origin) -> Preliminary | None:
    """Return the next preliminary that this connection needs; None if there is none left."""
    return next(filter(None, (begin(stream, origin) for begin in rest)), None)
