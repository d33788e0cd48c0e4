"""One payload, from the name of the server to the ack, within one time."""

from time import monotonic

from ackd.client.addresses import Destination
from ackd.client.end import End, EndKind, TlsFault, TlsKind
from ackd.client.errors import (
    ClientError,
    NoGreetingError,
    NotReachedError,
    TlsError,
    Unexpected,
    UnexpectedReplyError,
    UnknownOutcomeError,
    Unreached,
    error_of,
)
from ackd.client.opening import OpeningStep, open_transport
from ackd.client.transport import Transport
from ackd.client.waiting import Awaited, Steps, run
from ackd.ctl.foreign import foreign
from ackd.printable import printable
from ackd.protocol import Reply

# The steps as they are called in the performance data.
_NAMES = {
    OpeningStep.NAME: "resolve",
    OpeningStep.CONNECTION: "connect",
    OpeningStep.TLS: "tls",
    OpeningStep.GREETING: "greeting",
}
_ACK = "ack"
_SHOWN = 80  # bytes of what a server says that is no ackd


class NotAckdError(Exception):
    """The server is no ackd; the message says why, in words."""


class Exchange:
    """One payload on its way to the ack. `timeout` of the destination bounds all of it.

    `took` has the seconds of each step that is complete, in order.
    """

    def __init__(self, destination: Destination, payload: bytes) -> None:
        self.took: dict[str, float] = {}
        self._destination = destination
        self._payload = payload
        self._step = ""
        self._since = monotonic()

    @property
    def complete(self) -> bool:
        """Whether a reply has come."""
        return _ACK in self.took

    @property
    def total(self) -> float:
        """The seconds of all steps that are complete."""
        return sum(self.took.values())

    def run(self) -> Reply:
        """Send the payload, and return the reply. Raises ClientError and NotAckdError."""
        return run(self._in_time(self._since + self._destination.timeout))

    def _in_time(self, deadline: float) -> Steps[Reply]:
        """Give the exchange up at the deadline: each of its waits could take all of the time."""
        steps = self._exchanged()
        try:
            wait = next(steps)
            while monotonic() < deadline:
                yield wait._replace(deadline=min(wait.deadline, deadline))
                wait = next(steps)
        except StopIteration as end:
            reply: Reply = end.value
            return reply
        finally:
            steps.close()
        raise self._overdue()

    def _exchanged(self) -> Steps[Reply]:
        transport: Transport[None] = yield from open_transport(
            self._destination, lambda step: self._begin(_NAMES[step])
        )
        try:
            self._check(transport.greeting or b"")
            self._begin(_ACK)
            transport.offer(self._payload, None)
            reply = yield from _replied(transport)
        finally:
            transport.close()
        self._begin("")
        self._check(reply.text)
        return reply

    def _begin(self, step: str) -> None:
        """Note that a step begins, and so that the step before is complete."""
        now = monotonic()
        if self._step:
            self.took[self._step] = self.took.get(self._step, 0.0) + now - self._since
        self._step, self._since = step, now

    def _check(self, line: bytes) -> None:
        """Raise NotAckdError if no ackd sends such a line."""
        if self._payload in line:
            raise NotAckdError("the server sent the payload back, as an echo server does")
        if server := foreign(line):
            raise NotAckdError(f"{server} answers: {printable(line[:_SHOWN])}")

    def _overdue(self) -> ClientError:
        """Return the error for a step that is not complete at the deadline."""
        to = self._destination
        end = End(EndKind.TIMED_OUT, seconds=to.timeout)
        if self._step in ("resolve", "connect"):
            missing = Unreached.NAME if self._step == "resolve" else Unreached.CONNECTION
            where = (to.host, to.port, to.timeout, to.source)
            return NotReachedError(missing, *where, family=to.family)
        if self._step == "tls":
            return TlsError(TlsFault(TlsKind.ENDED), end)
        if self._step == _ACK:
            return UnknownOutcomeError(end)
        if to.greeted:
            return NoGreetingError(end)
        return UnexpectedReplyError(end, Unexpected.SILENCE)


def _replied(transport: Transport[None]) -> Steps[Reply]:
    """Return the reply to the payload that was offered; raises ClientError."""
    transport.flush()
    answers = transport.receive()
    while not (answers or transport.ended):
        yield Awaited(transport.fileno(), transport.writing, transport.deadline)
        transport.flush()
        answers = transport.receive()
    if transport.ended:  # also by a second reply, which no ackd sends
        raise error_of(transport.ended)
    return answers[0][1]
