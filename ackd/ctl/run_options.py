"""The options of verbs that send a run of payloads, and what comes of them."""

import argparse
import resource

from ackd.client import Client, NotAckdError
from ackd.ctl.options import add_server_options, connected, count
from ackd.ctl.run import Run


def add_run_options(parser: argparse.ArgumentParser, size: int, shown: str) -> None:
    """Add what says where to send, how much at a time (bytes by default, as the help has it)."""
    add_server_options(parser)
    option = parser.add_argument
    option("--size", metavar="N", type=count, default=size, help=f"bytes of a payload ({shown})")
    option("--name", metavar="RUN", type=run_named, help="what to call the run (8 random digits)")


def connected_surely(options: argparse.Namespace) -> Client:
    """Return a connection as `connected` does; where it is not greeted, that has been tried before.

    The greeting of a server that has one would be taken for an ack. Raises what Client() does, and
    NotAckdError.
    """
    if options.no_greeting:
        with connected(options) as silent:
            try:
                silent.finish()
            except NotAckdError as error:
                why = "the server does not close in silence what was opened in silence"
                raise NotAckdError(f"{why}: if it greets, leave out --no-greeting") from error
    return connected(options)


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
