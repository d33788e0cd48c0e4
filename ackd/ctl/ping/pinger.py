"""The loop of `ackctl ping`: some connections, and a payload now and then on each."""

import selectors
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic, time
from typing import Protocol

from ackd.client.addresses import Destination
from ackd.client.errors import (
    ClientError,
    NotReachedError,
    RejectedError,
    UnexpectedReplyError,
    Unreached,
    error_of,
)
from ackd.client.transport import Transport
from ackd.ctl.failure import describe_failure
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.ping.connection import PingAnswer, PingConnection, PingPayload
from ackd.ctl.runs.counts import Counts
from ackd.ctl.runs.opening import Opening, watch
from ackd.ctl.runs.outages import Outages
from ackd.ctl.runs.payloads import Run
from ackd.deadlines import Deadlines
from ackd.printable import printable
from ackd.protocol import Reply, Verdict

# Seconds. Payloads that are late by more, because a laptop was asleep, are not made up for.
_LATE = 1.0
# Seconds, if the interval is not shorter, for which connections wait for the others at the start:
# while hundreds connect, what is measured is how these compete.
_START = 1.0


@dataclass(frozen=True, slots=True)
class PingPlan:
    """How many payloads of which size, how often, on each of how many connections.

    The ping ends after `count` payloads of each connection, or after `duration` seconds; inf is no
    end.
    """

    count: float
    duration: float
    size: int
    interval: float
    parallel: int


class PingObserver(Protocol):
    """Receives the events of the connections, which are numbered from 0."""

    def connected(self, connection: int, server: str) -> None:
        """Report that a connection to the server with this address is there."""

    def failed(self, connection: int, error: ClientError) -> None:
        """Report that a connection is not there, or no longer."""

    def answered(self, connection: int, answer: PingAnswer) -> None:
        """Report the reply to a payload."""

    def unanswered(self, connection: int, payload: PingPayload, why: str) -> None:
        """Report that no reply to a payload will come."""

    def stalled(self, connection: int, payload: PingPayload, seconds: float) -> None:
        """Report that the reply to a payload has not come for so long."""

    def waiting(self, count: int) -> None:
        """Report that the ping ends when so many replies have come."""


