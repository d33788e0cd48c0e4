"""The options of `verify` and `log`, and the journals that they choose."""

import argparse
import re
from collections.abc import Callable

from ackd.ctl.journal.collector import CollectedEntries
from ackd.ctl.journal.entries import Entries
from ackd.ctl.journal.since import since

AnyEntries = Entries | CollectedEntries


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the part of the journal to be read, and for the units to be believed."""
    # A time such as -1min is the value of --since, and no option.
    parser._negative_number_matcher = re.compile("-[0-9]")
    option = parser.add_argument
    option("--since", metavar="T", type=since, default=0.0, help="only from this time on")
    place = parser.add_mutually_exclusive_group().add_argument
    place("--namespace", metavar="N", default="", help="only the journal of this namespace")
    place("--directory", metavar="DIR", help="the journals of a collector, in this directory")
    option("--unit", metavar="U", default="", help="whose records to believe: a unit, or a pattern")


def open_entries(options: argparse.Namespace, warn: Callable[[str], None]) -> AnyEntries:
    """Open the journals that the options choose; raises NotReadableError.

    `warn` reports files of a collector that can't be read.
    """
    if options.directory is not None:
        return CollectedEntries(options.directory, options.unit, options.since, warn)
    return Entries(options.namespace, options.unit, options.since)
