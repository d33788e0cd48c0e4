"""The loop of `ackctl ping`: some connections, and a payload now and then on each."""

import selectors
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from time import monotonic, time
from typing import Protocol

from ackd.client.client import Client, ClientError, NoAckError, NotReachedError, TurnedAwayError
from ackd.ctl.failure import told
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.ping.connection import Answer, Link, Sent
from ackd.ctl.runs.counts import Tally
from ackd.ctl.runs.latency import Outages
from ackd.ctl.runs.opening import Connect, Opening, watch
from ackd.ctl.runs.payloads import Run
from ackd.deadlines import Deadlines
from ackd.printable import printable
from ackd.protocol import Reply, Verdict

# Seconds: who was kept from sending for longer, by a laptop's lid, does not make up for it.
_LATE = 1.0
# Seconds, if the interval is not shorter, that those who are connected wait for the others at the
# start: what is measured while hundreds of threads connect is how these compete.
_START = 1.0
_NOT_YET = NotReachedError("no answer so far")


@dataclass(frozen=True, slots=True)
class Plan:
    """How many payloads (inf: no end) of which size, how often, on each of how many connections."""

    count: float
    size: int
    interval: float
    parallel: int
    timeout: float


class Teller(Protocol):
    """Who is told of what happens on a connection, by its number."""

    def connected(self, link: int) -> None:
        """Tell that a connection is there."""

    def failed(self, link: int, error: ClientError) -> None:
        """Tell that a connection is not there, or no more."""

    def answered(self, link: int, answer: Answer) -> None:
        """Tell what the server said of a payload."""

    def unanswered(self, link: int, sent: Sent, why: str) -> None:
        """Tell that nobody waits for a reply any more."""

    def waiting(self, count: int) -> None:
        """Tell that it ends when so many replies have come."""


class PingTally(Tally):
    """Counts, also, what was due while there was no connection; that has no number.

    `reconnects` is how many connections were there again after one that had ended.
    """

    def __init__(self) -> None:
        super().__init__()
        self.not_sent = 0
        self.reconnects = 0
        self.outages = Outages()

    def counts(self) -> dict[str, int]:
        """Return how many payloads ended how."""
        return {**super().counts(), "not_sent": self.not_sent}


