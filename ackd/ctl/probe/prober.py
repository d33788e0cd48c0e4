"""What sends the payloads of a probe, and keeps count of them."""

from collections.abc import Callable

from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import Contact, Exchanged
from ackd.ctl.probe.finding import BrokenError, Summary
from ackd.ctl.runs.payloads import Run
from ackd.protocol import Verdict


class Prober:
    """Numbers payloads, and counts in the summary how they came out."""

    def __init__(self, run: Run, summary: Summary, connect: Callable[[], Contact]) -> None:
        """`connect` returns a connection that is not greeted yet; raises BrokenError."""
        self._run = run
        self._summary = summary
        self._connect = connect
        self._count = 0

    def open(self, timeout: float = 0) -> Contact:
        """Return another connection, with a `timeout` of its own or not; raises BrokenError."""
        contact = self._connect()
        contact.timeout = timeout or contact.timeout
        try:
            contact.greet()
        except BaseException:
            contact.close()
            raise
        return contact

    def send(self, contact: Contact, size: int = 0) -> Exchanged:
        """Send a payload of `size` bytes, if it is not too few; raises BrokenError."""
        self._count += 1
        self._summary.unknown += 1  # until more is known
        exchanged = contact.exchange(self._run.payload(self._count, size))
        self._summary.unknown -= 1
        if exchanged.reply.verdict is Verdict.ACKNOWLEDGED:
            self._summary.acknowledged += 1
        else:
            self._summary.refused += 1
            self._count -= 1  # not recorded, so the number is free: `verify` would miss it
        return exchanged

    def end(self, contact: Contact) -> None:
        """Send the last payload, which says how many there were; take note if it has no ack."""
        try:
            reply = contact.exchange(self._run.end(self._count)).reply
            if reply.verdict is Verdict.REFUSED:
                raise diagnosis.refused(reply.text)
        except BrokenError as broken:
            self._summary.fail(
                broken.stage,
                broken.status,
                "But the last payload, which tells `ackctl verify` how many there were, has no ack"
                f" ({broken.text}). {broken.advice}",
            )
        else:
            self._summary.end_acknowledged = True
