"""One connection of a ping: its payloads without a reply, and its next deadline."""

from dataclasses import dataclass
from math import inf
from time import monotonic, time

from ackd.client.errors import ClientError
from ackd.client.transport import Transport
from ackd.protocol import Reply

# Seconds before a connection is opened again. Each further pause is twice as long, up to the
# longest, until a reply has come.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0
# Seconds without a reply after which that is reported; then twice as many, and so on. TCP sends
# lost packets again after 0.2, 0.6 and 1.4 s.
_STALL = 2.0


@dataclass(frozen=True, slots=True)
class PingPayload:
    """A payload on its way, with the time of sending by time.time() and time.monotonic()."""

    number: int
    size: int
    at: float
    since: float


@dataclass(frozen=True, slots=True)
class PingAnswer:
    """The reply to a payload, and how many seconds it took."""

    payload: PingPayload
    reply: Reply
    seconds: float


class PingConnection:
    """A connection that is opened again whenever it has ended.

    `due` is when the next payload is due, `retry` when the next attempt to connect is, both by
    time.monotonic(), inf for never. `left` is how many payloads will still be due. `failure` is
    why there is no connection. `lost` says that a connection has ended before.
    """

    def __init__(self, number: int, left: float) -> None:
        self.number = number
        self.left = left
        self.due = self.retry = inf
        self.transport: Transport[PingPayload] | None = None
        self.failure: ClientError | None = None
        self.lost = False
        self.scheduled = inf  # this and `deadline` are for Deadlines
        self._pause = _FIRST_PAUSE
        self._patience = _STALL

    @property
    def oldest(self) -> PingPayload | None:
        """The payload that has waited longest for its reply."""
        waiting = self.transport.in_flight if self.transport else ()
        return waiting[0] if waiting else None

    @property
    def stalled(self) -> float:
        """When to report that a reply does not come, by time.monotonic(); inf for never."""
        return self.oldest.since + self._patience if self.oldest else inf

    @property
    def unanswered(self) -> int:
        """How many payloads have no reply."""
        return self.transport.unanswered if self.transport else 0

    @property
    def deadline(self) -> float:
        """When the next action is due, if no event comes before."""
        overdue = self.transport.deadline if self.transport else inf
        return min(self.due, self.retry, overdue, self.stalled)

    def be_patient(self) -> None:
        """Double the time until the next report that a reply does not come."""
        self._patience *= 2

    def send(self, number: int, payload: bytes) -> None:
        """Send a payload; there must be a connection."""
        assert self.transport
        self.transport.offer(payload, PingPayload(number, len(payload), time(), monotonic()))
        self.transport.flush()

    def receive(self) -> list[PingAnswer]:
        """Send and receive what can be at once; return the answers that have come."""
        assert self.transport
        self.transport.flush()
        now, replies = monotonic(), self.transport.receive()
        if replies:
            self._pause, self._patience = _FIRST_PAUSE, _STALL
        return [PingAnswer(payload, reply, now - payload.since) for payload, reply in replies]

    def close(self) -> list[PingPayload]:
        """Close the connection, if there is one; return the payloads without a reply."""
        unanswered = self.transport.close() if self.transport else []
        self.transport = None
        self._patience = _STALL
        return unanswered

    def open_later(self) -> None:
        """Open the connection again after a pause, unless no payload is left."""
        if self.left:
            self.retry = monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Send nothing more."""
        self.left, self.due, self.retry = 0, inf, inf
