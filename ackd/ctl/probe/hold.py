"""`ackctl probe --hold`: a silence, then a payload, to find who forgets connections."""

from collections.abc import Sequence
from time import monotonic

from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import Contact
from ackd.ctl.probe.finding import BrokenError, Finding, Outcome, Stage, Summary
from ackd.ctl.probe.prober import Prober
from ackd.ctl.probe.report import Report
from ackd.protocol import Verdict


class Hold:
    """Is silent on one connection, for longer and longer."""

    def __init__(
        self, prober: Prober, contact: Contact | None, summary: Summary, report: Report
    ) -> None:
        self.contact = contact
        self._prober = prober
        self._summary = summary
        self._report = report

    def run(self, silences: Sequence[float]) -> None:
        """Try all silences, in seconds, until one is too long, and tell.

        Raises BrokenError when a new connection is needed and can't be had.
        """
        self.contact = self.contact or self._prober.open()
        for number, silence in enumerate(silences):
            try:
                self._try(self.contact, silence)
            except BrokenError as broken:
                self._summary.not_held = silence
                for later in silences[number + 1 :]:
                    self._found(later, Outcome.NOT_TRIED)
                self._summary.fail(Stage.HOLD, broken.status, broken.advice)
                self._try_anew(self.contact)
                return
            self._summary.held = silence
        self._summary.tell(f"A connection outlasts a silence of {silences[-1]:g} s.")

    def _try(self, contact: Contact, silence: float) -> None:
        began = monotonic()
        try:
            for left in contact.hold(silence):
                self._report.trying(f"silent for {silence:g} s: {left:.0f} s left")
            self._report.trying("a payload after the silence")
            exchanged = self._prober.send(contact)
            if exchanged.reply.verdict is Verdict.REFUSED:
                raise diagnosis.refused(exchanged.reply.text)
        except BrokenError as broken:
            self._found(silence, Outcome.FAILED, broken.text, monotonic() - began)
            raise diagnosis.after_silence(broken) from None
        self._found(silence, Outcome.PASSED, seconds=exchanged.seconds)

    def _try_anew(self, silent: Contact) -> None:
        """Find out whether it was the silence: whether a connection without one is better."""
        silent.close()
        self.contact = None
        try:
            self.contact = self._prober.open()
            self._prober.send(self.contact)
        except BrokenError as broken:
            self._summary.tell(
                f"But a new connection is no better ({broken.stage.value}: {broken.text}), so"
                " it need not be for the silence."
            )
            return
        self._summary.tell(
            "A new connection is good, so it is likely for the silence; it is surely, if another"
            " run ends after the same time."
        )

    def _found(
        self, silence: float, outcome: Outcome, text: str = "", seconds: float | None = None
    ) -> None:
        self._report.found(Finding(Stage.HOLD, outcome, text, seconds, silence=silence))
