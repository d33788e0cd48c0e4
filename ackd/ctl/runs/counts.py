"""Counts of the outcomes of a run's payloads."""

import contextlib
from typing import Any

from ackd.client.end import EndKind
from ackd.client.errors import ClientError, error_of
from ackd.client.session import Session
from ackd.client.transport import Transport
from ackd.ctl.exit_status import Status
from ackd.ctl.failure import describe_failure, meaning
from ackd.ctl.interrupt import Interrupt, exit_status
from ackd.ctl.runs.payloads import Run
from ackd.latency import Latencies
from ackd.protocol import Verdict


class Counts:
    """How many payloads had each outcome, and how long the acks took.

    `unknown` payloads were sent and have no reply. `kept` is why a connection could not be used,
    so that something was not sent. `problem` is the last problem, in words. `ended`
    says that the last payload of the run, which states their number and is not counted, was
    acknowledged.
    """

    def __init__(self) -> None:
        self.sent = 0
        self.acknowledged = 0
        self.refused = 0
        self.unknown = 0
        self.latencies = Latencies()
        self.kept: ClientError | None = None
        self.problem = ""
        self.ended = False

    @property
    def status(self) -> Status:
        """The exit status of the worst event; without any event, that of Ctrl-C."""
        if self.unknown:
            return Status.UNKNOWN
        if self.kept:
            return meaning(self.kept)[0]
        if self.refused:
            return Status.REFUSED
        return Status.DELIVERED if self.acknowledged else exit_status()

    def end(self, transport: Transport[Any], run: Run, interrupt: Interrupt) -> None:
        """Send the number of payloads, wait for the ack until Ctrl-C, and close the connection."""
        session = Session(transport)
        transport.offer(run.end(self.sent), None)
        with contextlib.suppress(ClientError):
            while transport.unanswered and not session.wait(interrupt.fileno()):
                for _, reply in session.advance():
                    self.ended = reply.verdict is Verdict.ACKNOWLEDGED
        session.close()
        if transport.ended and transport.ended.how is EndKind.UNEXPECTED:
            self.distrust(error_of(transport.ended))

    def distrust(self, error: ClientError) -> None:
        """Note that a server has replied as no ackd does."""
        self.kept, self.problem = error, describe_failure(error)

    def failure(self) -> str:
        """Return a sentence about the problem, with all counts; "" if there was none."""
        if not self.status:
            return ""
        kept = describe_failure(self.kept) if self.kept else "interrupted"
        counts = (f"{n:,} {name.replace('_', ' ')}" for name, n in self.by_outcome().items() if n)
        return f"{self.problem or kept} ({', '.join(counts) or 'nothing was sent'})"

    def by_outcome(self) -> dict[str, int]:
        """Return the number of payloads by outcome."""
        names = ("sent", "acknowledged", "refused", "unknown")
        return {name: getattr(self, name) for name in names}
