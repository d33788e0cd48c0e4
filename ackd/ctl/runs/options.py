"""The options of verbs that send a run of payloads, and what comes of them."""

import argparse
import resource

from ackd.ctl.options import add_server_options, number
from ackd.ctl.runs.payloads import Run

# Bytes; no ackd takes more than half of that, see `max_payload` in ackd.yaml(5).
_LARGEST = 262144


def add_run_options(parser: argparse.ArgumentParser, size: int, shown: str) -> None:
    """Add what says where to send, how much at a time (bytes by default, as the help has it)."""
    add_server_options(parser)
    option = parser.add_argument
    option("--size", metavar="N", type=_size, default=size, help=f"bytes of a payload ({shown})")
    option("--name", metavar="RUN", type=run_named, help="what to call the run (8 random digits)")


def _size(text: str) -> int:
    return number(text, _LARGEST)


def run_of(options: argparse.Namespace) -> Run:
    """Return the run that is asked for."""
    run: Run = options.name or Run()
    return run


def run_named(text: str) -> Run:
    """Return the run of this name."""
    try:
        return Run(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def allow_connections() -> None:
    """Let there be as many connections as the system allows: each takes a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
