"""What became of the payloads of a run."""

import contextlib

from ackd.client.client import Client, ClientError
from ackd.ctl.failure import meaning
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.runs.latency import Latencies
from ackd.ctl.runs.payloads import Run
from ackd.ctl.status import Status
from ackd.protocol import Verdict


class Tally:
    """Counts, and how long the acks took.

    `unknown` were sent and have no reply. `kept` is what kept a connection from being used, so that
    something was not sent, `problem` the last thing that went wrong, in words. `ended` says that
    the last payload of all, which holds their number and is not counted, was acknowledged.
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
        """The exit status: the worst that happened, if anything did before it was interrupted."""
        if self.unknown:
            return Status.UNKNOWN
        if self.kept:
            return meaning(self.kept)[0]
        if self.refused:
            return Status.REFUSED
        return Status.DELIVERED if self.acknowledged else Status.INTERRUPTED

    def end(self, client: Client, run: Run, interrupt: Interrupt) -> None:
        """Send how many there were, and wait for the ack until Ctrl-C."""
        client.offer(run.end(self.sent))
        with contextlib.suppress(ClientError):
            while client.unanswered and not client.wait(interrupt.fileno()):
                for reply in client.pump():
                    self.ended = reply.verdict is Verdict.ACKNOWLEDGED

    def counts(self) -> dict[str, int]:
        """Return how many payloads ended how."""
        names = ("sent", "acknowledged", "refused", "unknown")
        return {name: getattr(self, name) for name in names}
