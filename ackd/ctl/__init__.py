"""ackctl: the client's commands, one module a verb."""

import argparse
import signal
from collections.abc import Sequence

from ackd import __version__
from ackd.ctl import send


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ackctl; return its exit status, `status.Status`."""
    # As any program in a pipe: `ackctl send - | head -1` ends in silence.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    options = _parser().parse_args(arguments)
    return int(options.run(options))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ackctl", description="Find out whether data gets through to an ackd, and send it."
    )
    parser.add_argument("--version", action="version", version=f"ackctl {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    send.add_parser(verbs)
    return parser
