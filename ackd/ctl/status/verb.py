"""`ackctl status`: what an ackd on this host is doing."""

import argparse
import re
from dataclasses import asdict
from time import monotonic, sleep

from ackd.ctl.exit_status import Status
from ackd.ctl.interrupt import UntilInterrupt
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.screen import Screen
from ackd.ctl.output.streams import Output
from ackd.ctl.output.terminal import wrapped
from ackd.ctl.status.asking import AskError, ask
from ackd.ctl.status.report import lines_of
from ackd.status import DaemonStatus

# Seconds between two looks.
_INTERVAL = 1.0
# What systemd.unit(5) allows in the name of an instance; and the number of a process.
_INSTANCE = re.compile(r"@[A-Za-z0-9:_.\\@-]{1,200}")
_PROCESS = re.compile("[1-9][0-9]{0,9}")

HELP = "show what ackd is doing"
DESCRIPTION = """\
On the server, as root or as a member of the group systemd-journal: show what
ackd is doing, and what is wrong.
"""
EPILOG = """\
examples:
  ackctl status
  ackctl status --watch
  ackctl status @backup --json
  ackctl status --openmetrics

exit status:
    0  ackd runs, and nothing is wrong; or watched until Ctrl-C; or the metrics
       were printed or written, also those of an ackd that does not run
    2  the command line is wrong, or the user may not ask
    3  ackd does not run
    4  ackd does not answer, or its answer can't be read
    6  ackd runs, and something is wrong
  130  interrupted before the answer
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the verb's options."""
    option = parser.add_argument
    option(
        "name",
        metavar="WHICH",
        nargs="?",
        type=_name,
        help="@NAME for ackd@NAME.service, or the number of a process (ackd.service)",
    )
    option("--watch", action="store_true", help="look again each second until Ctrl-C")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print a JSON object")
    form.add_argument(
        "--openmetrics", action="store_true", help="print metrics: of WHICH, or of all units"
    )
    form.add_argument(
        "--textfile", metavar="FILE", help="write them for the textfile collector of node_exporter"
    )


def _name(text: str) -> str:
    if not (_INSTANCE.fullmatch(text) or _PROCESS.fullmatch(text)):
        raise argparse.ArgumentTypeError(f"{text!r} is neither @NAME nor the number of a process")
    return text


def run(options: argparse.Namespace, output: Output) -> Status:
    """Show the status once or again and again; return the exit status."""
    if options.openmetrics or options.textfile is not None:
        return _metrics(options, output)
    if options.watch:
        _watch(options, output)
        return Status.DELIVERED
    try:
        status = ask(options.name or "")
    except AskError as error:
        if options.json:
            output.print(_problem(error))
        else:
            output.warn(str(error))
        return error.status
    output.print(*([_object(status)] if options.json else lines_of(status, output.out)))
    return _exit_status(status)


def _metrics(options: argparse.Namespace, output: Output) -> Status:
    """Print metrics, or write them to a file; return the exit status."""
    from ackd.ctl.status import metrics, textfile, units  # for these options only

    if options.watch:
        options.parser.error("metrics can't be watched")
    try:
        reports = units.reports(options.name)
    except AskError as error:
        output.warn(str(error))
        return error.status
    if options.openmetrics:
        output.print(metrics.to_openmetrics(reports).removesuffix("\n"))
        return Status.DELIVERED
    try:
        textfile.replace(options.textfile, metrics.to_prometheus(reports))
    except OSError as error:
        output.warn(f"--textfile: {options.textfile or 'an empty name'}: {error.strerror}")
        return Status.USAGE
    return Status.DELIVERED


def _watch(options: argparse.Namespace, output: Output) -> None:
    """Show the status each second until Ctrl-C; an ackd that does not answer can come back."""
    screen = Screen(output)
    with UntilInterrupt():
        while True:
            began = monotonic()
            try:
                status = ask(options.name or "")
            except AskError as error:
                lines = [_problem(error)] if options.json else wrapped(str(error), output.out)
            else:
                lines = [_object(status)] if options.json else lines_of(status, output.out)
            if options.json:
                output.print(*lines)
                output.end_if_unread()  # the next write is a moment away
            else:
                screen.show(*lines)
            sleep(max(0.0, began + _INTERVAL - monotonic()))


def _object(status: DaemonStatus) -> str:
    return json_line(**asdict(status), status=int(_exit_status(status)))


def _problem(error: AskError) -> str:
    return json_line(problem=str(error), status=int(error.status))


def _exit_status(status: DaemonStatus) -> Status:
    return Status.NOT_WHOLE if status.troubles else Status.DELIVERED
