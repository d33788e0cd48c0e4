"""The loop: one selector for listeners, connections and the journal; nothing in it blocks."""

import contextlib
import itertools
import os
import selectors
import socket
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from math import inf
from time import monotonic
from types import MethodType
from typing import Any, Protocol

from ackd.config import Config, Recording
from ackd.deadlines import Deadlines
from ackd.journal.recorder import BATCH, TURN, Recorder
from ackd.protocol import STOPPING, ServerProtocol, ack_line, greeting_line
from ackd.records import Origin, Reason
from ackd.server.acceptor import Acceptor
from ackd.server.admission import Admission
from ackd.server.connection import CHUNK, Connection, Surroundings, Timeouts, Wait, attempt
from ackd.server.counters import Counters
from ackd.server.journal_queue import Turns
from ackd.server.listener import Listeners
from ackd.server.quota import Quota
from ackd.server.snapshot import Snapshot

# Connections that are handed over to the next process; those beyond are closed before.
HAND_OVER = 4000
# Those told `not connect` who may take their time to close; what is beyond is closed at once.
TURNED_AWAY = 256
# Connections of one client that are recorded within a minute, with two records each: a check each
# second stays below. And those of one that are turned away.
INTRODUCTIONS, REFUSALS = 100, 1
# Clients whose connections, or refusals, are counted one by one: some 3 MB, if there are so many.
CLIENTS, REFUSED_CLIENTS = 16384, 1024
# Payloads that are recorded in one round of all that wait or are readable, some 30 ms; and bytes
# that each of them may read at least: 4,096 hold 8 MiB then.
ROUND, LEAST_CHUNK = 1024, 2048
# Where payloads share a record, or have none, so many are as cheap as one.
LEAST_BATCH = 64
# Seconds of silence after which a client has been heard to the end in a drain, and for all of it.
DRAIN_SILENCE, DRAIN = 0.1, 2.0

_HANDLERS = {
    Wait.READ: (selectors.EVENT_READ, Connection.on_readable),
    Wait.WRITE: (selectors.EVENT_WRITE, Connection.on_writable),
    Wait.LINGER: (selectors.EVENT_READ, Connection.on_linger),
}


class Chore(Protocol):
    """Something that the loop looks after each time that it has gone round.

    `due` is when it must at the latest, in seconds of time.monotonic().
    """

    due: float

    def attend(self, now: float) -> None:
        """Do what is due."""