class Pinger:
    """Sends a run's payloads and tells what becomes of each."""

    def __init__(self, plan: Plan, run: Run, connect: Connect, teller: Teller) -> None:
        self.tally = PingTally()
        self._plan, self._run, self._teller = plan, run, teller
        self._links = [Link(n, plan.count, plan.timeout) for n in range(plan.parallel)]
        self._fresh = set(self._links)  # first connection neither there nor failed
        self._opening = Opening(connect)
        self._deadlines: Deadlines[Link] = Deadlines()
        self._selector = selectors.DefaultSelector()

    def ping(self, interrupt: Interrupt) -> None:
        """Send all, or until Ctrl-C, and wait for the replies; a second Ctrl-C ends that too."""
        self._interrupt = interrupt
        self._began = time()
        self._start = monotonic() + min(_START, self._plan.interval)
        with self._opening, self._selector:
            self._selector.register(interrupt, selectors.EVENT_READ, self._on_interrupt)
            self._selector.register(self._opening, selectors.EVENT_READ, self._on_opened)
            for link in self._links:
                link.due = monotonic() + _START  # to tell then that it is not there yet
                self._deadlines.watch(link)
                self._opening.open(link.number)
            self._loop()

    def end(self) -> None:
        """Send how many payloads there were, if a connection is there, and close all."""
        client = next((link.client for link in self._links if link.client), None)
        if client and self.tally.sent and self._interrupt.pressed < 2:
            self.tally.end(client, self._run, self._interrupt)
        for link in self._links:
            self._count_unknown(link, link.close(), "interrupted")

    def _loop(self) -> None:
        while self._interrupt.pressed < 2 and any(k.left or k.unanswered for k in self._links):
            wait = self._deadlines.next() - monotonic()
            for key, _ in self._selector.select(None if wait == inf else max(0.0, wait)):
                key.data()
            for link in self._deadlines.expired(monotonic()):
                self._on_deadline(link, monotonic())
                self._deadlines.watch(link)

    def _on_interrupt(self) -> None:
        for link in self._fresh:
            if link.failure:
                self._miss(link, self._began)
        self._fresh.clear()
        for link in self._links:
            link.stop()
        unanswered = sum(len(link.unanswered) for link in self._links)
        if self._interrupt.read() == 1 and unanswered:
            self._teller.waiting(unanswered)

    def _on_opened(self) -> None:
        for number, opened in self._opening.opened():
            link = self._links[number]
            if isinstance(opened, ClientError):
                self._fail(link, opened)
            else:
                self._use(link, opened)
            if link in self._fresh:
                self._fresh.remove(link)
                self._begin(link)
            self._deadlines.watch(link)
        if not self._fresh and monotonic() < self._start:
            self._start = monotonic()
            for link in self._links:
                self._begin(link)
                self._deadlines.watch(link)

    def _use(self, link: Link, client: Client) -> None:
        link.client, link.failure = client, None
        self._selector.register(client, selectors.EVENT_READ, partial(self._on_ready, link))
        self._teller.connected(link.number)
        self.tally.reconnects += link.lost

    def _begin(self, link: Link) -> None:
        """Have its first payload due: spread over the interval, so that none waits for others."""
        if link.left:
            share = link.number / self._plan.parallel
            link.due = max(monotonic(), self._start + share * self._plan.interval)

    def _on_ready(self, link: Link) -> None:
        if not link.client:
            return  # it was given up in this very turn
        try:
            answers = link.receive()
            watch(self._selector, link.client)
        except ClientError as error:
            self._lose(link, error)
        else:
            if answers:
                link.proven()
            for answer in answers:
                self._take(link, answer)
        self._deadlines.watch(link)

    def _on_deadline(self, link: Link, now: float) -> None:
        if link.overdue <= now:
            self._lose(link, NoAckError(f"no answer within {self._plan.timeout:g} s"))
        if link.retry <= now:
            link.retry = inf
            self._opening.open(link.number)
        if link.due <= now and link in self._fresh:
            link.due, link.failure = inf, _NOT_YET
            self._teller.failed(link.number, _NOT_YET)
        if link.due <= now:
            link.left -= 1
            link.due = self._next(link, now)
            self._ping(link)

    def _next(self, link: Link, now: float) -> float:
        """Return when the next payload is due."""
        if not link.left:
            return inf
        due = link.due + self._plan.interval
        return due if due > now - _LATE else now

    def _ping(self, link: Link) -> None:
        if link.client and not link.client.full:
            self.tally.sent += 1
            number = self.tally.sent
            link.send(number, self._run.payload(number, self._plan.size))
            watch(self._selector, link.client)
        else:
            self._miss(link, time())

    def _miss(self, link: Link, since: float) -> None:
        """Count what was due and could not be sent."""
        self.tally.not_sent += 1
        self.tally.kept = link.failure or _NOT_YET
        self.tally.outages.begin(link.number, since)

    def _take(self, link: Link, answer: Answer) -> None:
        if answer.reply.verdict is Verdict.ACKNOWLEDGED:
            self.tally.acknowledged += 1
            self.tally.latencies.add(round(answer.seconds * 1e9))
            self.tally.outages.end(link.number, time())
        else:
            self.tally.refused += 1
            self.tally.problem = f"refused: {printable(answer.reply.text)}"
            self.tally.outages.begin(link.number, answer.sent.at)
        self._teller.answered(link.number, answer)

    def _fail(self, link: Link, error: ClientError) -> None:
        """Try again later to connect."""
        link.failure = error
        self.tally.problem = told(error)
        if link in self._fresh:
            self.tally.outages.begin(link.number, self._began)
        self._teller.failed(link.number, error)
        link.open_later()

    def _lose(self, link: Link, error: ClientError) -> None:
        """Give a connection up, and what has no reply; who turns us away refuses all of that."""
        assert link.client
        self._selector.unregister(link.client)
        if isinstance(error, TurnedAwayError):
            refusals = [Reply(Verdict.REFUSED, error.said)] * len(link.unanswered)
            for answer in link.answers(refusals):
                self._take(link, answer)
        link.lost = True
        self._count_unknown(link, link.close(), str(error))
        self._fail(link, error)

    def _count_unknown(self, link: Link, unanswered: Iterable[Sent], why: str) -> None:
        for sent in unanswered:
            self.tally.unknown += 1
            self.tally.outages.begin(link.number, sent.at)
            self._teller.unanswered(link.number, sent, why)
