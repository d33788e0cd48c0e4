"""`ackctl send`: sends payloads from the command line, a file or the standard input."""

import argparse
import os
import select
import sys
from time import sleep

from ackd.client.addresses import Destination, Order
from ackd.client.errors import (
    ClientError,
    NoServerError,
    RejectedError,
    UnexpectedReplyError,
    UnknownOutcomeError,
    printable_host,
)
from ackd.client.session import Session, open_session
from ackd.ctl.exit_status import Status
from ackd.ctl.failure import describe_failure, meaning
from ackd.ctl.interrupt import UntilInterrupt, exit_status
from ackd.ctl.options import add_server_options, destination_of, tries
from ackd.ctl.output.streams import Output
from ackd.ctl.send.lines import Lines, SendPayload
from ackd.ctl.send.progress import progress_of
from ackd.ctl.send.report import QuietReport, SendJson, SendReport, VerboseReport
from ackd.ctl.send.retry import Retry

HELP = "send payloads and wait for their acks"
DESCRIPTION = "Send payloads and wait for their acks."
EPILOG = """\
examples:
  ackctl send "hello"
  ackctl send --host 192.168.150.1 "this data will send to server!"
  ackctl send --host 192.168.150.1 --file readings.txt
  tail -f /var/log/app.log | ackctl send --host 192.168.150.1 --retry 9 -
  ackctl send --host ackd1.example.org --host ackd2.example.org "hello"

exit status:
    0  every payload was acknowledged: its record is in the server's journal
    1  the server rejected the connection, or refused a payload
    2  the command line or the input is wrong
    3  the server was not reached
    4  connected, but received no greeting
    5  a payload has no reply: it is unknown whether it is recorded
    7  a fault of ackctl, see the standard error
  130  interrupted
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_server_options(parser, several=True)
    option = parser.add_argument
    option(
        "--retry",
        metavar="N",
        type=tries,
        default=0,
        help="connect up to N times more; send unknown payloads again, perhaps recorded twice",
    )
    how = parser.add_mutually_exclusive_group()
    how.add_argument("-v", "--verbose", action="store_true", help="show every step with its time")
    how.add_argument("--json", action="store_true", help="one JSON object a reply, then the counts")
    how.add_argument("-q", "--quiet", action="store_true", help="only the counts, not each reply")
    option("--file", metavar="F", help="send each line of this file; - is the standard input")
    option("payloads", metavar="PAYLOAD", nargs="*", help="a line to send; - is the standard input")


def run(options: argparse.Namespace, output: Output) -> Status:
    """Send the payloads of the options; return the exit status."""
    lines, destination = _lines(options), destination_of(options)
    report = _kind(options)(lines, progress_of(lines.descriptor, output), output)
    status, problem = _outcome(destination, Retry(options.retry), lines, report)
    report.end(status, problem)
    if problem:
        report.warn(f"{problem}{report.counts}")
    return status


def _kind(options: argparse.Namespace) -> type[SendReport]:
    if options.json:
        return SendJson
    if options.quiet:
        return QuietReport
    return VerboseReport if options.verbose else SendReport


def _lines(options: argparse.Namespace) -> Lines:
    """Return the payloads; input that can't be sent ends ackctl with a usage error."""
    parser: argparse.ArgumentParser = options.parser
    given = options.payloads
    if options.file is not None and given:
        parser.error(f"--file can't be combined with {'-' if given == ['-'] else 'payloads'}")
    if options.file is None and not given:
        parser.error("give payloads, or - for the standard input, or --file")
    if options.file == "-" or given == ["-"]:
        if sys.stdin is None:
            parser.error("the standard input is closed")
        return Lines(descriptor=sys.stdin.fileno())
    if options.file is not None:
        return Lines(descriptor=_opened(options.file, parser))
    payloads = [os.fsencode(payload) for payload in given]
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
        parser.error(f"--file: {path or 'an empty name'}: {error.strerror}")


