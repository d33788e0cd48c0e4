"""`ackctl send`: payloads from the command line, a file or the standard input."""

import argparse
import os
import sys
from time import sleep

from ackd.client.client import ClientError, NoAckError, NotAckdError, TurnedAwayError, shown
from ackd.ctl.failure import meaning
from ackd.ctl.options import add_server_options, connected, count
from ackd.ctl.send.lines import Lines
from ackd.ctl.send.progress import progress
from ackd.ctl.send.report import Json, Report, Story
from ackd.ctl.send.retry import Retry
from ackd.ctl.status import Status

HELP = "send payloads and wait for their acks"
DESCRIPTION = "Send payloads and wait for their acks."
EPILOG = """\
examples:
  ackctl send "hello"
  ackctl send --host 192.168.150.1 "this data will send to server!"
  ackctl send --host 192.168.150.1 --file readings.txt
  tail -f /var/log/app.log | ackctl send --host 192.168.150.1 -

exit status:
    0  every payload was acknowledged: its record is in the server's journal
    1  the server turned us or a payload away
    2  usage, or input that can't be sent
    3  the server was not reached
    4  connected, but not greeted
    5  sent, but the ack did not come: whether it is recorded is unknown
  130  interrupted
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add those of the verb."""
    add_server_options(parser)
    option = parser.add_argument
    option(
        "--retry",
        metavar="N",
        type=count,
        default=0,
        help="connect up to N times more, and send again what is unknown: perhaps twice",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-v", "--verbose", action="store_true", help="tell every step with its time")
    how.add_argument("--json", action="store_true", help="one JSON object a reply, then the counts")
    option("--file", metavar="F", help="send each line of this file")
    option("payloads", metavar="PAYLOAD", nargs="*", help="a line to send; - is the standard input")


def run(options: argparse.Namespace) -> Status:
    """Send what the options say; return the exit status."""
    lines = _lines(options)
    kind = Json if options.json else Story if options.verbose else Report
    report = kind(lines, progress(lines.descriptor))
    status, problem = _outcome(options, lines, report)
    report.end(status, problem)
    if problem:
        report.warn(f"{problem}{report.counts}")
    return status


def _lines(options: argparse.Namespace) -> Lines:
    """Return what is to be sent; what can't be sent ends the program with a usage error."""
    parser: argparse.ArgumentParser = options.parser
    if bool(options.payloads) == bool(options.file):
        parser.error("give payloads, or - for the standard input, or --file")
    if options.file:
        return Lines(descriptor=_opened(options.file, parser))
    if options.payloads == ["-"]:
        if sys.stdin is None:
            parser.error("the standard input is closed")
        return Lines(descriptor=sys.stdin.fileno())
    payloads = [os.fsencode(payload) for payload in options.payloads]
    if b"-" in payloads:
        parser.error("- is the standard input, and can't be among other payloads")
    if any(b"\n" in payload for payload in payloads):
        parser.error("a payload is one line; for several lines use - or --file")
    return Lines(payloads)


def _opened(path: str, parser: argparse.ArgumentParser) -> int:
    try:
        with open(path, "rb") as file:  # unlike os.open() it refuses a directory
            return os.dup(file.fileno())
    except OSError as error:
        parser.error(f"--file: {path}: {error.strerror}")


def _outcome(options: argparse.Namespace, lines: Lines, report: Report) -> tuple[Status, str]:
    """Send; return the exit status and, unless all was acknowledged, what went wrong."""
    try:
        failure = _try(options, lines, report)
    except KeyboardInterrupt:
        return Status.INTERRUPTED, "interrupted"
    if failure:
        return failure
    if lines.problem:
        return Status.USAGE, lines.problem
    if report.refused:
        return Status.REFUSED, "refused by the server"
    return Status.DELIVERED, ""


def _try(options: argparse.Namespace, lines: Lines, report: Report) -> tuple[Status, str] | None:
    """Send, as often as it takes and may be tried; return what it failed of at last, if it did."""
    retry = Retry(options.retry)
    while True:
        try:
            _send(options, lines, report, retry)
            return None
        except ClientError as error:
            status, problem = _failed(error, options, lines, report)
            pause = retry.pause(error)
            if pause is None:
                return status, problem
            twice = f": {lines.unknown} sent again, and perhaps recorded twice"
            when = f"once more in {pause:g} s ({retry.tries} of {retry.most})"
            report.warn(f"{problem}; {when}{twice if lines.unknown else ''}")
            sleep(pause)


def _failed(
    error: ClientError, options: argparse.Namespace, lines: Lines, report: Report
) -> tuple[Status, str]:
    """Note what is in doubt now; return the exit status if it ends so, and what went wrong."""
    report.disconnected()
    lines.put_back(doubtful=not isinstance(error, TurnedAwayError))
    if isinstance(error, TurnedAwayError):
        report.greeted(error.said)
    if isinstance(error, NotAckdError) and options.no_greeting:
        report.doubt()
    status, what = meaning(error)
    if report.unknown:
        return Status.UNKNOWN, f"{'unknown' if isinstance(error, NoAckError) else what}: {error}"
    return status, f"{what}: {error}"


def _send(options: argparse.Namespace, lines: Lines, report: Report, retry: Retry) -> None:
    """Send what there is over one connection; raises ClientError."""
    report.connecting(shown(options.host), options.port)
    report.flush()
    with connected(options) as client:
        if not options.no_greeting:
            report.greeted(client.greeting)
        report.writing()
        while not lines.ended or client.unanswered:
            while lines.pending and not (client.full or lines.full):
                client.offer(payload := lines.take())
                report.sent(payload)
            report.flush()
            if client.wait(lines.source, report.due()):
                lines.read()
            for reply in client.pump():
                lines.replied()
                report.replied(reply)
                retry.replied()
        if options.no_greeting:
            client.finish()
