"""`ackctl log`: shows the payloads in the journal, with sender and time."""

import argparse
import re
from collections import Counter
from collections.abc import Iterable
from itertools import groupby

from ackd.ctl.exit_status import Status
from ackd.ctl.interrupt import UntilInterrupt
from ackd.ctl.journal.belief import Doubt
from ackd.ctl.journal.entries import RecordedPayload
from ackd.ctl.journal.options import AnyEntries, add_journal_options, open_entries
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.streams import Output
from ackd.ctl.runs.audit import Uploads
from ackd.ctl.runs.payloads import is_of_a_run
from ackd.journal.reader import NotReadableError
from ackd.peers import Address, address_of
from ackd.printable import printable

_LAST = 10  # payloads that --follow shows before new ones, as tail -f does
_UNIT = "ackd.service"  # not shown in each line
_CONNECTIONS = 50_000
# The space, and letters without any ink, which Python takes for printable.
_BLANKS = re.compile("[ \u115f\u1160\u2800\u3164\uffa0]{8,}")

HELP = "show what has arrived"
DESCRIPTION = "On the server: show the payloads in the journal, from whom and when."
EPILOG = """\
examples:
  ackctl log --lines 20
  ackctl log --follow --peer 192.168.150.2
  ackctl log --since "1h ago" --no-runs --json

exit status:
    0  read to the end, or followed until Ctrl-C
    2  the command line is wrong, or the user may not read the journal
  130  interrupted before the end
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    option = parser.add_argument
    option("-f", "--follow", action="store_true", help="go on with new payloads until Ctrl-C")
    option("-n", "--lines", metavar="N", type=_lines, help="only the last N")
    option("--peer", metavar="A", type=_peer, help="only those from this address")
    option("--no-runs", action="store_true", help="without those of ping, probe and bench")
    add_journal_options(parser)
    option("--json", action="store_true", help="print a JSON object for each")


def _lines(text: str) -> int:
    if not (re.fullmatch("[0-9]{1,9}", text)):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


def _peer(text: str) -> Address:
    try:
        return address_of(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not an IPv4 or IPv6 address") from None


def run(options: argparse.Namespace, output: Output) -> Status:
    """Show the payloads that the options ask for; return the exit status."""
    wanted = Wanted(options)
    report = (LogJson if options.json else LogReport)(output, wanted.uploads)
    try:
        entries = open_entries(options, output.warn)
        if options.follow:
            _follow(entries, report, wanted, options, output)
        else:
            _show(entries, report, wanted, options.lines)
    except NotReadableError as error:
        output.warn(str(error))
        return Status.USAGE
    report.end(Status.DELIVERED)
    if wanted.uploads and wanted.uploads.twice:
        output.warn(f"left out: {wanted.uploads.twice} that were uploaded twice")
    if wanted.doubts and not report.count:
        doubts = "; ".join(f"{count} {doubt.value}" for doubt, count in wanted.doubts.items())
        output.warn(f"nothing to show, but {doubts}; see --unit")
    return Status.DELIVERED


class SeenUploads:
    """Knows the payloads that a collector has, to leave out those that were uploaded twice.

    Memory is bounded: of connections with several payloads, only the last ones are known.
    """

    def __init__(self) -> None:
        self.twice = 0
        # ackd numbers its connections. Those with one payload need little memory all together.
        self._first: dict[str, Uploads] = {}  # the numbers of connections, by what precedes them
        self._later: dict[str, Uploads] = {}  # the sequences, by connection

    def add(self, recorded: RecordedPayload) -> bool:
        """Add a payload; return whether it is new."""
        ackd, _, number = f"{recorded.source} {recorded.connection}".rpartition("-")
        if recorded.sequence == 1 and number.isdecimal() and len(number) < 19:
            uploads, place = _recent(self._first, ackd), int(number)
        else:
            uploads, place = _recent(self._later, f"{ackd}-{number}"), recorded.sequence
        new = uploads.add(place, recorded.repeated)
        self.twice += not new
        return new


def _recent(uploads: dict[str, Uploads], name: str) -> Uploads:
    """Return those with this name, and forget the ones that were not used for longest."""
    found = uploads[name] = uploads.pop(name) if name in uploads else Uploads()
    if len(uploads) > _CONNECTIONS:
        del uploads[next(iter(uploads))]
    return found


class Wanted:
    """Decides which payloads to show, and counts those that are left out for a doubt.

    `uploads` is None for the journals of this host.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._peer: Address | None = options.peer
        self._runs = not options.no_runs
        self.doubts: Counter[Doubt] = Counter()
        self.uploads = None if options.directory is None else SeenUploads()

    def __call__(self, recorded: RecordedPayload) -> bool:
        """Return whether a payload is believed, and is one that the options ask for."""
        wanted = self._peer is None or self._is_peer(recorded.peer)
        wanted = wanted and (self._runs or not is_of_a_run(recorded.payload))
        if wanted and recorded.doubt:
            self.doubts[recorded.doubt] += 1
            return False
        return wanted and (self.uploads is None or self.uploads.add(recorded))

    def _is_peer(self, peer: str) -> bool:
        try:
            return address_of(peer) == self._peer
        except ValueError:  # not written by ackd
            return False


