"""The server admits clients, and works in rounds: read, record, acknowledge."""

import itertools
import os
import socket
import sys
from collections.abc import Iterator
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any

from ackd.config import Config, EmptyLines
from ackd.journal.recorder import Recorder
from ackd.loop import Loop
from ackd.protocol import STOPPING, ServerProtocol, ack_line, greeting_line
from ackd.records import Origin, Reason
from ackd.server.acceptor import Acceptor
from ackd.server.admission import Admission
from ackd.server.arrivals import Arrivals, BeginPreliminary
from ackd.server.availability import Availability
from ackd.server.budget import Budget
from ackd.server.commits import Commits
from ackd.server.connection import Connection, Shared, Timeouts, Wait
from ackd.server.connections import Connections
from ackd.server.counters import Counters
from ackd.server.ending import Ending
from ackd.server.journal_queue import JournalQueue
from ackd.server.listener import Listeners
from ackd.server.presence import Presence
from ackd.server.quota import (
    CONNECT_CLIENTS,
    CONNECTS,
    REJECT_CLIENTS,
    REJECTS,
    Quota,
)
from ackd.server.rates import RateSamples
from ackd.server.snapshot import Snapshot
from ackd.server.stream import Stream
from ackd.server.unfinished import UnfinishedLines

if TYPE_CHECKING:  # OpenSSL would delay each start without TLS
    from ackd.server.figures import Figures
    from ackd.server.tls import Tls

# Rejected clients that may take their time to close; beyond, they are closed at once.
_MAX_REJECTED = 256


