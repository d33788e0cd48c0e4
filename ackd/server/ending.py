"""The ways in which serving ends: a drain, a halt, and the hand-over to the next process."""

from copy import copy
from itertools import islice
from math import inf
from time import monotonic

from ackd.loop import Loop
from ackd.records import Reason
from ackd.server.acceptor import Acceptor
from ackd.server.arrivals import Arrivals
from ackd.server.connection import Connection, Shared, Timeouts
from ackd.server.connections import Connections

# Connections that are handed over to the next process; those beyond are closed before.
_HAND_OVER = 4000
# Seconds of silence after which a drain assumes that a client has sent everything, and seconds
# after which the drain ends the connections that are left.
_DRAIN_SILENCE, _DRAIN = 0.1, 2.0
# Seconds that a hand-over waits for arrivals, which can't be handed over. Honest clients need far
# less, and connected clients are served meanwhile.
_ARRIVE = 1.0


class Ending:
    """Ends serving, in one of three ways."""

    def __init__(
        self,
        loop: Loop,
        acceptor: Acceptor,
        arrivals: Arrivals,
        connections: Connections,
        shared: Shared,
    ) -> None:
        self.deadline = self.scheduled = inf
        self._loop = loop
        self._acceptor = acceptor
        self._arrivals = arrivals
        self._connections = connections
        self._shared = shared
        self.waits_for_arrivals = True  # because they can be handed over as connections
        self._left = -1  # serving has ended when there are no more connections than this

    @property
    def complete(self) -> bool:
        """Whether serving has ended."""
        if len(self._connections) > self._left or self._arrivals:
            return False
        return all(connection.can_be_handed_over for connection in self._connections)

    def drain(self) -> None:
        """Accept no more clients, and finish with those that are connected.

        What has arrived is recorded and acknowledged. Once a client has been silent for a moment,
        ackd ends the connection; then the client has longer to read its replies. This takes a few
        seconds at most, whatever the clients do.
        """
        self._left = 0
        self._shared.draining = True
        self._shared.timeouts.idle, self._shared.timeouts.unread = _DRAIN_SILENCE, _DRAIN
        self.deadline = monotonic() + _DRAIN
        self._loop.timers.watch(self)
        self._acceptor.change({})
        self._arrivals.stop()
        self._connections.restart_deadlines(self._connections)

    def on_deadline(self) -> None:
        """End what the drain has left, or what the hand-over still waits for."""
        self.deadline = inf
        self._arrivals.stop()
        drains = self._shared.draining
        self._connections.finish(
            connection
            for connection in self._connections
            if drains or not connection.can_be_handed_over
        )

    def halt(self) -> None:
        """Close all connections at once."""
        self._left = 0
        self._shared.draining = True
        self._acceptor.change({})
        self._arrivals.stop()
        for connection in self._connections:
            connection.close(Reason.STOP)

    def hand_over(self) -> None:
        """Stop with the connections as they are, `_HAND_OVER` of them at most.

        The listeners stay open: new clients wait in their backlog for the next process. Connections
        that can't be handed over end as in a drain. Arrivals become connections first if these can
        be handed over, or are rejected.
        """
        self._left = _HAND_OVER
        self._acceptor.stop()
        if not self.waits_for_arrivals:
            self._arrivals.stop()
        most = max(0, _HAND_OVER - len(self._arrivals))
        self._connections.finish(islice(self._connections, most, None))
        leaving = [c for c in self._connections if not c.can_be_handed_over]
        self._drain(leaving)
        if leaving or self._arrivals:
            self.deadline = monotonic() + (_DRAIN if leaving else _ARRIVE)
            self._loop.timers.watch(self)

    def _drain(self, connections: list[Connection]) -> None:
        """Drain these connections only."""
        shared = copy(self._shared)
        shared.timeouts = Timeouts(_DRAIN_SILENCE, _DRAIN)
        shared.draining = True
        for connection in connections:
            connection.share(shared)
        self._connections.restart_deadlines(connections)
