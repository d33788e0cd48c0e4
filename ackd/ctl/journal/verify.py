"""`ackctl verify`: compares the journal with what a run has sent."""

import argparse
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import datetime
from glob import glob
from itertools import islice
from time import monotonic

from ackd.ctl.exit_status import Status
from ackd.ctl.journal.belief import Doubt
from ackd.ctl.journal.entries import RecordedPayload, moment
from ackd.ctl.journal.options import AnyEntries, add_journal_options, open_entries
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.status_line import StatusLine
from ackd.ctl.output.streams import Output
from ackd.ctl.output.tables import Row, counted
from ackd.ctl.runs.audit import Audit
from ackd.ctl.runs.options import add_key_option, run_named
from ackd.ctl.runs.payloads import ReceivedPayload, Run, parse
from ackd.ctl.runs.ranges import Ranges
from ackd.journal.reader import NotReadableError

# Seconds that journald has for the next record of a run that is not whole, and for all of them.
_PATIENCE, _LONGEST = 1.0, 60.0
_OFTEN = 50_000  # payloads between two updates of the status line: about a second
_SHOWN = 10
# The configurations of ackd@NAME.service.
_INSTANCES = "/etc/ackd/*.yaml"

HELP = "check whether a run is in the journal as it was sent"
DESCRIPTION = """\
On the server: check whether the payloads of a run are in the journal, all of
them, once, in order, and as `ackctl ping`, `probe` or `bench` has sent them.
"""
EPILOG = """\
examples:
  ackctl verify 1a2b3c4d
  ackctl verify 1a2b3c4d --since "10 minutes ago" --json
  ackctl verify 1a2b3c4d --directory /var/log/journal/remote

exit status:
    0  the run is whole: all is there, once, in order, and as it was sent
    2  the command line is wrong, or the user may not read the journal
    6  the run is not whole
  130  interrupted
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    parser.add_argument(
        "run_name", metavar="RUN", type=run_named, help="the run's name, as its sender has shown it"
    )
    add_journal_options(parser)
    add_key_option(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace, output: Output) -> Status:
    """Read the journal and report what it has of the run; return the exit status."""
    collected = options.directory is not None
    found = RunFound(replace(options.run_name, key=options.key), options.since, collected)
    try:
        _read(open_entries(options, output.warn), found, output)
    except NotReadableError as error:
        output.warn(str(error))
        return Status.USAGE
    status = Status.DELIVERED if found.audit.whole else Status.NOT_WHOLE
    if status is Status.NOT_WHOLE and collected:
        units = "systemd-journal-upload` on the nodes"
        output.warn(f"records may still be on their way: see `systemctl status {units}")
    elif status is Status.NOT_WHOLE and (found.arriving or _acks_precede_journald()):
        output.warn("records may still be on their way: see `systemctl status ackd`, and try again")
    output.print(*(json_report(found, status) if options.json else report(found)))
    return status


@dataclass(slots=True)
class NodeFound:
    """What a node has of a run: the numbers, and the host names and machine ids, ten at most."""

    numbers: Ranges = field(default_factory=Ranges)
    hostnames: set[str] = field(default_factory=set)
    machines: set[str] = field(default_factory=set)


class RunFound:
    """What the journal has of a run: the audit, from which addresses it came, and when.

    `senders` are the addresses, and the numbers of the payloads that came from each. The end, and
    payloads that are altered, have no number. `begun` are the times of the first payloads: more
    than one if the name was used for several runs. Nothing before `since` was read. `arriving` is
    whether the last reading has found more of the run. If the journals were `collected` from nodes,
    `nodes` has what each node has recorded.
    """

    def __init__(self, run: Run, since: float = 0, collected: bool = False) -> None:
        self.since = since
        self.run = run.name
        self.collected = collected
        self.audit = Audit(run, collected)
        self.nodes: dict[str, NodeFound] = {}
        self.senders: dict[str, Ranges] = {}
        self.begun: deque[datetime] = deque(maxlen=_SHOWN)
        self._first = 0
        self._last = 0
        self.arriving = False
        self.doubts: Counter[Doubt] = Counter()

    def add_all(self, payloads: Iterable[RecordedPayload], line: StatusLine) -> None:
        """Add payloads of the journal, and show in the status line how far the reading is."""
        before = self._last
        for count, recorded in enumerate(payloads, 1):
            self.add(recorded)
            if count % _OFTEN == 0:
                time = f"{recorded.time:%Y-%m-%d %H:%M}"
                line.show(f"{count:,} payloads read, up to {time}")
        self.arriving = self._last != before

    def add(self, recorded: RecordedPayload) -> None:
        """Add a payload of the journal, of the run or not."""
        if recorded.doubt:
            received = parse(recorded.payload)
            if received and received.run == self.run:
                self.doubts[recorded.doubt] += 1
            return
        begun = self.audit.begun
        received = self.audit.add(
            f"{recorded.source} {recorded.connection}",
            recorded.sequence,
            recorded.payload,
            recorded.repeated,
            f"{recorded.source} {recorded.journal}",
        )
        if received:
            if recorded.peer not in self.senders:
                self.senders[recorded.peer] = Ranges()
            if not (received.end or received.altered):
                self.senders[recorded.peer].add(received.number)
            if self.collected:
                self._add_node(recorded, received)
            if self.audit.begun > begun:
                self.begun.append(recorded.time)
            self._first = self._first or recorded.microseconds
            self._last = recorded.microseconds

    def _add_node(self, recorded: RecordedPayload, received: ReceivedPayload) -> None:
        node = self.nodes.setdefault(recorded.node, NodeFound())
        if not (received.end or received.altered):
            node.numbers.add(received.number)
        for names, name in ((node.hostnames, recorded.hostname), (node.machines, recorded.machine)):
            if len(names) < _SHOWN:
                names.add(name)

    @property
    def first(self) -> datetime | None:
        """The time of the first payload."""
        return moment(self._first) if self._first else None

    @property
    def last(self) -> datetime | None:
        """The time of the last payload."""
        return moment(self._last) if self._last else None


def _read(entries: AnyEntries, found: RunFound, output: Output) -> None:
    """Read the journal; while a run is not whole and more of it arrives, wait for the rest.

    With `durability: disk` acks can be long before journald has the records.
    """
    longest = monotonic() + _LONGEST
    patience = 0.0
    while True:
        with output.status_line() as line:
            found.add_all(entries, line)
        if found.arriving or not patience:
            patience = monotonic() + _PATIENCE
        seconds = min(patience, longest) - monotonic()
        if found.audit.whole or seconds <= 0:
            return
        entries.wait(seconds)


def _acks_precede_journald() -> bool:
    """Return whether an ackd of this host is configured to acknowledge what the disk has."""
    from ackd.config import DEFAULT_PATH, ConfigError, Durability, load  # needed rarely

    for path in (DEFAULT_PATH, *glob(_INSTANCES)):
        with suppress(ConfigError):
            if load(path, optional=True).durability is Durability.DISK:
                return True
    return False


def report(found: RunFound) -> Iterator[str]:
    """Yield the lines of a report in words."""
    audit = found.audit
    yield f"run {found.run}: {_verdict(audit, found.since)}"
    if found.first and found.last:
        connections = f"{audit.connections} connection{'s' * (audit.connections != 1)}"
        times = _span(found.first, found.last)
        yield f"from {_peers(found.senders)} in {connections}, {times}"
    rows = list(_rows(audit)) if audit.seen else []
    if audit.runs > 1:
        begun = ", ".join(map(_time, found.begun))
        rows.append((str(audit.runs), f"runs have this name, begun at {begun}; see --since"))
    if len(found.senders) > 1:
        rows.append((str(len(found.senders)), f"senders: {_by_name(found.senders)}"))
    rows.extend(_node_rows(found.nodes))
    for doubt, number in found.doubts.items():
        rows.append((str(number), f"{doubt.value}; see --unit"))
    if audit.keyed:
        rows.append((str(audit.keyed), "made with a key, which is not given; see --key"))
    if audit.unproven:
        rows.append((str(audit.unproven), "made without this key, and not counted above"))
    yield from counted(rows)


def _verdict(audit: Audit, since: float) -> str:
    if not audit.seen:
        # The clock of the sender, from which the time may be, can differ from that of this host.
        time = f" since {_time(datetime.fromtimestamp(since))}" if since else ""
        return f"not whole: there is nothing of it in the journal{time}"
    return "whole" if audit.whole else "not whole"


def _rows(audit: Audit) -> Iterator[Row]:
    """Yield numbers, and what each is the number of."""
    yield (str(audit.sent), "sent") if audit.ended else ("?", "sent: no end has been seen")
    yield str(audit.recorded), "recorded"
    yield str(audit.missing.count), f"missing{_some(audit.missing)}"
    yield str(audit.twice.count), f"twice{_some(audit.twice)}"
    yield str(audit.out_of_order), "out of order"
    yield str(audit.altered), "altered"
    if audit.beyond:
        yield str(audit.beyond.count), f"beyond the end{_some(audit.beyond)}: is it one run?"
    if audit.lost:
        yield str(audit.lost), "lost: acknowledged, and not in the journal"
    if audit.repeated:
        yield str(audit.repeated), "repeated by ackd, which is no fault"
    if audit.uploaded_twice:
        yield str(audit.uploaded_twice), "uploaded twice, which is no fault"


def _node_rows(nodes: Mapping[str, NodeFound]) -> Iterator[Row]:
    if nodes:
        yield (
            str(len(nodes)),
            f"nodes: {_by_name({n: found.numbers for n, found in nodes.items()}, 'has')}",
        )
    for name, found in sorted(nodes.items())[:_SHOWN]:
        if len(found.machines) > 1:
            number = f"{len(found.machines)}{'+' * (len(found.machines) == _SHOWN)}"
            yield number, f"machines have uploaded as {name}: {', '.join(sorted(found.machines))}"


def _span(first: datetime, last: datetime) -> str:
    first, last = first.astimezone(), last.astimezone()
    date = "" if first.date() == last.date() else f"{last:%Y-%m-%d} "
    return f"{_time(first)} to {date}{last:%H:%M:%S}"


def _time(time: datetime) -> str:
    return f"{time.astimezone():%Y-%m-%d %H:%M:%S}"


def _peers(senders: Mapping[str, Ranges]) -> str:
    return ", ".join(sorted(senders)[:_SHOWN]) + _more(senders)


def _by_name(numbers: Mapping[str, Ranges], has: str = "sent") -> str:
    """Return how many payloads each address or node has, and the numbers of these payloads."""
    shown = sorted(numbers.items())[:_SHOWN]
    each = (f"{name} {has} {those.count}{_some(those)}" for name, those in shown)
    return "; ".join(each) + _more(numbers)


def _more(senders: Mapping[str, Ranges]) -> str:
    return f" and {len(senders) - _SHOWN} more" * (len(senders) > _SHOWN)


def _some(numbers: Ranges) -> str:
    """Return the first numbers, as the end of a line."""
    first = islice(numbers, _SHOWN + 1)
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in first]
    if len(shown) > _SHOWN:
        shown[_SHOWN] = "..."
    return f": {', '.join(shown)}" if shown else ""


def json_report(found: RunFound, status: Status) -> Iterator[str]:
    """Yield the one line of a report in JSON."""
    audit = found.audit
    yield json_line(
        run=found.run,
        whole=audit.whole,
        sent=audit.sent if audit.ended else None,
        recorded=audit.recorded,
        missing=audit.missing.count,
        missing_numbers=list(audit.missing),
        twice=audit.twice.count,
        twice_numbers=list(audit.twice),
        beyond=audit.beyond.count,
        beyond_numbers=list(audit.beyond),
        out_of_order=audit.out_of_order,
        altered=audit.altered,
        lost=audit.lost,
        repeated=audit.repeated,
        not_believed=found.doubts.total(),
        without_unit=found.doubts[Doubt.NO_UNIT],
        keyed=audit.keyed,
        unproven=audit.unproven,
        highest=audit.highest,
        connections=audit.connections,
        peers=sorted(found.senders),
        senders=[
            {"peer": peer, "recorded": numbers.count, "numbers": list(numbers)}
            for peer, numbers in sorted(found.senders.items())
        ],
        runs=audit.runs,
        begun=[time.isoformat() for time in found.begun],
        first=found.first and found.first.isoformat(),
        last=found.last and found.last.isoformat(),
        **(_collected(found) if found.collected else {}),
        status=status,
    )


def _collected(found: RunFound) -> dict[str, object]:
    """Return the members that only the journals of a collector have."""
    return {
        "uploaded_twice": found.audit.uploaded_twice,
        "nodes": [
            {
                "node": name,
                "hostnames": sorted(node.hostnames),
                "machine_ids": sorted(node.machines),
                "recorded": node.numbers.count,
                "numbers": list(node.numbers),
            }
            for name, node in sorted(found.nodes.items())
        ],
    }
