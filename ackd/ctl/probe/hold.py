"""`ackctl probe --hold`: silences, each with a payload after it, to find the longest possible."""

from collections.abc import Sequence
from time import monotonic

from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import ProbeConnection
from ackd.ctl.probe.finding import BrokenError, Finding, Outcome, Stage, Summary
from ackd.ctl.probe.prober import Prober
from ackd.ctl.probe.report import ProbeReport
from ackd.protocol import Verdict


class Hold:
    """Keeps one connection silent, for longer and longer."""

    def __init__(
        self,
        prober: Prober,
        connection: ProbeConnection | None,
        summary: Summary,
        report: ProbeReport,
    ) -> None:
        self.connection = connection
        self._prober = prober
        self._summary = summary
        self._report = report

    def run(self, silences: Sequence[float]) -> None:
        """Try all silences, in seconds, until one is too long, and report.

        Raises BrokenError if a new connection is needed and can't be opened.
        """
        self.connection = self.connection or self._prober.open()
        for number, silence in enumerate(silences):
            try:
                self._try(self.connection, silence)
            except BrokenError as broken:
                self._summary.not_held = silence
                for later in silences[number + 1 :]:
                    self._found(later, Outcome.NOT_TRIED)
                self._summary.fail(Stage.HOLD, broken.status, broken.advice)
                self._try_new(self.connection)
                return
            self._summary.held = silence
        self._summary.add(f"A connection outlasts a silence of {silences[-1]:g} s.")

    def _try(self, connection: ProbeConnection, silence: float) -> None:
        began = monotonic()
        try:
            for left in connection.hold(silence):
                self._report.trying(f"silent for {silence:g} s: {left:.0f} s left")
            self._report.trying("a payload after the silence")
            exchanged = self._prober.send(connection)
            if exchanged.reply.verdict is Verdict.REFUSED:
                raise diagnosis.refused(exchanged.reply)
        except BrokenError as broken:
            self._found(silence, Outcome.FAILED, broken.text, monotonic() - began)
            raise diagnosis.after_silence(broken) from None
        self._found(silence, Outcome.PASSED, seconds=exchanged.seconds)

    def _try_new(self, silent: ProbeConnection) -> None:
        """Find out whether the silence was the cause, with a new connection."""
        silent.close()
        self.connection = None
        try:
            self.connection = self._prober.open()
            self._prober.send(self.connection)
        except BrokenError as broken:
            self._summary.add(
                f"A new connection fails too ({broken.stage.value}: {broken.text}), so the silence"
                " may not be the cause."
            )
            return
        self._summary.add(
            "A new connection works, so the silence is the likely cause. The silence is certainly"
            " the cause if another run fails after the same time."
        )

    def _found(
        self, silence: float, outcome: Outcome, text: str = "", seconds: float | None = None
    ) -> None:
        self._report.found(Finding(Stage.HOLD, outcome, text, seconds, silence=silence))
