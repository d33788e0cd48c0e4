"""`ackctl bench`: measures acks a second, and how long each takes, under a load."""

import argparse
from pathlib import Path

from ackd.client.addresses import Destination
from ackd.client.errors import printable_host
from ackd.ctl.bench import plot
from ackd.ctl.bench.load import BenchPlan, Load
from ackd.ctl.bench.report import BenchJson, BenchReport
from ackd.ctl.exit_status import Status
from ackd.ctl.interrupt import Interrupt
from ackd.ctl.options import connections, count, destination_of, seconds
from ackd.ctl.output.figures import many
from ackd.ctl.output.streams import Output
from ackd.ctl.runs.counts import Counts
from ackd.ctl.runs.options import add_run_options, allow_connections, run_of

HELP = "count the acks a second under a load"
DESCRIPTION = """\
Put a load on a server: each client sends its next payload as soon as an
earlier one is acknowledged. Print how many acks a second come, and how long
each takes. The server records every payload.
"""
EPILOG = """\
examples:
  ackctl bench --host 192.168.150.1
  ackctl bench --host 192.168.150.1 --clients 50 --depth 64 --seconds 30
  ackctl bench --size 1400 --json
  ackctl bench --plot latencies.svg

exit status:
    0  every payload was acknowledged: its record is in the server's journal
    1  the server rejected a client, or refused a payload
    2  the command line is wrong, or the picture can't be written
    3  a client did not reach the server, or lost its connection
    4  a client was connected, but received no greeting
    5  a payload has no reply: it is unknown whether it is recorded
    7  a fault of ackctl, see the standard error
  130  interrupted before anything was known
"""


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the verb."""
    add_run_options(parser, 80, "80")
    option = parser.add_argument
    option("--clients", metavar="N", type=connections, default=1, help="how many connections (1)")
    option("--depth", metavar="N", type=count, default=1, help="payloads on the way from each (1)")
    option("--seconds", metavar="S", type=seconds, default=10.0, help="for how long (10)")
    option("--plot", metavar="FILE", type=_picture, help="draw the latencies: .svg or .png")
    option("--json", action="store_true", help="the figures as one JSON object")


def run(options: argparse.Namespace, output: Output) -> Status:
    """Make the load as the options say; return the exit status."""
    allow_connections()
    this, destination = run_of(options), destination_of(options)
    size = max(options.size, len(this.payload(1)))
    plan = BenchPlan(options.clients, options.depth, size, options.seconds)
    load = Load(plan, this, destination)
    kind = BenchJson if options.json else BenchReport
    report = kind(destination, plan, load, output)
    with Interrupt() as interrupt:
        report.begin(_what(destination, plan))
        report.progress(0.0)
        load.make(interrupt, report.progress)
        load.end()
        report.end()
    if options.plot and load.counts.latencies.count:
        return _draw(options.plot, _what(destination, plan), load.counts, output)
    return load.counts.status


def _what(destination: Destination, plan: BenchPlan) -> str:
    clients, payloads = many(plan.clients, "client"), many(plan.depth, "payload")
    return (
        f"{printable_host(destination.host)} port {destination.port}: {clients}, {payloads} of"
        f" {plan.size:,} bytes on the way from each, for {plan.seconds:g} s"
    )


def _draw(path: Path, title: str, counts: Counts, output: Output) -> Status:
    """Write the picture; return the exit status."""
    try:
        plot.draw(counts.latencies, path, title)
    except OSError as error:
        output.warn(f"--plot: {path}: {error.strerror}")
        return counts.status or Status.USAGE
    return counts.status


def _picture(text: str) -> Path:
    path = Path(text)
    if problem := plot.problem(path):
        raise argparse.ArgumentTypeError(problem)
    return path
