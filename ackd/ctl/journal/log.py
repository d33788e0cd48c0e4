"""`ackctl log`: what has arrived, from whom and when."""

import argparse
import re
import select
import signal
import sys
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress

from ackd.ctl.journal.entries import Doubt, Entries, NotReadableError, Recorded, add_journal_options
from ackd.ctl.status import Status
from ackd.peers import Address, address_of
from ackd.printable import printable

_FOLLOWED = 10  # lines before those that come, as tail -f

HELP = "show what has arrived"
DESCRIPTION = "On the server: show the payloads in the journal, from whom and when."
EPILOG = """\
examples:
  ackctl log --lines 20
  ackctl log --follow --peer 192.168.150.2
  ackctl log --since "1h ago" --json

exit status:
    0  read to the end, or followed until Ctrl-C
    2  usage, or there is no right to read the journal
  130  interrupted before the end
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of the verb."""
    option = parser.add_argument
    option("-f", "--follow", action="store_true", help="go on with those that come, until Ctrl-C")
    option("-n", "--lines", metavar="N", type=_lines, help="only the last N")
    option("--peer", metavar="A", type=_peer, help="only those from this address")
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


def run(options: argparse.Namespace) -> Status:
    """Show what the options say; return the exit status."""
    lines, wanted = _Json() if options.json else _Lines(), _Wanted(options.peer)
    try:
        entries = Entries(options.namespace, options.unit, options.since)
        if options.follow:
            _follow(entries, lines, wanted, options)
        else:
            _show(entries, lines, wanted, options.lines)
    except NotReadableError as error:
        print(f"ackctl: {error}", file=sys.stderr)
        return Status.USAGE
    lines.end(Status.DELIVERED)
    if wanted.doubts and not lines.count:
        told = "; ".join(f"{count} {doubt.value}" for doubt, count in wanted.doubts.items())
        print(f"ackctl: nothing to show, but {told}; see --unit", file=sys.stderr)
    return Status.DELIVERED


class _Wanted:
    """Says whether a payload is to be shown, and counts those that only are not believed."""

    def __init__(self, peer: Address | None) -> None:
        self._peer = peer
        self.doubts: Counter[Doubt] = Counter()

    def __call__(self, recorded: Recorded) -> bool:
        """Say whether it is from the peer, or any, and believed."""
        wanted = self._peer is None or self._is_peer(recorded.peer)
        if wanted and recorded.doubt:
            self.doubts[recorded.doubt] += 1
        return wanted and not recorded.doubt

    def _is_peer(self, peer: str) -> bool:
        try:
            return address_of(peer) == self._peer
        except ValueError:  # no ackd has written that
            return False


class _Lines:
    """Prints a line for each."""

    def __init__(self) -> None:
        self.count = 0

    def print(self, payloads: Iterable[Recorded]) -> None:
        """Print them, and let them be seen."""
        for recorded in payloads:
            print(self.line(recorded))
            self.count += 1
        print(end="", flush=True)

    def line(self, recorded: Recorded) -> str:
        """Return what is to be read of a payload."""
        local = recorded.time.astimezone()
        time = f"{local:%Y-%m-%d %H:%M:%S}.{local.microsecond // 1000:03}"
        number = f"#{recorded.sequence}{' repeated' * recorded.repeated}"
        whose = f"{recorded.peer} port {recorded.port} {number}"
        return f"{time} {whose}: {printable(recorded.payload)}"

    def end(self, status: Status) -> None:
        """Tell how it came out."""


class _Json(_Lines):
    """Prints a JSON object for each, then one for all."""

    def line(self, recorded: Recorded) -> str:
        """Return the object of a payload."""
        return self._object(
            time=recorded.time.isoformat(),
            peer=recorded.peer,
            port=recorded.port,
            listener=recorded.listener,
            connection=recorded.connection,
            sequence=recorded.sequence,
            bytes=len(recorded.payload),
            payload=printable(recorded.payload),
            repeated=recorded.repeated,
        )

    def end(self, status: Status) -> None:
        """Print the count and the exit status."""
        print(self._object(payloads=self.count, status=status))

    def _object(self, **members: str | int) -> str:
        import json  # not before it is needed

        return json.dumps(members)


def _show(entries: Entries, lines: _Lines, wanted: _Wanted, count: int | None) -> None:
    """Show the last so many of those that are there, or all."""
    lines.print(filter(wanted, entries) if count is None else entries.last(count, wanted))


def _follow(entries: Entries, lines: _Lines, wanted: _Wanted, options: argparse.Namespace) -> None:
    """Show what is there, or the end of it, and what comes, until Ctrl-C."""
    count = _FOLLOWED if options.lines is None and not options.since else options.lines
    with suppress(KeyboardInterrupt):
        _show(entries, lines, wanted, count)
        while True:
            lines.print(filter(wanted, entries))
            entries.wait()
            _end_unread()


def _end_unread() -> None:
    """End as a write would, if nobody reads what is printed: the next one may be long in coming."""
    poll = select.poll()
    poll.register(1, 0)
    if poll.poll(0):
        signal.raise_signal(signal.SIGPIPE)
