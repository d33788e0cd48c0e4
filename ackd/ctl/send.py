"""`ackctl send`: payloads from the command line, a file or the standard input."""

import argparse
import os
import sys

from ackd.client import (
    Client,
    ClientError,
    NoAckError,
    NoGreetingError,
    NotReachedError,
    TurnedAwayError,
)
from ackd.ctl.lines import Lines
from ackd.ctl.options import add_server_options
from ackd.ctl.report import Json, Report, Story
from ackd.ctl.status import Status

_EXAMPLES = """\
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
_FAILURES = {
    NotReachedError: (Status.NOT_REACHED, "not reached"),
    NoGreetingError: (Status.NO_GREETING, "connected, but not greeted"),
    TurnedAwayError: (Status.REFUSED, "turned away"),
}


def add_parser(verbs: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Add the verb to ackctl's arguments."""
    parser = verbs.add_parser(
        "send",
        help="send payloads and wait for their acks",
        description="Send payloads and wait for their acks.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_server_options(parser)
    option = parser.add_argument
    option("--no-greeting", action="store_true", help="the server's greeting is empty")
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-v", "--verbose", action="store_true", help="tell every step with its time")
    how.add_argument("--json", action="store_true", help="one JSON object a reply, then the counts")
    option("--file", metavar="F", help="send each line of this file")
    option("payloads", metavar="PAYLOAD", nargs="*", help="a line to send; - is the standard input")
    parser.set_defaults(run=run, parser=parser)


def run(options: argparse.Namespace) -> Status:
    """Send what the options say; return the exit status."""
    lines = _lines(options)
    report = Json() if options.json else Story() if options.verbose else Report()
    status, problem = _attempt(options, lines, report)
    report.end(status)
    if problem:
        print(f"ackctl: {problem}{_counts(report, lines)}", file=sys.stderr)
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


def _attempt(options: argparse.Namespace, lines: Lines, report: Report) -> tuple[Status, str]:
    """Send; return the exit status and, unless all was acknowledged, what went wrong."""
    try:
        _send(options, lines, report)
    except KeyboardInterrupt:
        return Status.INTERRUPTED, "interrupted"
    except NoAckError as error:
        if not report.unknown:
            return Status.NOT_REACHED, f"connection lost: {error}"
        return Status.UNKNOWN, f"unknown: {error}"
    except ClientError as error:
        status, what = _FAILURES[type(error)]
        return status, f"{what}: {error}"
    if lines.problem:
        return Status.USAGE, lines.problem
    if report.refused:
        return Status.REFUSED, "refused by the server"
    return Status.DELIVERED, ""


def _send(options: argparse.Namespace, lines: Lines, report: Report) -> None:
    report.connecting(options.host, options.port)
    report.flush()
    server = (options.host, options.port, options.timeout, options.source)
    with Client(*server, greeted=not options.no_greeting) as client:
        report.greeted(client.greeting)
        while not lines.ended or client.unanswered:
            while lines.pending and not client.full:
                client.offer(lines.pending[0])
                report.sent(lines.pending.popleft())
            report.flush()
            if client.wait(lines.source):
                lines.read()
            for reply in client.pump():
                report.replied(reply)


def _counts(report: Report, lines: Lines) -> str:
    """Return how many payloads ended how, as the end of a sentence."""
    counts = (
        (report.acknowledged, "acknowledged"),
        (report.refused, "refused"),
        (report.unknown, "unknown: sent, and perhaps recorded"),
        (len(lines.pending), "not sent"),
    )
    told = ", ".join(f"{count} {what}" for count, what in counts if count)
    return f" ({told})" if told else ""
