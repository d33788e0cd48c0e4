"""The options of the verbs that send a run of payloads."""

import argparse
import resource

from ackd.ctl.options import add_server_options, number
from ackd.ctl.runs.payloads import Run

# Bytes; no ackd takes more than half of that, see `max_payload` in ackd.yaml(5).
_LARGEST = 262144


def add_run_options(parser: argparse.ArgumentParser, size: int, shown: str) -> None:
    """Add the options for the server, the run's name and the payloads' size.

    `size` is the default in bytes, `shown` the default as the help shows it.
    """
    add_server_options(parser)
    option = parser.add_argument
    option("--size", metavar="N", type=_size, default=size, help=f"bytes of a payload ({shown})")
    option("--name", metavar="RUN", type=run_named, help="what to call the run (8 random digits)")


def _size(text: str) -> int:
    return number(text, _LARGEST)


def run_of(options: argparse.Namespace) -> Run:
    """Return the run with the name that the options give, or else with a random name."""
    run: Run = options.name or Run()
    return run


def run_named(text: str) -> Run:
    """Return the run with this name."""
    try:
        return Run(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def allow_connections() -> None:
    """Raise the limit of open descriptors as far as allowed: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
