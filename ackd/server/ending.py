"""The ways in which serving ends: a drain, a halt, and the hand-over to the next process."""

from itertools import islice
from math import inf
from time import monotonic

from ackd.loop import Loop
from ackd.records import Reason
from ackd.server.acceptor import Acceptor
from ackd.server.arrivals import Arrivals
from ackd.server.connection import Shared
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
        self._left = -1  # serving has ended when there are no more connections than this

    @property
    def complete(self) -> bool:
        """Whether serving has ended."""
        return len(self._connections) <= self._left and not self._arrivals

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
        """End the connections that the drain has left, or the arrivals that the hand-over has."""
        self.deadline = inf
        self._arrivals.stop()
        if self._shared.draining:
            self._connections.finish(self._connections)

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

        The listeners stay open: new clients wait in their backlog for the next process. Arrivals
        become connections first, or are rejected.
        """
        self._left = _HAND_OVER
        self._acceptor.stop()
        most = max(0, _HAND_OVER - len(self._arrivals))
        self._connections.finish(islice(self._connections, most, None))
        if self._arrivals:
            self.deadline = monotonic() + _ARRIVE
            self._loop.timers.watch(self)
