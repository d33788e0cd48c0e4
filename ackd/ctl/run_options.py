"""The options of verbs that send a run of payloads, and what comes of them."""

import argparse
import resource

from ackd.client import Client
from ackd.ctl.options import add_server_options, count
from ackd.ctl.run import Run


def add_run_options(parser: argparse.ArgumentParser, size: int, shown: str) -> None:
    """Add what says where to send, how much at a time (bytes by default, as the help has it)."""
    add_server_options(parser)
    option = parser.add_argument
    option("--size", metavar="N", type=count, default=size, help=f"bytes of a payload ({shown})")
    option("--no-greeting", action="store_true", help="the server's greeting is empty")
    option("--name", metavar="RUN", type=_run, help="what to call the run (8 random digits)")


def run_of(options: argparse.Namespace) -> Run:
    """Return the run that is asked for."""
    run: Run = options.name or Run()
    return run


def connected(options: argparse.Namespace) -> Client:
    """Return a connection; raises what Client() does."""
    server = (options.host, options.port, options.timeout, options.source)
    return Client(*server, greeted=not options.no_greeting)


def allow_connections() -> None:
    """Let there be as many connections as the system allows: each takes a descriptor."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _run(text: str) -> Run:
    try:
        return Run(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