class Server:
    """Serves clients on listeners, in rounds, until `ended`.

    `loop` may have other descriptors and timers as well. `ending` has the ways to end.
    """

    def __init__(
        self, config: Config, listeners: Listeners, recorder: Recorder, loop: Loop
    ) -> None:
        self._loop = loop
        self._recorder = recorder
        self._budget = Budget(recorder)
        self._queue = JournalQueue(recorder, self._budget)
        self._availability = Availability(loop, recorder, self._on_journal_change)
        self._connections = Connections(loop, self._queue, recorder, self._on_closed)
        self._unfinished = UnfinishedLines()
        self._commits = Commits(loop, recorder, self._on_journal_change)
        self._shared = Shared(
            recorder,
            self._budget,
            self._queue.first_turns,
            Timeouts(idle=inf, unread=inf),
            Counters(),
            Quota("connections", CONNECTS, CONNECT_CLIENTS, recorder.note, loop.timers),
            Quota("turned away", REJECTS, REJECT_CLIENTS, recorder.note, loop.timers),
            self._connections.changed,
            self._unfinished.note,
            self._commits.add,
        )
        self._acceptor = Acceptor(loop, self._welcome)
        self._admission = Admission(config, self._obstacle)
        self._arrivals = Arrivals(loop, self._admission, self._greet, self._reject, self._leave)
        self._presence = Presence(loop.timers)
        self.ending = Ending(loop, self._acceptor, self._arrivals, self._connections, self._shared)
        self._samples = RateSamples(self._shared.counters)
        # Numbers alone would begin anew with each start.
        self._run = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self.configure(config, listeners)

    @property
    def counters(self) -> Counters:
        """What has been done since the start."""
        return self._shared.counters

    @property
    def figures(self) -> "Figures":
        """What an administrator may ask for."""
        from ackd.server.figures import Figures  # here: most ackds are never asked

        parts = (self._admission, self._arrivals, self._connections, self._queue, self._commits)
        return Figures(*parts, self._shared, self._samples)

    @property
    def connected(self) -> int:
        """How many admitted clients are connected."""
        return self._admission.connected - len(self._arrivals)

    @property
    def remaining(self) -> int:
        """How many connections are open, admitted or not."""
        return len(self._connections)

    @property
    def trouble(self) -> str:
        """Why clients or payloads wait, as text; empty if none waits."""
        return next(self.troubles, "")

    @property
    def troubles(self) -> Iterator[str]:
        """All reasons why clients or payloads wait, the worst first."""
        parts = (self._commits, self._availability, self._acceptor, self._presence)
        return (part.trouble for part in parts if part.trouble)

    @property
    def draining(self) -> bool:
        """Whether a drain or a halt has begun."""
        return self._shared.draining

    @property
    def ended(self) -> bool:
        """Whether nothing is left to do."""
        return self.ending.complete

    @property
    def listeners(self) -> Listeners:
        """The listeners that are open now."""
        return self._acceptor.listeners

    @property
    def endpoints(self) -> str:
        """Where the server listens, as text, with a word about addresses that are not there yet."""
        return self._presence.describe(self.listeners.values())

    def configure(self, config: Config, listeners: Listeners, tls: "Tls | None" = None) -> None:
        """Use these settings and listeners from now on, also for clients that are connected."""
        self._config = config
        self._arrivals.preliminaries = tuple(_preliminaries(config, tls))
        self.ending.waits_for_arrivals = tls is None
        self._greeting = greeting_line(config.greeting.encode())
        self._ack = ack_line(config.ack.encode())
        self._shared.debug = config.debug
        self._recorder.recording = config.record
        self._budget.divide()
        self._admission.configure(config)
        self._shared.timeouts.idle = self._shared.timeouts.unread = config.idle_timeout or inf
        self._set_journal_wait()
        self._record_empty = config.empty_lines is EmptyLines.RECORD
        for connection in self._connections:
            connection.protocol.configure(config.max_payload, self._ack, self._record_empty)
        self._connections.restart_deadlines(self._connections)
        self._acceptor.change(listeners)
        self._presence.change(listeners.values())

    # One round of the loop

    def round(self, timeout: float | None) -> None:
        """Wait for events, `timeout` seconds at most; read what is readable; do what is due.

        A connection that reads has its payloads recorded and acknowledged at once, unless it must
        wait for the journal.
        """
        events = self._loop.wait(timeout)
        self._budget.set_ready(len(events))
        self._loop.handle(events)
        now = monotonic()
        self._loop.meet_deadlines(now)
        self.before_sleep(now)

    def before_sleep(self, now: float) -> None:
        """End a round: record and acknowledge waiting payloads, then look at the journal.

        The commit comes last, with the notes of all others.
        """
        if self._arrivals.turns:
            self._arrivals.go_on()
        self._queue.give_turns()
        self._unfinished.enforce()
        self._recorder.look(now)
        self._availability.check()
        self._commits.begin()
        if now >= self._samples.next:
            self._samples.take(now)

    def timeout(self) -> float | None:
        """Return the seconds until something is due although nothing happens; None for never."""
        busy = self._queue.can_go_on or self._arrivals.turns
        return 0.0 if busy else self._loop.timeout()

    # Clients

    def _welcome(self, client: socket.socket, address: Any, listener: str) -> None:
        """Begin with a client; `address` is as accept() gives it for its family."""
        peer, port = address[:2]
        peer = sys.intern(peer)  # all connections of one address share the text
        origin = Origin(peer, port, listener, f"{self._run}-{next(self._numbers)}")
        self.counters.connections += 1
        if self.draining:
            self._reject(client, origin, STOPPING)
        else:
            self._arrivals.begin(client, origin)

    def _greet(self, stream: Stream, origin: Origin) -> None:
        self._add(stream, origin).greet(self._greeting)

    def _reject(self, stream: Stream, origin: Origin, reason: str, answer: bool = True) -> None:
        connection = self._add(stream, origin)
        connection.reject(reason, answer)
        rejected = len(self._connections) - self.connected
        if rejected > _MAX_REJECTED and connection.wait is Wait.LINGER:
            connection.close(Reason.REJECTED)

    def _leave(self, stream: Stream, origin: Origin, why: str) -> None:
        self._add(stream, origin).leave(why)

    def _add(self, stream: Stream, origin: Origin) -> Connection:
        protocol = ServerProtocol(self._config.max_payload, self._ack, self._record_empty)
        connection = Connection(stream, origin, protocol, self._shared)
        self._connections.add(connection)
        return connection

    def _on_closed(self, connection: Connection) -> None:
        self._unfinished.forget(connection)
        if connection.admitted:
            self._admission.leave(connection.peer)
        self._acceptor.resume()

    def _on_journal_change(self) -> None:
        self._set_journal_wait()
        self._connections.restart_deadlines(self._queue)

    def _obstacle(self) -> str:
        """Return why a new client is better off with another server; empty if it is not.

        ackd would refuse its payloads, or its acks would not come.
        """
        part = self._commits if self._recorder.acks_wait else self._availability
        return self._recorder.obstacle or part.obstacle(self._config.journal_wait)

    def _set_journal_wait(self) -> None:
        """Let payloads wait without limit for a slow journal, but not for an absent one.

        If acks wait for the disk, payloads wait only for the log, which can be full.
        """
        in_log = self._recorder.acks_wait
        stuck = self._commits.full if in_log else self._availability.lost
        self._shared.timeouts.journal = self._config.journal_wait if stuck else inf

    # From one process to the next

    def finish_commits(self, deadline: float) -> None:
        """Wait for the disk, and answer all payloads that wait for it, until `deadline` at most.

        A client whose payloads are still not on the disk then gets no reply to them.
        """
        self._commits.finish(deadline)
        self._connections.finish(c for c in self._connections if c.protocol.taken)

    def snapshots(self) -> Iterator[tuple[int, Snapshot]]:
        """Yield the descriptor and the state of each connection that the hand-over has left."""
        for connection in self._connections:
            yield connection.fileno(), connection.snapshot()

    def take_over(self, client: socket.socket, snapshot: Snapshot | None) -> None:
        """Continue a connection of the previous process; without a state, only close it."""
        if snapshot:
            connection = self._add(client, snapshot.origin)
            self._admission.enter(snapshot.peer)
            connection.restore(snapshot)
            self._unfinished.note(connection, 0)
        else:
            self._add(client, Origin("", 0, "", "")).finish(Reason.NOT_TAKEN_OVER)

    def report_left_out(self) -> None:
        """Record how many records about clients were left out and not reported yet."""
        self._shared.connect_quota.report()
        self._shared.reject_quota.report()


def _preliminaries(config: Config, tls: "Tls | None") -> Iterator[BeginPreliminary]:
    """Yield what begins what comes before the greeting, in this order."""
    if config.proxy_from:
        from ackd.server.proxies import from_proxies  # here: most starts need no PROXY header

        yield from_proxies(config.proxy_from, config.handshake_timeout)
    if tls:
        yield tls.begin
