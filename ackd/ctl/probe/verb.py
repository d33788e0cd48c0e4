"""`ackctl probe`: tests a path stage by stage, and explains the stage that fails."""

import argparse
import socket
from dataclasses import replace
from socket import AF_INET6
from time import monotonic, time

from ackd.client.addresses import Destination, SocketAddress, race, resolve, usable
from ackd.client.end import Certificate
from ackd.client.errors import (
    NotReachedError,
    TlsError,
    describe_names,
    describe_time,
    printable_host,
)
from ackd.client.waiting import run as run_steps
from ackd.ctl.exit_status import Status
from ackd.ctl.foreign import foreign
from ackd.ctl.interrupt import UntilInterrupt, exit_status
from ackd.ctl.options import add_server_options, destination_of, seconds
from ackd.ctl.output.streams import Output
from ackd.ctl.probe import authorities, diagnosis, tls_diagnosis
from ackd.ctl.probe.authorities import Authority
from ackd.ctl.probe.connection import ProbeConnection
from ackd.ctl.probe.finding import BrokenError, Encryption, Finding, Outcome, Stage, Summary
from ackd.ctl.probe.hold import Hold
from ackd.ctl.probe.prober import Prober
from ackd.ctl.probe.report import ProbeJson, ProbeReport
from ackd.ctl.probe.sweep import Sweep
from ackd.ctl.runs.options import add_name_options, run_of
from ackd.ctl.runs.payloads import Run
from ackd.protocol import Verdict

HELP = "find out where a path is broken, and whom to ask"
DESCRIPTION = """\
Test the path to a server stage by stage: resolve the name, connect, agree on
TLS with --tls, receive the greeting, send a payload, receive the ack. Stop at
the first stage that fails, explain the failure, and say whom to ask.
"""
EPILOG = """\
examples:
  ackctl probe --host 192.168.150.1
  ackctl probe --host ackd.example.org --sweep --timeout 3
  ackctl probe --host ackd.example.org --hold 30,60,300

exit status:
    0  every stage passed: all payloads are acknowledged
    1  the server rejected the connection, or refused a payload
    2  the command line is wrong
    3  the server was not reached, or ended the connection during a silence
    4  connected, but received no greeting of an ackd
    5  a payload has no ack: it is unknown whether it is recorded
    7  a fault of ackctl, see the standard error
  130  interrupted
"""
_STAGES = (
    *(Stage.RESOLVED, Stage.CONNECTED, Stage.ENCRYPTED),
    *(Stage.GREETED, Stage.SENT, Stage.ACKNOWLEDGED),
)
_OTHER_FAMILY = (
    "No address of the name is of the family, IPv4 or IPv6, that -4, -6 or --source ask for."
)
_GOOD = (
    "Data gets through and is acknowledged. `ackctl verify` on the server shows whether the data is"
    " in the journal of an ackd."
)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_server_options(parser)
    option = parser.add_argument
    option(
        "--sweep", action="store_true", help="then send growing payloads, up to the server's limit"
    )
    option(
        "--hold",
        metavar="S,...",
        type=_silences,
        default=[],
        help="then be silent for S seconds, and send a payload",
    )
    option(
        "--accept-authority",
        action="store_true",
        help="with TLS: from now on expect the authority that has signed the certificate",
    )
    add_name_options(parser)
    option("--json", action="store_true", help="one JSON object a stage, then one for all")


def run(options: argparse.Namespace, output: Output) -> Status:
    """Probe as the options say; return the exit status."""
    this, destination = run_of(options), destination_of(options)
    if options.accept_authority and not destination.tls:
        options.parser.error("--accept-authority needs --tls")
    report = (ProbeJson if options.json else ProbeReport)(output)
    report.begin(this.name, f"{printable_host(destination.host)} port {options.port}")
    probe = _Probe(options, destination, this, report)
    with UntilInterrupt() as block:
        probe.run()
    if block.interrupted:
        probe.interrupted()
    probe.report_lost()
    report.end(probe.summary)
    if probe.summary.status:
        output.warn(probe.summary.problem)
    return probe.summary.status


