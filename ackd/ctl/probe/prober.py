"""Sends the payloads of a probe, and counts them."""

from collections.abc import Callable

from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import Exchanged, ProbeConnection
from ackd.ctl.probe.finding import BrokenError, Summary
from ackd.ctl.runs.payloads import Run
from ackd.protocol import Verdict


class Prober:
    """Numbers payloads, and counts their outcomes in the summary."""

    def __init__(self, run: Run, summary: Summary, connect: Callable[[], ProbeConnection]) -> None:
        """`connect` returns a connection that is not greeted yet; raises BrokenError."""
        self._run = run
        self._summary = summary
        self._connect = connect
        self._count = 0

    def open(self, timeout: float = 0) -> ProbeConnection:
        """Return a new greeted connection; raises BrokenError.

        `timeout` is in seconds; 0 keeps that of the command line.
        """
        connection = self._connect()
        connection.timeout = timeout or connection.timeout
        try:
            connection.greet()
        except BaseException:
            connection.close()
            raise
        return connection

    def send(self, connection: ProbeConnection, size: int = 0) -> Exchanged:
        """Send a payload of `size` bytes, or more if a payload needs more; raises BrokenError."""
        self._count += 1
        self._summary.unknown += 1  # until there is a reply
        exchanged = connection.exchange(self._run.payload(self._count, size))
        self._summary.unknown -= 1
        if exchanged.reply.verdict is Verdict.ACKNOWLEDGED:
            self._summary.acknowledged += 1
        else:
            self._summary.refused += 1
            self._count -= 1  # not recorded, so the number is free: `verify` would miss it
        return exchanged

    def end(self, connection: ProbeConnection) -> None:
        """Send the last payload, which has the number of payloads, and note a missing ack."""
        try:
            reply = connection.exchange(self._run.end(self._count)).reply
            if reply.verdict is Verdict.REFUSED:
                raise diagnosis.refused(reply)
        except BrokenError as broken:
            self._summary.fail(
                broken.stage,
                broken.status,
                "The last payload, which has the number of payloads for `ackctl verify`, was not"
                f" acknowledged ({broken.text}). {broken.advice}",
            )
        else:
            self._summary.end_acknowledged = True