def _outcome(
    destination: Destination, retry: Retry, lines: Lines, report: SendReport
) -> tuple[Status, str]:
    """Send; return the exit status, and the problem unless all payloads were acknowledged."""
    with UntilInterrupt() as block:
        failure = _try(destination, retry, lines, report)
    if block.interrupted:
        return exit_status(), "interrupted"
    if failure:
        return failure
    if lines.problem:
        return Status.USAGE, lines.problem
    if report.refused:
        return Status.REFUSED, "refused by the server"
    return Status.DELIVERED, ""


def _try(
    destination: Destination, retry: Retry, lines: Lines, report: SendReport
) -> tuple[Status, str] | None:
    """Send, with as many attempts as allowed; return the last error if all of them failed."""
    order = Order()
    while True:
        try:
            _send(destination, order, lines, report, retry)
            return None
        except ClientError as error:
            status, problem = _failed(error, destination, report)
            if retry.most and _only_closed(error) and not lines.unknown and not lines.pending:
                # Nothing was due, so the loss is no failed try: servers limit idle connections.
                report.warn(f"{problem}; ackctl tries again when the next line comes")
                if _await_line(lines):
                    continue
                return None
            pause = retry.pause(error)
            if pause is None:
                return status, problem
            twice = f": {lines.unknown} sent again, and perhaps recorded twice"
            when = f"once more in {pause:g} s ({retry.tries} of {retry.most})"
            report.warn(f"{problem}; {when}{twice if lines.unknown else ''}")
            sleep(pause)


def _only_closed(error: ClientError) -> bool:
    """Return whether the only problem is that a greeted connection has ended."""
    return type(error) is UnknownOutcomeError


def _await_line(lines: Lines) -> bool:
    """Wait for a line of the input; return False if the input ends."""
    poll = select.poll()
    while not (lines.pending or lines.ended):
        poll.register(lines.source, select.POLLIN)
        poll.poll()
        lines.read()
    return bool(lines.pending)


def _failed(error: ClientError, destination: Destination, report: SendReport) -> tuple[Status, str]:
    """Report an error; return the exit status, and the problem as a sentence."""
    if isinstance(error, RejectedError):
        report.greeted(error.said)
    if isinstance(error, NoServerError):
        for server, each in error.failures:
            report.passed_over(server, each)
    if isinstance(error, UnexpectedReplyError) and not destination.greeted:
        report.disbelieve()
    if not report.unknown:
        return meaning(error)[0], describe_failure(error)
    unknown = isinstance(error, UnknownOutcomeError)
    return Status.UNKNOWN, f"unknown: {error}" if unknown else describe_failure(error)


def _send(
    destination: Destination, order: Order, lines: Lines, report: SendReport, retry: Retry
) -> None:
    """Send the lines over one connection; raises ClientError."""
    report.connecting(" or ".join(map(printable_host, destination.hosts)), destination.port)
    report.flush()
    session: Session[SendPayload] = open_session(destination, order)
    try:
        for address, failure in session.transport.passed_over.items():
            report.passed_over(str(address), failure)
        report.connected(str(session.transport.address), destination)
        if tls := session.transport.tls:
            report.encrypted(tls.version, tls.cipher)
        if destination.greeted:
            report.greeted(session.transport.greeting or b"")
        report.writing()
        _exchange(session, lines, report, retry)
        report.flush()
        session.finish()
    except ClientError as error:
        if session.transport.unanswered or not _only_closed(error):
            order.note_failure(session.transport.address)
        # A server that rejects a client records none of its payloads.
        lines.put_back(session.close(), unconfirmed=not isinstance(error, RejectedError))
        raise
    finally:
        session.close()


def _exchange(
    session: Session[SendPayload], lines: Lines, report: SendReport, retry: Retry
) -> None:
    """Send each line as it comes, and wait for all replies."""
    transport = session.transport
    while not lines.ended or transport.unanswered:
        while lines.pending and not (transport.full or lines.full):
            sent = lines.take()
            transport.offer(sent.payload, sent)
            report.sent(sent.payload)
        report.flush()
        if session.wait(lines.source, report.due()):
            lines.read()
        for sent, reply in session.advance():
            lines.replied(sent)
            report.replied(sent, reply)
            retry.replied()
