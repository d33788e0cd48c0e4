"""ackctl: the arguments, and the verb that they name."""

import argparse
import importlib
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ackd import __version__
from ackd.ctl.status import Status

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

# Each module has the texts of --help, `add_options(parser)`, and `run(options)`, which returns the
# exit status.
VERBS = {
    "send": "ackd.ctl.send.verb",
    "ping": "ackd.ctl.ping.verb",
    "probe": "ackd.ctl.probe.verb",
    "verify": "ackd.ctl.journal.verify",
    "log": "ackd.ctl.journal.log",
    "bench": "ackd.ctl.bench.verb",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run ackctl; return its exit status, `status.Status`."""
    # As any program in a pipe: `ackctl send - | head -1` ends in silence.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    _prepare_output()
    try:
        try:
            return _run(sys.argv[1:] if arguments is None else arguments)
        finally:
            if sys.stdout:
                sys.stdout.flush()  # here, where it is told if that fails
    except KeyboardInterrupt:
        return Status.INTERRUPTED
    except BrokenPipeError:  # where SIGPIPE had to be ignored for a while
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
        return Status.UNKNOWN
    except OSError as error:  # of the standard output; what can go wrong elsewhere has its sentence
        return _mute(error)


def _prepare_output() -> None:
    """Have what a user's encoding lacks shown escaped, and complaints never be in the way."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")
    if sys.stderr:
        complaints = _Complaints(sys.stderr.fileno(), "w", closefd=False)
        sys.stderr = io.TextIOWrapper(
            complaints, sys.stderr.encoding, "backslashreplace", write_through=True
        )


class _Complaints(io.FileIO):
    """The standard error; that its disk is full must not change the exit status."""

    def write(self, data: "ReadableBuffer", /) -> int:
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def _run(given: Sequence[str]) -> int:
    # To read the modules of the other verbs would take longer than to send a line.
    known = parser(*(verb for verb in VERBS if verb in given[:1]))
    options, unknown = known.parse_known_args(given)
    if unknown:  # told by the verb's parser, which knows its usage
        options.parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    return int(options.run(options))


def _mute(error: OSError) -> int:
    """Tell that the output can't be written: whoever reads it does not know what was delivered."""
    print(f"ackctl: standard output: {error.strerror}", file=sys.stderr)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # or Python tries, and complains, once more
    return Status.UNKNOWN


def parser(*named: str) -> argparse.ArgumentParser:
    """Return what parses ackctl's arguments: of the verbs that are named, or of all."""
    parser = argparse.ArgumentParser(
        prog="ackctl", description="Find out whether data gets through to an ackd, and send it."
    )
    parser.add_argument("--version", action="version", version=f"ackctl {__version__}")
    verbs = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for verb in named or VERBS:
        _add(verb, verbs)
    return parser


def _add(verb: str, verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    module = importlib.import_module(VERBS[verb])
    parser = verbs.add_parser(
        verb,
        help=module.HELP,
        description=module.DESCRIPTION,
        epilog=module.EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_options(parser)
    parser.set_defaults(run=module.run, parser=parser)
