"""`ackctl probe`: stage by stage, to learn where a path is broken and whom to ask."""

import argparse
from time import monotonic

from ackd.client.client import Address, NotReachedError, alike, connect, resolve, shown
from ackd.ctl.options import add_server_options, seconds
from ackd.ctl.probe import diagnosis
from ackd.ctl.probe.connection import Contact
from ackd.ctl.probe.finding import BrokenError, Finding, Outcome, Stage, Summary
from ackd.ctl.probe.hold import Hold
from ackd.ctl.probe.prober import Prober
from ackd.ctl.probe.report import Json, Report
from ackd.ctl.probe.sweep import Sweep
from ackd.ctl.runs.options import run_named, run_of
from ackd.ctl.runs.payloads import Run
from ackd.ctl.status import Status
from ackd.protocol import Verdict

HELP = "find out where a path is broken, and whom to ask"
DESCRIPTION = """\
Try stage by stage whether data gets through: the name resolved, connected,
greeted, a payload sent, and acknowledged. It ends where the path is broken, and
says what that means and whom to ask.
"""
EPILOG = """\
examples:
  ackctl probe --host 192.168.150.1
  ackctl probe --host ackd.example.org --sweep --timeout 3
  ackctl probe --host ackd.example.org --hold 30,60,300

exit status:
    0  every stage passed: what was sent is acknowledged
    1  the server turned us or a payload away
    2  usage
    3  the server was not reached, or ended the connection while we were silent
    4  connected, but not greeted by an ackd
    5  sent, but the ack did not come: whether it is recorded is unknown
  130  interrupted
"""
_STAGES = (Stage.RESOLVED, Stage.CONNECTED, Stage.GREETED, Stage.SENT, Stage.ACKNOWLEDGED)
_NOT_ALIKE = "None of its addresses is of the same kind, IPv4 or IPv6, as the one of --source."
_GOOD = (
    "Data gets through, and is acknowledged. That it is in the journal of an ackd, `ackctl verify`"
    " proves on the server."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of the verb."""
    add_server_options(parser)
    option = parser.add_argument
    option("--sweep", action="store_true", help="then growing payloads, up to the server's limit")
    option(
        "--hold",
        metavar="S,...",
        type=_silences,
        default=[],
        help="then be silent for so many seconds, and send a payload",
    )
    option("--name", metavar="RUN", type=run_named, help="what to call the run (8 random digits)")
    option("--json", action="store_true", help="one JSON object a stage, then one for all")


def run(options: argparse.Namespace) -> Status:
    """Probe as the options say; return the exit status."""
    this = run_of(options)
    report = Json() if options.json else Report()
    report.begin(this.name, f"{shown(options.host)} port {options.port}")
    probe = _Probe(options, this, report)
    try:
        probe.run()
    except KeyboardInterrupt:
        probe.interrupted()
    probe.tell_lost()
    report.end(probe.summary)
    return probe.summary.status


class _Probe:
    """The stages, and what comes after them."""

    def __init__(self, options: argparse.Namespace, run: Run, report: Report) -> None:
        self.summary = Summary(run.name)
        self._options = options
        self._report = report
        self._prober = Prober(run, self.summary, self._reconnected)
        self._address: Address | None = None  # the one that was reached
        self._unreached: dict[str, BrokenError] = {}  # those that were not, and why
        self._began = monotonic()

    def run(self) -> None:
        """Try everything; what fails is in the summary."""
        try:
            contact = self._greeted(self._connected(self._resolved()))
            contact = self._acknowledged(contact)
        except BrokenError as broken:
            for stage in _STAGES[_STAGES.index(broken.stage) + 1 :]:
                self._report.found(Finding(stage, Outcome.NOT_TRIED))
            self.summary.fail(broken.stage, broken.status, broken.advice)
            return
        self.summary.tell(_GOOD)
        self._tell_unreached()
        try:
            self._end(self._held(self._swept(contact)))
        except BrokenError as broken:
            self.summary.fail(
                broken.stage, broken.status, f"Later it failed ({broken.text}). {broken.advice}"
            )

    def _resolved(self) -> list[Address]:
        self._begin("resolving the name")
        options = self._options
        try:
            addresses = resolve(options.host, options.port, options.timeout)
        except NotReachedError as error:
            broken = diagnosis.not_resolved(error.__cause__, options.timeout)
            self._failed(broken)
            raise broken from None
        self._passed(Stage.RESOLVED, ", ".join(map(_shown, addresses)))
        return addresses

    def _connected(self, addresses: list[Address]) -> Contact:
        for address in addresses:
            if not alike(address, self._options.source):
                self._report.found(_other_kind(address))
                continue
            self._begin(f"connecting to {_shown(address)}")
            try:
                contact = self._contact(address)
            except BrokenError as broken:
                self._failed(broken, _shown(address))
                self._unreached[_shown(address)] = broken
                continue
            self._address = address
            self._passed(Stage.CONNECTED, f"from {contact.source}", _shown(address))
            return contact
        *others, last = self._reasons()
        for reason in others:
            self.summary.tell(reason)
        raise BrokenError(Stage.CONNECTED, Status.NOT_REACHED, "not reached", last)

    def _reasons(self) -> list[str]:
        """Return why no address was reached: for each on its own, where they differ."""
        advices = {broken.advice: "" for broken in self._unreached.values()}
        if len(advices) <= 1:
            return list(advices) or [_NOT_ALIKE]
        return [f"{to}: {broken.text}. {broken.advice}" for to, broken in self._unreached.items()]

    def _greeted(self, contact: Contact) -> Contact:
        self._begin("waiting for the greeting")
        try:
            if self._options.no_greeting:
                contact = self._silent(contact)
                text = "silent, as --no-greeting says"
            else:
                text = f"{diagnosis.shown(contact.greet())}{_pieces(contact.pieces)}"
        except BrokenError as broken:
            self._failed(broken)
            raise
        self._passed(Stage.GREETED, text)
        return contact

    def _silent(self, contact: Contact) -> Contact:
        """Return another connection; by this one it is seen that nobody greets."""
        contact.finish()
        contact.close()
        return self._reconnected()

    def _acknowledged(self, contact: Contact) -> Contact:
        self._begin("waiting for the ack")
        try:
            exchanged = self._prober.send(contact)
        except BrokenError as broken:
            self._sent(contact, broken)
            self._failed(broken)
            raise
        self._sent(contact)
        text = f"{diagnosis.shown(exchanged.reply.text)}{_pieces(contact.pieces)}"
        took = exchanged.seconds
        try:
            if exchanged.reply.verdict is Verdict.REFUSED:
                raise diagnosis.refused(exchanged.reply.text)
        except BrokenError as broken:
            self._failed(broken)
            raise
        self._report.found(Finding(Stage.ACKNOWLEDGED, Outcome.PASSED, text, took))
        return contact

    def _sent(self, contact: Contact, broken: BrokenError | None = None) -> None:
        """Tell that a payload was sent, unless that or an earlier stage has failed."""
        if contact.sent and (broken is None or broken.stage is Stage.ACKNOWLEDGED):
            text, took = f"{contact.sent.size} bytes", contact.sent.seconds
            self._report.found(Finding(Stage.SENT, Outcome.PASSED, text, took))

    def _swept(self, contact: Contact) -> Contact | None:
        if not self._options.sweep:
            return contact
        sweep = Sweep(self._prober, contact, self.summary, self._report)
        sweep.run()
        return sweep.contact

    def _held(self, contact: Contact | None) -> Contact | None:
        if not self._options.hold:
            return contact
        hold = Hold(self._prober, contact, self.summary, self._report)
        hold.run(self._options.hold)
        return hold.contact

    def _end(self, contact: Contact | None) -> None:
        self._report.trying("ending the run")
        contact = contact or self._prober.open()
        self._prober.end(contact)
        contact.close()

    def interrupted(self) -> None:
        """Take note of Ctrl-C."""
        self.summary.tell("Interrupted: what comes later was not tried.")
        self.summary.status = Status.INTERRUPTED

    def tell_lost(self) -> None:
        """Tell of packets that had to be sent again, if there were any."""
        if self.summary.traffic.retransmitted > 0:
            self.summary.tell(diagnosis.lost(self.summary.traffic))

    def _tell_unreached(self) -> None:
        """Tell of addresses that were in vain, and which others may try first as well."""
        assert self._address
        for address, broken in self._unreached.items():
            self.summary.tell(diagnosis.unreached(address, broken, _shown(self._address)))

    def _reconnected(self) -> Contact:
        assert self._address
        return self._contact(self._address)

    def _contact(self, address: Address) -> Contact:
        timeout = self._options.timeout
        try:
            sock = connect(address, timeout, self._options.source)
        except OSError as error:
            to, source = address.address, self._options.source
            raise diagnosis.not_connected(error, timeout, to, source) from error
        greeted = not self._options.no_greeting
        return Contact(sock, timeout, greeted, self.summary.traffic)

    def _begin(self, what: str) -> None:
        self._report.trying(f"{what}, for {self._options.timeout:g} s at most")
        self._began = monotonic()

    def _passed(self, stage: Stage, text: str, address: str = "") -> None:
        took = monotonic() - self._began
        self._report.found(Finding(stage, Outcome.PASSED, text, took, address))

    def _failed(self, broken: BrokenError, address: str = "") -> None:
        took = monotonic() - self._began
        self._report.found(Finding(broken.stage, Outcome.FAILED, broken.text, took, address))


def _shown(address: Address) -> str:
    return str(address.address[0])


def _other_kind(address: Address) -> Finding:
    text = "not of the same kind as --source"
    return Finding(Stage.CONNECTED, Outcome.NOT_TRIED, text, address=_shown(address))


def _pieces(pieces: int) -> str:
    return f" (in {pieces} pieces)" if pieces > 1 else ""


def _silences(text: str) -> list[float]:
    return sorted({seconds(part) for part in text.split(",")})