class LogReport:
    """Prints a line for each payload."""

    def __init__(self, output: Output, uploads: SeenUploads | None = None) -> None:
        self._output = output
        self._uploads = uploads
        self.count = 0

    def print(self, payloads: Iterable[RecordedPayload]) -> None:
        """Print payloads, all of which are seen on return."""
        for recorded in payloads:
            self._output.write(self.line(recorded))
            self.count += 1
        self._output.flush()

    def line(self, recorded: RecordedPayload) -> str:
        """Return the line for a payload."""
        local = recorded.time
        time = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}"
        marks = " repeated" * recorded.repeated + " unterminated" * recorded.unterminated
        number = f"#{recorded.sequence}{marks}"
        sender = f"{recorded.peer} port {recorded.port}"
        where = (
            "" if recorded.unit in ("", _UNIT) else f" to {recorded.unit.removesuffix('.service')}"
        )
        node = f" at {recorded.node}" if recorded.node else ""
        return f"{time} {sender}{where}{node} {number}: {_on_one_line(printable(recorded.payload))}"

    def end(self, status: Status) -> None:
        """Print what comes after all payloads."""


def _on_one_line(text: str) -> str:
    r"""Return text with long runs of blanks as `\x20{40}`.

    A terminal shows a long line as several lines: after enough blanks, what follows would look like
    a line of its own.
    """
    return _BLANKS.sub(lambda run: "".join(map(_counted, groupby(run[0]))), text)


def _counted(blanks: tuple[str, Iterable[str]]) -> str:
    blank, repeated = blanks
    escaped = r"\x20" if blank == " " else blank.encode("unicode_escape").decode()
    return f"{escaped}{{{len(list(repeated))}}}"


class LogJson(LogReport):
    """Prints a JSON object for each payload, then one for all."""

    def line(self, recorded: RecordedPayload) -> str:
        """Return the object for a payload."""
        return json_line(
            time=recorded.time.isoformat(),
            peer=recorded.peer,
            port=recorded.port,
            listener=recorded.listener,
            connection=recorded.connection,
            sequence=recorded.sequence,
            bytes=len(recorded.payload),
            payload=printable(recorded.payload),
            repeated=recorded.repeated,
            unterminated=recorded.unterminated,
            unit=recorded.unit,
            proxy=recorded.proxy,
            tls_name=recorded.tls_name,
            **({} if self._uploads is None else _node_of(recorded)),
        )

    def end(self, status: Status) -> None:
        """Print the count and the exit status."""
        twice = {} if self._uploads is None else {"uploaded_twice": self._uploads.twice}
        self._output.print(json_line(payloads=self.count, **twice, status=status))


def _node_of(recorded: RecordedPayload) -> dict[str, str]:
    """Return the members that only the journals of a collector have."""
    return {
        "node": recorded.node,
        "hostname": recorded.hostname,
        "machine_id": recorded.machine,
    }


def _show(entries: AnyEntries, report: LogReport, wanted: Wanted, count: int | None) -> None:
    """Show the last `count` payloads of the journal, or all."""
    report.print(filter(wanted, entries) if count is None else entries.last(count, wanted))


def _follow(
    entries: AnyEntries,
    report: LogReport,
    wanted: Wanted,
    options: argparse.Namespace,
    output: Output,
) -> None:
    """Show the journal's payloads, or the last ones, and then new ones until Ctrl-C."""
    count = _LAST if options.lines is None and not options.since else options.lines
    with UntilInterrupt():
        _show(entries, report, wanted, count)
        while True:
            report.print(filter(wanted, entries))
            entries.wait()
            output.end_if_unread()  # the next write may be far away
