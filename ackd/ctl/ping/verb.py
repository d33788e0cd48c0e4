"""`ackctl ping`: sends a payload at intervals, to show whether a path is stable."""

import argparse
from math import inf

from ackd.ctl.exit_status import Status
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.options import connections, count, destination_of, seconds
from ackd.ctl.output.streams import Output
from ackd.ctl.ping.pinger import Pinger, PingPlan
from ackd.ctl.ping.report import PingJson, PingReport
from ackd.ctl.runs.options import add_run_options, allow_connections, run_of

HELP = "send a payload every second and time the acks"
DESCRIPTION = """\
Send a payload every second, and print how long each ack took. A connection that
ends is opened again. At the end, or after Ctrl-C, print figures and outages.
"""
EPILOG = """\
examples:
  ackctl ping --host 192.168.150.1
  ackctl ping --host 192.168.150.1 --count 10 --interval 0.1
  ackctl ping --host 192.168.150.1 --duration 28800 >night.log
  ackctl ping --host balancer.example.org --parallel 20
  ackctl ping --host 192.168.150.1 --size 1400 --json

exit status:
    0  every payload was acknowledged: its record is in the server's journal
    1  the server rejected a connection, or refused a payload
    2  the command line is wrong
    3  a payload was due while the server was not reached
    4  a payload was due while a connection had no greeting
    5  a payload has no reply: it is unknown whether it is recorded
    7  a fault of ackctl, see the standard error
  130  interrupted before anything was known
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_options(parser, 0, "as few as it takes", several=True)
    option = parser.add_argument
    option("--interval", metavar="S", type=_interval, default=1.0, help="seconds between two (1)")
    option("--count", metavar="N", type=count, default=inf, help="end after N on each connection")
    option("--duration", metavar="S", type=_duration, default=inf, help="end after S seconds")
    option("--parallel", metavar="N", type=connections, default=1, help="how many connections (1)")
    option("--json", action="store_true", help="one JSON object a payload, then the figures")


def run(options: argparse.Namespace, output: Output) -> Status:
    """Ping as the options say; return the exit status."""
    allow_connections()
    this, destination = run_of(options), destination_of(options)
    plan = PingPlan(
        count=options.count,
        duration=options.duration,
        size=options.size,
        interval=options.interval,
        parallel=options.parallel,
    )
    kind = PingJson if options.json else PingReport
    report = kind(this, destination, options.parallel, output)
    pinger = Pinger(plan, this, destination, report)
    with Interrupt() as interrupt:
        report.begin(_what(options))
        pinger.ping(interrupt)
        pinger.end()
        report.end(pinger.counts)
    return pinger.counts.status


def _what(options: argparse.Namespace) -> str:
    each = f" on each of {options.parallel:,} connections" if options.parallel > 1 else ""
    return f"a payload every {options.interval:g} s{each}"


def _duration(text: str) -> float:
    """Return a number of seconds, up to a year: a path may be watched for longer than a day."""
    return seconds(text, 366 * 86400)


def _interval(text: str) -> float:
    interval = seconds(text)
    if interval < 0.001:
        raise argparse.ArgumentTypeError(f"{text!r} is less than 0.001 seconds")
    return interval
