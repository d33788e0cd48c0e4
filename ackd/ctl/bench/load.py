"""The loop of `ackctl bench`: clients, each with so many payloads on the way all the time."""

import selectors
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from time import monotonic

from ackd.client.client import Client, ClientError, NoAckError, TurnedAwayError
from ackd.ctl.failure import told
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.runs.counts import Tally
from ackd.ctl.runs.opening import Connect, Opening, watch
from ackd.ctl.runs.payloads import Run
from ackd.printable import printable
from ackd.protocol import Reply, Verdict

# Seconds between two looks at what is overdue, and at how far it is.
_TICK = 0.25


@dataclass(frozen=True, slots=True)
class Plan:
    """So many clients, each with `depth` payloads of `size` bytes on the way, for `seconds`."""

    clients: int
    depth: int
    size: int
    seconds: float
    timeout: float


class Flow:
    """One client, and when each of its payloads without reply was sent, by time.monotonic()."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.sent: deque[float] = deque()


class Load:
    """Puts a load on a server, and counts what becomes of it."""

    def __init__(self, plan: Plan, run: Run, connect: Connect) -> None:
        self.tally = Tally()
        self.trouble: Counter[str] = Counter()  # how many clients it happened to
        self.seconds = 0.0  # from the first payload to the last reply
        self.run = run
        self._plan = plan
        self._flows: list[Flow] = []
        self._until = self._last = 0.0
        self._opening = Opening(connect)
        self._selector = selectors.DefaultSelector()

    @property
    def rate(self) -> float:
        """Acks a second."""
        return self.tally.acknowledged / self.seconds if self.seconds else 0.0

    def make(self, interrupt: Interrupt, tick: Callable[[float], None]) -> None:
        """Make it, or less of it if Ctrl-C comes; `tick` is called with the seconds so far."""
        self._interrupt = interrupt
        with self._opening, self._selector:
            self._selector.register(interrupt, selectors.EVENT_READ, interrupt.read)
            self._connect()
            self._last = began = monotonic()
            self._until = began + self._plan.seconds
            for flow in list(self._flows):
                self._go_on(flow)
            self._loop(lambda: tick(monotonic() - began))
            self.seconds = self._last - began

    def end(self) -> None:
        """Send how many payloads there were, if there is anybody to send it, and close."""
        for flow in self._flows:
            self.tally.unknown += len(flow.sent)
        if self._flows and self.tally.sent and self._interrupt.pressed < 2:
            self.tally.end(self._flows[0].client, self.run, self._interrupt)
        for flow in self._flows:
            flow.client.close()

    def _connect(self) -> None:
        """Have all clients connected before the first payload is sent."""
        self._selector.register(self._opening, selectors.EVENT_READ, self._on_opened)
        for number in range(self._plan.clients):
            self._opening.open(number)
        self._expected = self._plan.clients
        while self._expected and not self._interrupt.pressed:
            self._turn(None)
        self._selector.unregister(self._opening)

    def _on_opened(self) -> None:
        for _, opened in self._opening.opened():
            self._expected -= 1
            if isinstance(opened, ClientError):
                self._fail(opened)
            else:
                flow = Flow(opened)
                self._flows.append(flow)
                ready = partial(self._on_ready, flow)
                self._selector.register(opened, selectors.EVENT_READ, ready)

    def _loop(self, tick: Callable[[], None]) -> None:
        """Go on until all is answered; a second Ctrl-C ends that too."""
        due = 0.0
        while self._interrupt.pressed < 2 and any(flow.sent for flow in self._flows):
            self._turn(_TICK)
            now = monotonic()
            if now >= due:
                due = now + _TICK
                self._drop_overdue(now - self._plan.timeout)
                tick()

    def _turn(self, wait: float | None) -> None:
        for key, _ in self._selector.select(wait):
            key.data()

    def _drop_overdue(self, latest: float) -> None:
        for flow in [flow for flow in self._flows if flow.sent and flow.sent[0] < latest]:
            self._lose(flow, NoAckError(f"no answer within {self._plan.timeout:g} s"))

    def _on_ready(self, flow: Flow) -> None:
        try:
            replies = flow.client.pump()
        except ClientError as error:
            self._lose(flow, error)
            return
        if replies:
            self._last = monotonic()
            for reply in replies:
                self._count(reply, self._last - flow.sent.popleft())
        self._go_on(flow)

    def _go_on(self, flow: Flow) -> None:
        """Have as many payloads on their way as there should be."""
        now = monotonic()
        more = now < self._until and not self._interrupt.pressed
        while more and len(flow.sent) < self._plan.depth and not flow.client.full:
            self.tally.sent += 1
            flow.sent.append(now)
            flow.client.offer(self.run.payload(self.tally.sent, self._plan.size))
        flow.client.flush()
        watch(self._selector, flow.client)

    def _count(self, reply: Reply, seconds: float) -> None:
        if reply.verdict is Verdict.ACKNOWLEDGED:
            self.tally.acknowledged += 1
            self.tally.latencies.add(round(seconds * 1e9))
        else:
            self.tally.refused += 1
            self.tally.problem = f"refused: {printable(reply.text)}"

    def _fail(self, error: ClientError) -> None:
        self.tally.kept = error
        self.tally.problem = told(error)
        self.trouble[self.tally.problem] += 1

    def _lose(self, flow: Flow, error: ClientError) -> None:
        """Go on without a client; what it had no reply to is unknown, or refused altogether."""
        self._fail(error)
        if isinstance(error, TurnedAwayError):
            self.tally.refused += len(flow.sent)
        else:
            self.tally.unknown += len(flow.sent)
        self._selector.unregister(flow.client)
        self._flows.remove(flow)
        flow.client.close()
