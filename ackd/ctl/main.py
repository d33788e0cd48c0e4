"""ackctl: reads the arguments and runs the verb that they name."""

import argparse
import importlib
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from ackd import __version__
from ackd.arguments import Parser
from ackd.ctl.exit_status import Status
from ackd.ctl.interrupt import UntilInterrupt, exit_status
from ackd.ctl.output.streams import Output, discard_output, standard_output

# Each module has the texts of --help, `add_options(parser)`, and `run(options, output)`, which
# returns the exit status. It may have `usage_error(message)`, in place of argparse's.
VERBS = {
    "send": "ackd.ctl.send.verb",
    "ping": "ackd.ctl.ping.verb",
    "probe": "ackd.ctl.probe.verb",
    "check": "ackd.ctl.check.verb",
    "verify": "ackd.ctl.journal.verify",
    "log": "ackd.ctl.journal.log",
    "bench": "ackd.ctl.bench.verb",
    "status": "ackd.ctl.status.verb",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ackctl; return its exit status, see `exit_status.Status`."""
    output = standard_output()
    try:
        with UntilInterrupt():
            try:
                return _run(sys.argv[1:] if arguments is None else arguments, output)
            finally:
                output.flush()  # Python would do it too late for an error to be reported
        return exit_status()
    except OSError as error:  # of the standard output: a verb reports each other one
        output.warn(f"standard output: {error.strerror}")
        discard_output()
        return Status.UNKNOWN  # the reader of the output does not know what was delivered


def _run(given: Sequence[str], output: Output) -> int:
    # Importing all verbs would take longer than sending a line.
    known = parser(*(verb for verb in VERBS if verb in given[:1]))
    options, unknown = known.parse_known_args(given)
    if unknown:  # reported by the verb's own parser, which prints the verb's usage
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return int(options.run(options, output))


class _Parser(Parser):
    """A parser that takes no abbreviations, and numbers for arguments."""

    usage_error: Callable[[str], NoReturn] | None = None

    def __init__(self, **arguments: Any) -> None:
        # A script with an abbreviation would break when another option begins so, too.
        super().__init__(**arguments, allow_abbrev=False)

    def error(self, message: str) -> NoReturn:
        """Report a wrong command line, and exit."""
        if self.usage_error:
            self.usage_error(message)
        super().error(message)

    def _get_option_tuples(self, option_string: str) -> list[Any]:
        """Return the options that are meant: none by a number, though -4 and -6 are options."""
        if self._negative_number_matcher.match(option_string):
            return []
        return super()._get_option_tuples(option_string)


def parser(*named: str) -> argparse.ArgumentParser:
    """Return the parser of ackctl's arguments, with the named verbs or with all verbs."""
    parser = _Parser(
        prog="ackctl", description="Find out whether data gets through to an ackd, and send it."
    )
    parser.add_argument("--version", action="version", version=f"ackctl {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for verb in named or VERBS:
        _add(verb, verbs)
    return parser


def _add(verb: str, verbs: "argparse._SubParsersAction[_Parser]") -> None:
    module = importlib.import_module(VERBS[verb])
    parser = verbs.add_parser(
        verb,
        help=module.HELP,
        description=module.DESCRIPTION,
        epilog=module.EPILOG,
        formatter=argparse.RawDescriptionHelpFormatter,
    )
    parser.usage_error = getattr(module, "usage_error", None)
    module.add_options(parser)
    # Other numbers are arguments, such as a payload, in spite of -4 and -6.
    parser._has_negative_number_optionals.clear()
    parser.set_defaults(run=module.run, parser=parser)
