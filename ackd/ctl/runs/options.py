"""The options of the verbs that send a run of payloads."""

import argparse
import resource
from dataclasses import replace
from pathlib import Path

from ackd.ctl.options import add_server_options, number
from ackd.ctl.runs.payloads import Run

# Bytes; no ackd takes more than half of that, see `max_payload` in ackd.yaml(5).
_LARGEST = 262144
# Bytes of a key: fewer could be guessed, and a file with more is some other file.
_SHORTEST_KEY, _LONGEST_KEY = 16, 4096


def add_run_options(
    parser: argparse.ArgumentParser, size: int, shown: str, several: bool = False
) -> None:
    """Add the options for the server, the run's name and the payloads' size.

    `size` is the default in bytes, `shown` the default as the help shows it. `several` is whether
    there can be several servers.
    """
    add_server_options(parser, several=several)
    option = parser.add_argument
    option("--size", metavar="N", type=_size, default=size, help=f"bytes of a payload ({shown})")
    add_name_options(parser)


def add_name_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the run's name and its key."""
    option = parser.add_argument
    option("--name", metavar="RUN", type=run_named, help="the name of the run (8 random digits)")
    add_key_option(parser)


def add_key_option(parser: argparse.ArgumentParser) -> None:
    """Add the option for the secret that the payloads of the run prove."""
    parser.add_argument(
        "--key", metavar="FILE", type=_key, default=b"", help="a file with the run's secret"
    )


def _key(text: str) -> bytes:
    """Return the content of a file, without the end of its last line."""
    try:
        with Path(text).open("rb") as file:
            key = file.read(_LONGEST_KEY + 1).rstrip(b"\r\n")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise argparse.ArgumentTypeError(f"{text!r} can't be read: {reason}") from None
    if not _SHORTEST_KEY <= len(key) <= _LONGEST_KEY:
        limits = f"{_SHORTEST_KEY} to {_LONGEST_KEY} bytes"
        raise argparse.ArgumentTypeError(f"{text!r} does not hold a key of {limits}")
    return key


def _size(text: str) -> int:
    return number(text, _LARGEST)


def run_of(options: argparse.Namespace) -> Run:
    """Return the run with the name and the key that the options give; the name may be random."""
    return replace(options.name or Run(), key=options.key)


def run_named(text: str) -> Run:
    """Return the run with this name."""
    try:
        return Run(text, named=True)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def allow_connections() -> None:
    """Raise the limit of open descriptors as far as allowed: each connection takes one."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