class PingCounts(Counts):
    """Counts also payloads that were due while there was no connection; these have no number.

    `reconnects` is how many connections were opened again after one that had ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.not_sent = 0
        self.reconnects = 0
        self.outages = Outages()

    def by_outcome(self) -> dict[str, int]:
        """Return the number of payloads by outcome."""
        return {**super().by_outcome(), "not_sent": self.not_sent}


class Pinger:
    """Sends a run's payloads, and reports the outcome of each."""

    def __init__(
        self, plan: PingPlan, run: Run, destination: Destination, observer: PingObserver
    ) -> None:
        self.counts = PingCounts()
        self._plan, self._run, self._observer = plan, run, observer
        self._connections = [PingConnection(n, plan.count) for n in range(plan.parallel)]
        # Those whose first attempt to connect has neither succeeded nor failed.
        self._fresh = set(self._connections)
        self._deadlines: Deadlines[PingConnection] = Deadlines()
        self._selector = selectors.DefaultSelector()
        self._opening: Opening[PingPayload] = Opening(destination, self._selector, self._on_opened)
        where = (destination.host, destination.port, destination.timeout)
        self._pending = NotReachedError(Unreached.PENDING, *where)

    def ping(self, interrupt: Interrupt) -> None:
        """Send payloads until Ctrl-C at most; wait for replies until a second Ctrl-C at most."""
        self._interrupt = interrupt
        self._until = monotonic() + self._plan.duration
        self._began = time()
        self._start = monotonic() + min(_START, self._plan.interval)
        with self._opening, self._selector:
            self._selector.register(interrupt, selectors.EVENT_READ, self._on_interrupt)
            for connection in self._connections:
                connection.due = monotonic() + _START  # to report then that nothing has answered
                self._deadlines.watch(connection)
            for connection in self._connections:
                self._opening.open(connection.number)
            self._loop()

    def end(self) -> None:
        """Send the number of payloads, if there is a connection, and close all."""
        transports = (each.transport for each in self._connections if each.transport)
        transport = next(transports, None)
        if transport and self.counts.sent and self._interrupt.pressed < 2:
            self.counts.end(transport, self._run, self._interrupt)  # nothing else is unanswered
        for connection in self._connections:
            self._count_unknown(connection, connection.close(), "interrupted")

    def _loop(self) -> None:
        while self._interrupt.pressed < 2 and any(map(_active, self._connections)):
            due = min(self._deadlines.next(), self._opening.deadline, self._until)
            wait = due - monotonic()
            for key, _ in self._selector.select(None if wait == inf else max(0.0, wait)):
                key.data()
            self._opening.expire()
            for connection in self._deadlines.expired(monotonic()):
                self._on_deadline(connection, monotonic())
                self._deadlines.watch(connection)
            if monotonic() >= self._until:
                self._on_end_of_duration()

    def _on_interrupt(self) -> None:
        self._stop()
        unanswered = sum(connection.unanswered for connection in self._connections)
        if self._interrupt.read() == 1 and unanswered:
            self._observer.waiting(unanswered)

    def _on_end_of_duration(self) -> None:
        self._until = inf
        for connection in self._fresh:
            connection.failure = connection.failure or self._pending
        self._stop()

    def _stop(self) -> None:
        """Send nothing more."""
        for connection in self._fresh:
            if connection.failure:
                self._miss(connection, self._began)
        self._fresh.clear()
        for connection in self._connections:
            connection.stop()

    def _on_opened(self, number: int, opened: Transport[PingPayload] | ClientError) -> None:
        connection = self._connections[number]
        if isinstance(opened, ClientError):
            self._fail(connection, opened)
        else:
            self._use(connection, opened)
        if connection in self._fresh:
            self._fresh.remove(connection)
            self._begin(connection)
        self._deadlines.watch(connection)
        if not self._fresh and monotonic() < self._start:
            self._start = monotonic()
            for each in self._connections:
                self._begin(each)
                self._deadlines.watch(each)

    def _use(self, connection: PingConnection, transport: Transport[PingPayload]) -> None:
        connection.transport, connection.failure = transport, None
        on_ready = partial(self._on_ready, connection)
        self._selector.register(transport, selectors.EVENT_READ, on_ready)
        self._observer.connected(connection.number, str(transport.address))
        self.counts.reconnects += connection.lost

    def _begin(self, connection: PingConnection) -> None:
        """Let its first payload be due. All are spread over the interval, so that none waits."""
        if connection.left:
            share = connection.number / self._plan.parallel
            connection.due = max(monotonic(), self._start + share * self._plan.interval)

    def _on_ready(self, connection: PingConnection) -> None:
        if not connection.transport:
            return  # closed by an earlier event of the same select
        for answer in connection.receive():
            self._take(connection, answer)
        self._go_on(connection, connection.transport)
        self._deadlines.watch(connection)

    def _go_on(self, connection: PingConnection, transport: Transport[PingPayload]) -> None:
        """Watch the connection for what it waits for now, or give it up if it has ended."""
        if transport.ended:
            self._lose(connection, error_of(transport.ended))
        else:
            watch(self._selector, transport)

    def _on_deadline(self, connection: PingConnection, now: float) -> None:
        if connection.transport:
            connection.transport.expire()
            self._go_on(connection, connection.transport)
        if connection.oldest and connection.stalled <= now:
            self._report_stall(connection, connection.oldest, now)
        if connection.retry <= now:
            connection.retry = inf
            self._opening.open(connection.number)
        if connection.due <= now and connection in self._fresh:
            connection.due, connection.failure = inf, self._pending
            self._observer.failed(connection.number, self._pending)
        if connection.due <= now:
            connection.left -= 1
            connection.due = self._next(connection, now)
            self._ping(connection)

    def _report_stall(self, connection: PingConnection, payload: PingPayload, now: float) -> None:
        connection.be_patient()
        self.counts.outages.begin(connection.number, payload.at)
        self._observer.stalled(connection.number, payload, now - payload.since)

    def _next(self, connection: PingConnection, now: float) -> float:
        """Return when the next payload is due."""
        if not connection.left:
            return inf
        due = connection.due + self._plan.interval
        return due if due > now - _LATE else now

    def _ping(self, connection: PingConnection) -> None:
        if connection.transport and not connection.transport.full:
            self.counts.sent += 1
            number = self.counts.sent
            connection.send(number, self._run.payload(number, self._plan.size))
            watch(self._selector, connection.transport)
        else:
            self._miss(connection, time())

    def _miss(self, connection: PingConnection, since: float) -> None:
        """Count what was due and could not be sent."""
        self.counts.not_sent += 1
        self.counts.kept = connection.failure or self._pending
        self.counts.outages.begin(connection.number, since)

    def _take(self, connection: PingConnection, answer: PingAnswer) -> None:
        if answer.reply.verdict is Verdict.ACKNOWLEDGED:
            self.counts.acknowledged += 1
            self.counts.latencies.add(round(answer.seconds * 1e9))
            self.counts.outages.end(connection.number, time())
        else:
            self.counts.refused += 1
            self.counts.problem = f"refused: {printable(answer.reply.text)}"
            self.counts.outages.begin(connection.number, answer.payload.at)
        self._observer.answered(connection.number, answer)

    def _fail(self, connection: PingConnection, error: ClientError) -> None:
        """Try again later to connect."""
        connection.failure = error
        self.counts.problem = describe_failure(error)
        if connection in self._fresh:
            self.counts.outages.begin(connection.number, self._began)
        self._observer.failed(connection.number, error)
        connection.open_later()

    def _lose(self, connection: PingConnection, error: ClientError) -> None:
        """Give a connection up. A server that rejects it has refused all its payloads."""
        assert connection.transport
        self._opening.note_failure(connection.transport)
        self._selector.unregister(connection.transport)
        connection.lost = True
        unanswered, now = connection.close(), monotonic()
        if isinstance(error, RejectedError):
            refusal = Reply(Verdict.REFUSED, error.said)
            for payload in unanswered:
                self._take(connection, PingAnswer(payload, refusal, now - payload.since))
        else:
            self._count_unknown(connection, unanswered, str(error))
        self._fail(connection, error)
        if isinstance(error, UnexpectedReplyError):
            self.counts.distrust(error)

    def _count_unknown(
        self, connection: PingConnection, unanswered: Iterable[PingPayload], why: str
    ) -> None:
        for payload in unanswered:
            self.counts.unknown += 1
            self.counts.outages.begin(connection.number, payload.at)
            self._observer.unanswered(connection.number, payload, why)


def _active(connection: PingConnection) -> bool:
    """Return whether a payload or a reply is still to come."""
    return bool(connection.left or connection.unanswered)