class Watched(Protocol):
    """Something with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""


class Server:
    """Serves clients on listeners until it is drained.

    It can't tell a listener that it was passed from one that was opened for it.
    """

    def __init__(self, config: Config, listeners: Listeners, recorder: Recorder) -> None:
        self._selector = selectors.DefaultSelector()
        self._timeouts = Timeouts(idle=inf, unread=inf)
        self._around = Surroundings(
            recorder,
            self._timeouts,
            Counters(),
            Quota("connections", INTRODUCTIONS, CLIENTS, recorder.note),
            Quota("turned away", REFUSALS, REFUSED_CLIENTS, recorder.note),
            self._changed,
        )
        self._deadlines: Deadlines[Connection] = Deadlines()
        self._turns = Turns(self._selector, recorder, self._timeouts, self._deadlines)
        self._around.newcomers = self._turns.newcomers
        self._acceptor = Acceptor(self._selector, self._welcome)
        self._admission = Admission(config)
        self._connections: dict[int, Connection] = {}
        self._ready = 0  # how many events this round has
        self._quotas = (self._around.introductions, self._around.refusals)
        self._chores: list[Chore] = [self._acceptor, *self._quotas]
        self._requests: deque[Callable[[], object]] = deque()
        self._keep = -1  # the end has come when there are no more connections than this
        self._drain_until = inf
        # Numbers alone would begin anew with each start.
        self._run = os.urandom(8).hex()
        self._numbers = itertools.count(1)
        self.configure(config, listeners)

    @property
    def counters(self) -> Counters:
        """What has been done since the start."""
        return self._around.counters

    @property
    def connected(self) -> int:
        """How many clients are served now."""
        return self._admission.inside

    @property
    def trouble(self) -> str:
        """What keeps clients or payloads waiting, in words; empty if nothing does."""
        return self._turns.trouble or self._acceptor.trouble

    @property
    def draining(self) -> bool:
        """Whether the end has been asked for."""
        return self._around.draining

    @property
    def listeners(self) -> Listeners:
        """The listeners that are open now."""
        return self._acceptor.listeners

    def configure(self, config: Config, listeners: Listeners) -> None:
        """Go on with other settings and listeners; clients who are inside stay."""
        self._config = config
        self._greeting = greeting_line(config.greeting.encode())
        self._ack = ack_line(config.ack.encode())
        self._around.debug = config.debug
        self._around.recorder.recording = config.record
        self._share()
        self._admission.configure(config)
        self._turns.journal_wait = config.journal_wait
        self._timeouts.idle = self._timeouts.unread = config.idle_timeout or inf
        for connection in self._connections.values():
            connection.protocol.configure(config.max_payload, self._ack)
            self._wait_anew(connection)
        self._acceptor.change(listeners)

    def watch(self, source: Watched, handler: Callable[[], None]) -> None:
        """Call `handler` in the loop whenever `source` is readable."""
        self._selector.register(source, selectors.EVENT_READ, handler)

    def call_soon(self, request: Callable[[], object]) -> None:
        """Call `request` when the events at hand have been dealt with."""
        self._requests.append(request)

    def add_chore(self, chore: Chore) -> None:
        """Have something else looked after in the loop."""
        self._chores.append(chore)

    def run(self) -> None:
        """Serve until drained, and everything is closed then; or until handed over."""
        while not self.ended:
            self.turn(self.timeout())
        self._selector.close()

    @property
    def ended(self) -> bool:
        """Whether all has been done that was left to do."""
        return len(self._connections) <= self._keep

    def turn(self, timeout: float | None) -> None:
        """Go round once: wait `timeout` seconds at most for an event, then do all that is due."""
        self._dispatch(timeout)
        while self._requests:
            self._requests.popleft()()
        now = monotonic()
        self._meet_deadlines(now)
        for chore in self._chores:
            chore.attend(now)
        self._turns.attend(now)  # the last: others may have had something recorded

    def timeout(self) -> float | None:
        """Return the seconds until something must be done although nothing happens."""
        until = min(self._turns.due, self._deadlines.next(), self._drain_until)
        for chore in self._chores:
            if chore.due < until:
                until = chore.due
        return None if until == inf else max(0.0, until - monotonic())

    def drain(self) -> None:
        """Let nobody in any more, finish with those who are inside, and end `run`.

        What has arrived is recorded and acknowledged; a client has been heard to the end when it
        is silent for a moment, and has longer to read its replies. Takes a few seconds at most,
        whatever clients do.
        """
        self._keep = 0
        self._drain_until = monotonic() + DRAIN
        self._around.draining = True
        self._timeouts.idle, self._timeouts.unread = DRAIN_SILENCE, DRAIN
        self._acceptor.change({})
        for connection in self._connections.values():
            self._wait_anew(connection)

    def halt(self) -> None:
        """End `run` without finishing anything."""
        self._keep = 0
        self._around.draining = True
        self._acceptor.change({})
        for connection in list(self._connections.values()):
            connection.close(Reason.STOP)

    def hand_over(self) -> None:
        """End `run` with the connections as they are, `HAND_OVER` of them at most.

        The listeners stay open: who comes meanwhile waits in their backlog.
        """
        self._keep = HAND_OVER
        self._acceptor.stop()
        self._finish(list(self._connections.values())[HAND_OVER:])

    def tell_left_out(self) -> None:
        """Record what was left out about clients since it was told last."""
        for quota in self._quotas:
            quota.tell()

    def snapshots(self) -> Iterator[tuple[int, Snapshot]]:
        """Yield the descriptor and the state of each connection that `hand_over` has left."""
        for descriptor, connection in self._connections.items():
            yield descriptor, connection.snapshot()

    def adopt(self, client: socket.socket, snapshot: Snapshot | None) -> None:
        """Go on with a connection of the process before; without its state only close it well."""
        if snapshot:
            origin = Origin(
                snapshot.peer, snapshot.peer_port, snapshot.listener, snapshot.connection
            )
            connection = self._connection(client, origin)
            self._admission.enter(origin.peer)
            attempt(connection, partial(connection.resume, snapshot))
        else:
            connection = self._connection(client, Origin("", 0, "", ""))
            attempt(connection, partial(connection.finish, Reason.NOT_TAKEN_OVER))

    def _dispatch(self, timeout: float | None) -> None:
        ready = self._selector.select(timeout)
        if len(ready) != self._ready:
            self._ready = len(ready)
            self._share()
        for key, _ in ready:
            connection = self._connections.get(key.fd)
            if connection is None:
                key.data()
            else:
                attempt(connection, key.data)

    def _meet_deadlines(self, now: float) -> None:
        for connection in self._deadlines.expired(now):
            attempt(connection, connection.on_deadline)
            self._deadlines.watch(connection)
        if now >= self._drain_until:
            self._drain_until = inf
            self._finish(list(self._connections.values()))

    def _finish(self, connections: list[Connection]) -> None:
        for connection in connections:
            if connection.wait is not Wait.LINGER:
                attempt(connection, partial(connection.finish, Reason.STOP))

    def _welcome(self, client: socket.socket, address: Any, listener: str) -> None:
        """Greet a client or turn it away; `address` is as accept() gives it for its family."""
        peer, port = address[:2]
        origin = Origin(peer, port, listener, f"{self._run}-{next(self._numbers)}")
        connection = self._connection(client, origin)
        self.counters.connections += 1
        refusal = STOPPING if self._around.draining else self._admission.refusal(peer)
        if refusal:
            self._turn_away(connection, refusal)
        else:
            self._admission.enter(peer)
            attempt(connection, partial(connection.greet, self._greeting))

    def _connection(self, client: socket.socket, origin: Origin) -> Connection:
        protocol = ServerProtocol(self._config.max_payload, self._ack)
        connection = Connection(client, origin, protocol, self._around)
        self._connections[client.fileno()] = connection
        return connection

    def _turn_away(self, connection: Connection, refusal: str) -> None:
        self.counters.turned_away += 1
        attempt(connection, partial(connection.turn_away, refusal))
        crowd = len(self._connections) - self._admission.inside
        if crowd > TURNED_AWAY and connection.wait is Wait.LINGER:
            connection.close(Reason.TURNED_AWAY)

    def _wait_anew(self, connection: Connection) -> None:
        connection.wait_anew()
        self._deadlines.watch(connection)

    def _changed(self, connection: Connection, before: Wait) -> None:
        """Watch for what the connection waits for now."""
        if before is Wait.JOURNAL:
            self._turns.leave(connection)
        if connection.wait in _HANDLERS:
            events, handler = _HANDLERS[connection.wait]
            watch = self._selector.modify if before in _HANDLERS else self._selector.register
            watch(connection, events, MethodType(handler, connection))
        elif before in _HANDLERS:
            self._unregister(connection)
        if connection.wait is Wait.JOURNAL:
            # With payloads that the journal had room for it has had a turn.
            served = connection.protocol.waiting and not self._around.recorder.holds_up
            self._turns.join(connection, new=before is Wait.READ and not served)
        self._share()
        if connection.wait is Wait.NOTHING:
            self._forget(connection)
        else:
            self._deadlines.watch(connection)

    def _share(self) -> None:
        """Let each have less at a time the more there are, in time as in memory."""
        waiting = len(self._turns) or 1
        each = self._around.recorder.recording is Recording.EACH
        least, most = (1, TURN) if each else (LEAST_BATCH, BATCH)
        self._around.turn = max(least, min(most, ROUND // max(waiting, self._ready)))
        self._around.chunk = max(LEAST_CHUNK, CHUNK // waiting)

    def _unregister(self, connection: Connection) -> None:
        with contextlib.suppress(KeyError):
            self._selector.unregister(connection)

    def _forget(self, connection: Connection) -> None:
        del self._connections[connection.fileno()]
        self._deadlines.forget(connection)
        if connection.served:
            self._admission.leave(connection.peer)
        self._acceptor.resume()