class _Probe:
    """The stages, then the sweep, the silences and the end of the run."""

    def __init__(
        self, options: argparse.Namespace, destination: Destination, run: Run, report: ProbeReport
    ) -> None:
        self.summary = Summary(run)
        self._options = options
        self._destination = destination
        self._report = report
        self._prober = Prober(run, self.summary, self._reconnected)
        self._address: SocketAddress | None = None  # the address that was reached
        self._encryption: Encryption | None = None
        self._unreached: dict[str, BrokenError] = {}  # by address
        self._began = monotonic()

    def run(self) -> None:
        """Try everything; the summary has the failures."""
        try:
            connection = self._greeted(self._encrypted(self._connected(self._resolved())))
            connection = self._acknowledged(connection)
        except BrokenError as broken:
            for stage in _STAGES[_STAGES.index(broken.stage) + 1 :]:
                if stage is not Stage.ENCRYPTED or self._destination.tls:
                    self._report.found(Finding(stage, Outcome.NOT_TRIED))
            self.summary.fail(broken.stage, broken.status, broken.advice, broken.text)
            self._report_authority()
            return
        self.summary.add(_GOOD)
        self._report_authority()
        self._report_expiry()
        self._report_unreached()
        try:
            self._end(self._held(self._swept(connection)))
        except BrokenError as broken:
            self.summary.fail(
                broken.stage,
                broken.status,
                f"A later payload failed ({broken.text}). {broken.advice}",
                broken.text,
            )

    def _resolved(self) -> list[SocketAddress]:
        self._begin("resolving the name")
        try:
            addresses = run_steps(resolve(self._destination))
        except NotReachedError as error:
            broken = diagnosis.not_resolved(error)
            self._failed(broken)
            raise broken from None
        self._passed(Stage.RESOLVED, ", ".join(map(_shown, addresses)))
        return addresses

    def _connected(self, addresses: list[SocketAddress]) -> socket.socket:
        for address in addresses:
            if not usable(address, self._destination):
                self._report.found(_other_family(address, self._destination))
                continue
            self._begin(f"connecting to {_shown(address)}")
            try:
                sock = self._socket(address)
            except BrokenError as broken:
                self._failed(broken, _shown(address))
                self._unreached[_shown(address)] = broken
                continue
            self._address = address
            self._passed(Stage.CONNECTED, f"from {sock.getsockname()[0]}", _shown(address))
            return sock
        *others, last = self._reasons()
        for reason in others:
            self.summary.add(reason)
        raise BrokenError(Stage.CONNECTED, Status.NOT_REACHED, "not reached", last)

    def _reasons(self) -> list[str]:
        """Return why no address was reached: one reason, or one for each address."""
        advices = {broken.advice: "" for broken in self._unreached.values()}
        if len(advices) <= 1:
            return list(advices) or [_OTHER_FAMILY]
        return [f"{to}: {broken.text}. {broken.advice}" for to, broken in self._unreached.items()]

    def _encrypted(self, sock: socket.socket) -> ProbeConnection:
        if not self._destination.tls:
            return self._connection(sock)
        self._begin("agreeing on TLS")
        try:
            connection = self._connection(sock)
        except TlsError as error:
            broken, certificate = self._not_encrypted(error), error.fault.certificate
            encryption = Encryption("", "", certificate, self._authority_before(certificate))
            self._failed(broken, encryption=encryption)
            raise broken from None
        took = monotonic() - self._began
        self._encryption = encryption = self._remembered(connection)
        passed = (Stage.ENCRYPTED, Outcome.PASSED, _described(encryption), took)
        self._report.found(Finding(*passed, encryption=encryption))
        return connection

    def _not_encrypted(self, error: TlsError) -> BrokenError:
        fault = error.fault
        server, before = foreign(fault.said), self._authority_before(fault.certificate)
        return tls_diagnosis.not_encrypted(error, self._options.ca, server, before)

    def _remembered(self, connection: ProbeConnection) -> Encryption:
        """Return how a connection is encrypted; remember the authority, unless it is another."""
        assert connection.encryption
        certificate = connection.encryption.certificate
        before = None
        if not self._options.accept_authority:
            before = self._authority_before(certificate)
        if certificate and not before:
            authorities.remember(self._server, certificate, time())
        return replace(connection.encryption, before=before)

    def _authority_before(self, certificate: Certificate | None) -> Authority | None:
        """Return the authority of the last time, if it has not signed this certificate."""
        before = authorities.remembered(self._server)
        return before if certificate and before and not before.signed(certificate) else None

    @property
    def _server(self) -> str:
        """What a certificate is for, as the name under which its authority is remembered."""
        tls, host = self._destination.tls, self._destination.host
        name = (tls and tls.server_name) or host
        return f"{name.removesuffix('.').lower()} port {self._destination.port}"

    def _greeted(self, connection: ProbeConnection) -> ProbeConnection:
        self._begin("waiting for the greeting")
        try:
            if self._options.no_greeting:
                connection = self._silent(connection)
                text = "no greeting, as expected with --no-greeting"
            else:
                text = f"{diagnosis.shown(connection.greet())}{_pieces(connection.pieces)}"
        except BrokenError as broken:
            self._failed(broken)
            raise
        self._passed(Stage.GREETED, text)
        return connection

    def _silent(self, connection: ProbeConnection) -> ProbeConnection:
        """Check with this connection that the server does not greet; return another connection."""
        connection.finish()
        connection.close()
        return self._reconnected()

    def _acknowledged(self, connection: ProbeConnection) -> ProbeConnection:
        self._begin("waiting for the ack")
        try:
            exchanged = self._prober.send(connection)
        except BrokenError as broken:
            self._sent(connection, broken)
            self._failed(broken)
            raise
        self._sent(connection)
        text = f"{diagnosis.shown(exchanged.reply.text)}{_pieces(connection.pieces)}"
        took = exchanged.seconds
        try:
            if exchanged.reply.verdict is Verdict.REFUSED:
                raise diagnosis.refused(exchanged.reply)
        except BrokenError as broken:
            self._failed(broken)
            raise
        self._report.found(Finding(Stage.ACKNOWLEDGED, Outcome.PASSED, text, took))
        return connection

    def _sent(self, connection: ProbeConnection, broken: BrokenError | None = None) -> None:
        """Report that a payload was sent, unless this stage or an earlier stage has failed."""
        if connection.sent and (broken is None or broken.stage is Stage.ACKNOWLEDGED):
            text, took = f"{connection.sent.size} bytes", connection.sent.seconds
            self._report.found(Finding(Stage.SENT, Outcome.PASSED, text, took))

    def _swept(self, connection: ProbeConnection) -> ProbeConnection | None:
        if not self._options.sweep:
            return connection
        sweep = Sweep(self._prober, connection, self.summary, self._report)
        sweep.run()
        return sweep.connection

    def _held(self, connection: ProbeConnection | None) -> ProbeConnection | None:
        if not self._options.hold:
            return connection
        hold = Hold(self._prober, connection, self.summary, self._report)
        hold.run(self._options.hold)
        return hold.connection

    def _end(self, connection: ProbeConnection | None) -> None:
        self._report.trying("ending the run")
        connection = connection or self._prober.open()
        self._prober.end(connection)
        connection.close()

    def interrupted(self) -> None:
        """Note Ctrl-C."""
        self.summary.add("Interrupted: later stages were not tried.")
        self.summary.problem = "interrupted"
        self.summary.status = exit_status()

    def report_lost(self) -> None:
        """Report packets that had to be sent again."""
        if self.summary.traffic.retransmitted > 0:
            self.summary.add(diagnosis.lost(self.summary.traffic))

    def _report_unreached(self) -> None:
        """Report addresses that were not reached: other programs may try them first too."""
        assert self._address
        for address, broken in self._unreached.items():
            self.summary.add(diagnosis.unreached(address, broken, _shown(self._address)))

    def _report_authority(self) -> None:
        """Warn if another authority than the last time has signed the server's certificate."""
        encryption = self._encryption
        if encryption and encryption.certificate and encryption.before:
            warning = tls_diagnosis.another_authority(encryption.certificate, encryption.before)
            self.summary.add(warning)

    def _report_expiry(self) -> None:
        """Warn if the certificate of the server expires soon."""
        if self._encryption and self._encryption.certificate:
            warning = tls_diagnosis.expires_soon(self._encryption.certificate)
            self.summary.meanings += [warning] * bool(warning)

    def _reconnected(self) -> ProbeConnection:
        assert self._address
        try:
            return self._connection(self._socket(self._address))
        except TlsError as error:
            raise self._not_encrypted(error) from None

    def _socket(self, address: SocketAddress) -> socket.socket:
        """Connect; raises BrokenError."""
        timeout = self._options.timeout
        try:
            return run_steps(race([address], timeout, self._options.source))
        except OSError as error:
            to, source = address.address, self._options.source
            raise diagnosis.not_connected(error, timeout, to, source) from error

    def _connection(self, sock: socket.socket) -> ProbeConnection:
        """Use a connected socket, with TLS or without; raises TlsError."""
        timeout, greeted = self._destination.timeout, self._destination.greeted
        stream = None
        if tls := self._destination.tls:
            from ackd.client.tls import secure  # slow to import

            try:
                stream = run_steps(secure(sock, tls, self._destination.host, timeout))
            except BaseException:
                sock.close()
                raise
        return ProbeConnection(sock, timeout, greeted, self.summary.traffic, stream)

    def _begin(self, step: str) -> None:
        self._report.trying(f"{step}, for {self._options.timeout:g} s at most")
        self._began = monotonic()

    def _passed(self, stage: Stage, text: str, address: str = "") -> None:
        took = monotonic() - self._began
        self._report.found(Finding(stage, Outcome.PASSED, text, took, address))

    def _failed(
        self, broken: BrokenError, address: str = "", encryption: Encryption | None = None
    ) -> None:
        took = monotonic() - self._began
        failed = (broken.stage, Outcome.FAILED, broken.text, took, address)
        self._report.found(Finding(*failed, encryption=encryption))


def _described(encryption: Encryption) -> str:
    """Return how a connection is encrypted, in words."""
    words = f"{encryption.version}, {encryption.cipher}"
    if certificate := encryption.certificate:
        until = describe_time(certificate.not_after)
        words += f", certificate for {describe_names(certificate)} until {until}"
    return words


def _shown(address: SocketAddress) -> str:
    return str(address.address[0])


def _other_family(address: SocketAddress, destination: Destination) -> Finding:
    option = "--source" if destination.source else "-4" if address.family == AF_INET6 else "-6"
    text = f"not of the same family as {option}"
    return Finding(Stage.CONNECTED, Outcome.NOT_TRIED, text, address=_shown(address))


def _pieces(pieces: int) -> str:
    return f" (in {pieces} pieces)" if pieces > 1 else ""


def _silences(text: str) -> list[float]:
    return sorted({seconds(part) for part in text.split(",")})
