"""One of the connections of a ping: what was sent by it, and what is to be done when."""

from collections import deque
from dataclasses import dataclass
from math import inf
from time import monotonic, time

from ackd.client.client import Client, ClientError
from ackd.protocol import Reply

# Seconds before a connection is opened again: twice as many each time, up to the longest, until a
# reply has come.
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 1.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A payload on its way: when, in seconds of time.time() and of time.monotonic()."""

    number: int
    size: int
    at: float
    since: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said of a payload, so many seconds after that was sent."""

    sent: Sent
    reply: Reply
    seconds: float


class Link:
    """A connection that is opened anew whenever it has ended, and its payloads without reply.

    `due` is when the next payload is, `retry` when the next attempt to connect, both in seconds of
    time.monotonic(), inf for never; `left` is how many payloads will still be due. It is `lost`
    once it has ended.
    """

    def __init__(self, number: int, left: float, timeout: float) -> None:
        self.number = number
        self.left = left
        self.due = self.retry = inf
        self.client: Client | None = None
        self.failure: ClientError | None = None  # why there is none
        self.lost = False
        self.unanswered: deque[Sent] = deque()
        self.scheduled = inf  # this and `deadline` are for Deadlines
        self._timeout = timeout
        self._pause = _FIRST_PAUSE

    @property
    def overdue(self) -> float:
        """When to wait no longer for a reply."""
        return self.unanswered[0].since + self._timeout if self.unanswered else inf

    @property
    def deadline(self) -> float:
        """When to do something although nothing has happened."""
        return min(self.due, self.retry, self.overdue)

    def send(self, number: int, payload: bytes) -> None:
        """Send a payload by the connection, which must be there."""
        assert self.client
        self.unanswered.append(Sent(number, len(payload), time(), monotonic()))
        self.client.offer(payload)
        self.client.flush()

    def receive(self) -> list[Answer]:
        """Return the answers that have come; raises NoAckError, as Client.pump() does."""
        assert self.client
        return self.answers(self.client.pump())

    def answers(self, replies: list[Reply]) -> list[Answer]:
        """Return what replies are the answers to: the oldest payloads without one."""
        now = monotonic()
        sent = [self.unanswered.popleft() for _ in replies]
        return [Answer(s, reply, now - s.since) for s, reply in zip(sent, replies, strict=True)]

    def proven(self) -> None:
        """Have it opened again soon, should it end, now that a reply has come by it."""
        self._pause = _FIRST_PAUSE

    def close(self) -> list[Sent]:
        """Give the connection up, if there is one; return what has no reply."""
        if self.client:
            self.client.close()
            self.client = None
        unanswered = list(self.unanswered)
        self.unanswered.clear()
        return unanswered

    def open_later(self) -> None:
        """Have it opened again after a pause, unless nothing is left to be sent."""
        if self.left:
            self.retry = monotonic() + self._pause
            self._pause = min(2 * self._pause, _LONGEST_PAUSE)

    def stop(self) -> None:
        """Let nothing more be sent."""
        self.left, self.due, self.retry = 0, inf, inf
