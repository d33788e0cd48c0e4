"""All open connections, for the loop and the queue."""

from collections.abc import Callable, Iterable, Iterator
from types import MethodType

from ackd.journal.recorder import Recorder
from ackd.loop import READABLE, WRITABLE, Loop
from ackd.records import Reason
from ackd.server.connection import Connection, Wait
from ackd.server.journal_queue import JournalQueue

# By what a connection waits for, and whether it owes replies.
_HANDLERS = {
    (Wait.READ, False): (READABLE, Connection.on_readable),
    (Wait.READ, True): (READABLE | WRITABLE, Connection.on_readable_or_writable),
    (Wait.JOURNAL, True): (WRITABLE, Connection.on_writable),
    (Wait.COMMIT, True): (WRITABLE, Connection.on_writable),
    (Wait.WRITE, True): (WRITABLE, Connection.on_writable),
    (Wait.LINGER, False): (READABLE, Connection.on_linger),
}


# Each connection needs these members, and Python 3.11 looks the members of an Enum up slowly.
_JOURNAL, _NOTHING = Wait.JOURNAL, Wait.NOTHING


class Connections:
    """Keeps the loop's events and timers, and the queue, in line with what connections wait for.

    `on_closed` is called with each connection that is closed, while its descriptor is still open.
    """

    def __init__(
        self,
        loop: Loop,
        queue: JournalQueue,
        recorder: Recorder,
        on_closed: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._queue = queue
        self._recorder = recorder
        self._on_closed = on_closed
        self._by_descriptor: dict[int, Connection] = {}

    def __len__(self) -> int:
        return len(self._by_descriptor)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over the connections that are open now, even if some close meanwhile."""
        return iter(list(self._by_descriptor.values()))

    def add(self, connection: Connection) -> None:
        """Add a connection that is new here."""
        self._by_descriptor[connection.fileno()] = connection

    def restart_deadlines(self, connections: Iterable[Connection]) -> None:
        """Count deadlines from now, as after a change of the timeouts."""
        for connection in connections:
            connection.restart_deadline()
            self._loop.timers.watch(connection)

    def finish(self, connections: Iterable[Connection]) -> None:
        """End connections, so that their clients still get all replies."""
        for connection in connections:
            if connection.wait is not Wait.LINGER:
                connection.finish(Reason.STOP)

    def changed(self, connection: Connection, before: Wait) -> None:
        """Watch the connection for the event that it waits for now."""
        wait = connection.wait
        watched = _HANDLERS.get((wait, connection.owes))
        if watched:
            events, handler = watched
            self._loop.watch(connection, events, MethodType(handler, connection))
        else:
            self._loop.unwatch(connection)
        if wait is not before:
            self._queue_or_leave(connection, before)
        if wait is _NOTHING:
            self._remove(connection)
        else:
            self._loop.timers.watch(connection)

    def _queue_or_leave(self, connection: Connection, before: Wait) -> None:
        if before is _JOURNAL:
            self._queue.leave(connection)
        elif connection.wait is _JOURNAL:
            # A connection with payloads left although the journal takes more has had a turn.
            had_turn = connection.protocol.waiting and not self._recorder.must_wait
            self._queue.join(connection, first=before is Wait.READ and not had_turn)

    def _remove(self, connection: Connection) -> None:
        del self._by_descriptor[connection.fileno()]
        self._loop.timers.forget(connection)
        self._on_closed(connection)
