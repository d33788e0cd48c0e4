"""`ackctl check`: one payload, one line, and the exit status that monitoring systems know.

The line and the statuses follow the guidelines of the Monitoring Plugins Project,
https://www.monitoring-plugins.org/doc/guidelines.html. Those who run a plugin read its standard
output only.
"""

import argparse
import os
import sys
from collections.abc import Iterator
from enum import IntEnum
from functools import partial
from math import inf
from typing import NoReturn

from ackd.client.errors import ClientError, UnknownOutcomeError
from ackd.ctl.check.exchange import Exchange, NotAckdError
from ackd.ctl.exit_status import Status
from ackd.ctl.failure import describe_failure
from ackd.ctl.interrupt import UntilInterrupt, exit_status
from ackd.ctl.options import add_server_options, destination_of, duration
from ackd.ctl.output.figures import milliseconds
from ackd.ctl.output.streams import Output
from ackd.ctl.runs.payloads import Run
from ackd.printable import printable
from ackd.protocol import Verdict

HELP = "check a server once, for Icinga, Nagios, Zabbix or cron"
DESCRIPTION = """\
Send one payload, wait for its ack, and print one line with performance data, as
a plugin of Icinga and Nagios does.
"""
EPILOG = """\
examples:
  ackctl check --host 192.168.150.1 --warn 200 --critical 2000
  ackctl check --host ackd.example.org --tls --timeout 9

exit status:
    0  OK: acknowledged
    1  WARNING: acknowledged after more than --warn milliseconds
    2  CRITICAL: not acknowledged, or after more than --critical milliseconds
    3  UNKNOWN: the command line is wrong, the check was interrupted, or a fault
       of ackctl
  130  Ctrl-C
"""
# Characters of a sentence. NRPE cuts all after 1,024 bytes off, and the performance data with it.
_SENTENCE = 400


class CheckState(IntEnum):
    """The exit status of a plugin, and the word for it."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_server_options(parser, "the whole check")
    for name in ("warn", "critical"):
        parser.add_argument(
            f"--{name}",
            metavar="MS",
            type=partial(duration, unit="milliseconds", most=86400000),
            default=inf,
            help="the most milliseconds that the whole check may take",
        )


def usage_error(message: str) -> NoReturn:
    """Report a wrong command line, and exit: argparse's status, 2, would be CRITICAL."""
    said = printable(os.fsencode(message))
    print(_line(CheckState.UNKNOWN, f"{said}; `ackctl check --help` shows the options"))
    sys.exit(CheckState.UNKNOWN)


def run(options: argparse.Namespace, output: Output) -> CheckState | Status:
    """Check the server of the options; return the exit status."""
    if inf > options.warn > options.critical:
        usage_error("--warn is more than --critical")
    # As the payload of a run, so that `ackctl log --no-runs` does not show it.
    this = Run(f"check-{Run().name}")
    exchange = Exchange(destination_of(options), this.payload(1))
    with UntilInterrupt() as block:
        state, sentence = _outcome(exchange, f"payload {this.name}", options)
    if block.interrupted:
        state, sentence = CheckState.UNKNOWN, "interrupted"
    output.print(_line(state, sentence, *_figures(exchange, options)))
    if block.interrupted and exit_status() is Status.INTERRUPTED:
        return Status.INTERRUPTED  # Ctrl-C ends a loop of the shell
    return state


def _outcome(
    exchange: Exchange, payload: str, options: argparse.Namespace
) -> tuple[CheckState, str]:
    """Do the exchange; return the state, and a sentence."""
    try:
        reply = exchange.run()
    except NotAckdError as error:
        return CheckState.CRITICAL, f"no ackd: {error}"
    except ClientError as error:
        if type(error) is UnknownOutcomeError:
            return CheckState.CRITICAL, f"{payload} not acknowledged: {error}"
        return CheckState.CRITICAL, describe_failure(error)
    if reply.verdict is Verdict.REFUSED:
        return CheckState.CRITICAL, f"{payload} refused: {printable(reply.text)}"
    took = f"{payload} acknowledged after {milliseconds(exchange.total)}"
    for state, most in (
        (CheckState.CRITICAL, options.critical),
        (CheckState.WARNING, options.warn),
    ):
        if exchange.total * 1000 > most:
            return state, f"{took}, more than {most:,g} ms; {_longest(exchange)}"
    return CheckState.OK, took


def _longest(exchange: Exchange) -> str:
    step, seconds = max(exchange.took.items(), key=lambda item: item[1])
    return f"{milliseconds(seconds)} of them for {step}"


def _figures(exchange: Exchange, options: argparse.Namespace) -> Iterator[str]:
    """Yield the performance data of each step that is complete, and of all if all are."""
    if exchange.complete:
        limits = (_number(options.warn), _number(options.critical))
        most = _number(options.timeout * 1000)
        yield f"'total'={_number(exchange.total * 1000)}ms;{';'.join(limits)};0;{most}"
    for step, seconds in exchange.took.items():
        yield f"'{step}'={_number(seconds * 1000)}ms;;;0"


def _number(value: float) -> str:
    """Return a number without an exponent; "" if it is infinite."""
    return "" if value == inf else f"{value:.3f}".rstrip("0").rstrip(".")


def _line(state: CheckState, sentence: str, *figures: str) -> str:
    """Return what a plugin prints. The first | of the line begins the performance data."""
    said = sentence.replace("|", "\\x7c")
    if len(said) > _SENTENCE:
        said = f"{said[:_SENTENCE]}..."
    return " | ".join([f"ACKD {state.name}: {said}", *[" ".join(figures)] * bool(figures)])
