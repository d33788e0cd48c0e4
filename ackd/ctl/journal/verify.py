"""`ackctl verify`: whether a run is in the journal as it was sent."""

import argparse
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from time import monotonic

from ackd.ctl.journal.entries import Doubt, Entries, NotReadableError, Recorded, add_journal_options
from ackd.ctl.journal.reading import Reading
from ackd.ctl.runs.audit import Audit
from ackd.ctl.runs.options import run_named
from ackd.ctl.runs.payloads import parse
from ackd.ctl.runs.ranges import Ranges
from ackd.ctl.status import Status

# Seconds for journald to write what it has taken; under load it needs some hundredths.
_PATIENCE = 1.0
_SHOWN = 10

HELP = "tell whether a run is in the journal as it was sent"
DESCRIPTION = """\
On the server: tell whether the payloads of a run are in the journal, all of
them, once, in order, and as `ackctl ping`, `probe` or `bench` has sent them.
"""
EPILOG = """\
examples:
  ackctl verify 1a2b3c4d
  ackctl verify 1a2b3c4d --since "10 minutes ago" --json

exit status:
    0  the run is whole: all is there, once, in order, and as it was sent
    2  usage, or there is no right to read the journal
    6  the run is not whole
  130  interrupted
"""


class _Found:
    """What the journal has of a run: whether it is whole, where it came from, and when."""

    def __init__(self, run: str) -> None:
        self.run = run
        self.audit = Audit(run)
        self.peers: set[str] = set()
        self.first: datetime | None = None
        self.last: datetime | None = None
        self.doubts: Counter[Doubt] = Counter()

    def take(self, recorded: Recorded) -> None:
        """Take a payload of the journal, of the run or not."""
        if recorded.doubt:
            part = parse(recorded.payload)
            if part and part.run == self.run:
                self.doubts[recorded.doubt] += 1
        elif self.audit.add(
            recorded.connection,
            recorded.sequence,
            recorded.payload,
            recorded.repeated,
            recorded.journal,
        ):
            self.peers.add(recorded.peer)
            self.first = self.first or recorded.time
            self.last = recorded.time


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of the verb."""
    parser.add_argument(
        "run_name", metavar="RUN", type=run_named, help="the name that its sender has told"
    )
    add_journal_options(parser)
    parser.add_argument("--json", action="store_true", help="print a JSON object")


def run(options: argparse.Namespace) -> Status:
    """Read the journal and tell; return the exit status."""
    found = _Found(options.run_name.name)
    try:
        _read(Entries(options.namespace, options.unit, options.since), found)
    except NotReadableError as error:
        print(f"ackctl: {error}", file=sys.stderr)
        return Status.USAGE
    status = Status.DELIVERED if found.audit.whole else Status.NOT_WHOLE
    if options.json:
        _print_json(found, status)
    else:
        _print(found)
    return status


def _read(entries: Entries, found: _Found) -> None:
    """Read what is there, and what is still on its way if the run is not whole without it."""
    patience = _PATIENCE
    while True:
        with Reading(sys.stderr) as reading:
            for recorded in entries:
                found.take(recorded)
                reading.tell(recorded.time)
        if found.audit.whole or patience <= 0:
            return
        began = monotonic()
        entries.wait(patience)
        patience -= monotonic() - began


def _print(found: _Found) -> None:
    audit = found.audit
    print(f"run {found.run}: {_verdict(audit)}")
    if found.first and found.last:
        connections = f"{audit.connections} connection{'s' * (audit.connections != 1)}"
        times = _span(found.first, found.last)
        print(f"from {_peers(found.peers)} in {connections}, {times}")
    lines = list(_lines(audit)) if audit.seen else []
    for doubt, number in found.doubts.items():
        lines.append((str(number), f"{doubt.value}; see --unit"))
    width = max((7, *(len(count) for count, _ in lines)))
    for count, what in lines:
        print(f"{count:>{width}}  {what}")


def _verdict(audit: Audit) -> str:
    if not audit.seen:
        return "not whole: there is nothing of it in the journal"
    return "whole" if audit.whole else "not whole"


def _lines(audit: Audit) -> Iterator[tuple[str, str]]:
    """Yield how many there are of what."""
    yield (str(audit.sent), "sent") if audit.ended else ("?", "sent: no end has been seen")
    yield str(audit.recorded), "recorded"
    yield str(len(audit.missing)), f"missing{_some(audit.missing)}"
    yield str(len(audit.twice)), f"twice{_some(audit.twice)}"
    yield str(audit.out_of_order), "out of order"
    yield str(audit.altered), "altered"
    if audit.highest > audit.sent and audit.ended:
        yield str(audit.highest), "is the highest number, beyond the end: is it one run?"
    if audit.lost:
        yield str(audit.lost), "lost: acknowledged, and not in the journal"
    if audit.repeated:
        yield str(audit.repeated), "repeated by ackd, which is no fault"


def _span(first: datetime, last: datetime) -> str:
    first, last = first.astimezone(), last.astimezone()
    date = "" if first.date() == last.date() else f"{last:%Y-%m-%d} "
    return f"{first:%Y-%m-%d %H:%M:%S} to {date}{last:%H:%M:%S}"


def _peers(peers: set[str]) -> str:
    shown = sorted(peers)[:_SHOWN]
    return ", ".join(shown) + f" and {len(peers) - _SHOWN} more" * (len(peers) > _SHOWN)


def _some(numbers: Ranges) -> str:
    """Return the first of the numbers, as the end of a line."""
    shown = [str(low) if low == high else f"{low}-{high}" for low, high in islice(numbers, _SHOWN)]
    more = ", ..." * (len(list(numbers)) > _SHOWN)
    return f": {', '.join(shown)}{more}" if shown else ""


def _print_json(found: _Found, status: Status) -> None:
    import json  # not before it is needed

    audit = found.audit
    summary = {
        "run": found.run,
        "whole": audit.whole,
        "sent": audit.sent if audit.ended else None,
        "recorded": audit.recorded,
        "missing": len(audit.missing),
        "missing_numbers": list(audit.missing),
        "twice": len(audit.twice),
        "twice_numbers": list(audit.twice),
        "out_of_order": audit.out_of_order,
        "altered": audit.altered,
        "lost": audit.lost,
        "repeated": audit.repeated,
        "not_believed": found.doubts.total(),
        "without_unit": found.doubts[Doubt.NO_UNIT],
        "highest": audit.highest,
        "connections": audit.connections,
        "peers": sorted(found.peers),
        "first": found.first and found.first.isoformat(),
        "last": found.last and found.last.isoformat(),
        "status": status,
    }
    print(json.dumps(summary))
