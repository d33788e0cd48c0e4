"""The loop of `ackctl bench`: clients, each of which keeps several payloads on their way."""

import selectors
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic

from ackd.client.addresses import Destination
from ackd.client.errors import ClientError, RejectedError, error_of
from ackd.client.transport import Transport
from ackd.ctl.failure import describe_failure
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.runs.counts import Counts
from ackd.ctl.runs.opening import Opening, watch
from ackd.ctl.runs.payloads import Run
from ackd.printable import printable
from ackd.protocol import Reply, Verdict

# Seconds between two checks for replies that are overdue, and between two reports of progress.
_TICK = 0.25


@dataclass(frozen=True, slots=True)
class BenchPlan:
    """The load: `clients` keep `depth` payloads of `size` bytes on their way for `seconds`."""

    clients: int
    depth: int
    size: int
    seconds: float


# The tag of a payload is when it was sent, by time.monotonic().
BenchConnection = Transport[float]


class Load:
    """Puts a load on a server, and counts the outcomes."""

    def __init__(self, plan: BenchPlan, run: Run, destination: Destination) -> None:
        self.counts = Counts()
        self.trouble: Counter[str] = Counter()  # how many clients had each
        self.seconds = 0.0  # from the first payload to the last reply
        self.run = run
        self._plan = plan
        self._connections: list[BenchConnection] = []
        self._expected = plan.clients  # clients that are still being connected
        self._until = self._last = 0.0
        self._selector = selectors.DefaultSelector()
        self._opening: Opening[float] = Opening(destination, self._selector, self._on_opened)

    @property
    def rate(self) -> float:
        """Acks a second."""
        return self.counts.acknowledged / self.seconds if self.seconds else 0.0

    def make(self, interrupt: Interrupt, tick: Callable[[float], None]) -> None:
        """Make the load, until Ctrl-C at most; `tick` is called often, with the seconds so far."""
        self._interrupt = interrupt
        with self._opening, self._selector:
            self._selector.register(interrupt, selectors.EVENT_READ, interrupt.read)
            self._connect()
            self._last = began = monotonic()
            self._until = began + self._plan.seconds
            for connection in list(self._connections):
                self._go_on(connection)
            self._loop(lambda: tick(monotonic() - began))
            self.seconds = self._last - began

    def end(self) -> None:
        """Send the number of payloads, if there is a connection, and close all."""
        self.counts.unknown += sum(each.unanswered for each in self._connections)
        if self._connections and self.counts.sent and self._interrupt.pressed < 2:
            self.counts.end(self._connections[0], self.run, self._interrupt)
        for connection in self._connections:
            connection.close()

    def _connect(self) -> None:
        """Connect all clients before the first payload is sent."""
        for number in range(self._plan.clients):
            self._opening.open(number)
        while self._expected and not self._interrupt.pressed:
            self._turn(self._opening.deadline - monotonic())
            self._opening.expire()

    def _on_opened(self, _: int, opened: BenchConnection | ClientError) -> None:
        self._expected -= 1
        if isinstance(opened, ClientError):
            self._fail(opened)
        else:
            self._connections.append(opened)
            on_ready = partial(self._on_ready, opened)
            self._selector.register(opened, selectors.EVENT_READ, on_ready)

    def _loop(self, tick: Callable[[], None]) -> None:
        """Continue until all payloads are answered, or until a second Ctrl-C."""
        due = 0.0
        while self._interrupt.pressed < 2 and any(each.unanswered for each in self._connections):
            self._turn(_TICK)
            now = monotonic()
            if now >= due:
                due = now + _TICK
                for connection in list(self._connections):
                    connection.expire()
                    self._lose_ended(connection)
                tick()

    def _turn(self, wait: float) -> None:
        for key, _ in self._selector.select(None if wait == inf else max(0.0, wait)):
            key.data()

    def _on_ready(self, connection: BenchConnection) -> None:
        connection.flush()
        answers = connection.receive()
        if answers:
            self._last = monotonic()
            for since, reply in answers:
                self._count(reply, self._last - since)
        if not self._lose_ended(connection):
            self._go_on(connection)

    def _go_on(self, connection: BenchConnection) -> None:
        """Send payloads until `depth` of them are on their way."""
        now = monotonic()
        if now < self._until and not self._interrupt.pressed:
            for _ in range(self._plan.depth - connection.unanswered):
                if connection.full:
                    break
                self.counts.sent += 1
                connection.offer(self.run.payload(self.counts.sent, self._plan.size), now)
        connection.flush()
        watch(self._selector, connection)

    def _count(self, reply: Reply, seconds: float) -> None:
        if reply.verdict is Verdict.ACKNOWLEDGED:
            self.counts.acknowledged += 1
            self.counts.latencies.add(round(seconds * 1e9))
        else:
            self.counts.refused += 1
            self.counts.problem = f"refused: {printable(reply.text)}"

    def _fail(self, error: ClientError) -> None:
        self.counts.kept = error
        self.counts.problem = describe_failure(error)
        self.trouble[self.counts.problem] += 1

    def _lose_ended(self, connection: BenchConnection) -> bool:
        """Remove a connection that has ended; return whether it has ended."""
        if not connection.ended:
            return False
        error = error_of(connection.ended)
        self._fail(error)
        self._selector.unregister(connection)
        self._connections.remove(connection)
        unanswered = len(connection.close())
        if isinstance(error, RejectedError):  # the server has recorded nothing
            self.counts.refused += unanswered
        else:
            self.counts.unknown += unanswered
        return True
