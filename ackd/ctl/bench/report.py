"""What `ackctl bench` prints: the progress, then the figures as a table or as JSON."""

from functools import cached_property
from time import monotonic, time
from typing import TYPE_CHECKING

from ackd.client.addresses import Destination
from ackd.client.errors import printable_host
from ackd.ctl.bench.load import BenchPlan, Load
from ackd.ctl.output.json_lines import json_line
from ackd.ctl.output.streams import Output
from ackd.ctl.output.tables import table
from ackd.ctl.runs.summary import (
    latency_histogram,
    latency_members,
    latency_rows,
    verify_hint,
)

if TYPE_CHECKING:
    from ackd.ctl.output.progress_bar import ProgressBar


class BenchReport:
    """Prints text: a description of the load, and the figures in a table."""

    def __init__(
        self, destination: Destination, plan: BenchPlan, load: Load, output: Output
    ) -> None:
        self._destination, self._plan, self._load = destination, plan, load
        self._output = output
        self._began = time()
        self._status_line = output.status_line()

    def begin(self, what: str) -> None:
        """Print a description of the load."""
        where = "the server records each of them, unless it is set to record none"
        self._output.print(f"run {self._load.run.name}: {what}; {where}")

    def progress(self, elapsed: float) -> None:
        """Show in the status line how far the load is, in seconds; 0 while clients connect."""
        self._status_line.draw(lambda width: self._drawn(elapsed, width))

    def _drawn(self, elapsed: float, width: int) -> str:
        self._bar.update(elapsed)
        acknowledged = self._load.counts.acknowledged
        text = f"{acknowledged / elapsed:,.0f} acks/s" if elapsed else "connecting"
        return self._bar.render(text, width)

    @cached_property
    def _bar(self) -> "ProgressBar":
        from ackd.ctl.output.progress_bar import ProgressBar  # slow to import

        return ProgressBar(self._output.err, self._plan.seconds, monotonic())

    def end(self) -> None:
        """Print the outcome, and the problems of clients that failed."""
        self._status_line.end()
        for trouble, clients in self._load.trouble.items():
            whose = f"{clients:,} of {self._plan.clients:,} clients: " * (self._plan.clients > 1)
            self._output.warn(f"{whose}{trouble}")
        self._print_figures()
        if not self._load.trouble and (failure := self._load.counts.failure()):
            self._output.warn(failure)

    def _print_figures(self) -> None:
        counts, out = self._load.counts, self._output.out
        rows = [(name, f"{count:,}") for name, count in counts.by_outcome().items()]
        lines = table([*rows, *latency_rows(counts.latencies)], out)
        if counts.latencies.count:
            lines += ["", *latency_histogram(counts.latencies, out)]
        if counts.sent:
            lines += ["", *verify_hint(self._load.run, self._began, counts.ended, out)]
        # Last, where it does not scroll off.
        self._output.print(*lines, "", f"{self._load.rate:,.0f} acks/s")


class BenchJson(BenchReport):
    """Prints the figures as one JSON object."""

    def begin(self, what: str) -> None:
        """Print nothing: the object has all figures."""

    def _print_figures(self) -> None:
        counts, plan = self._load.counts, self._plan
        self._output.print(
            json_line(
                run=self._load.run.name,
                host=printable_host(self._destination.host),
                port=self._destination.port,
                clients=plan.clients,
                depth=plan.depth,
                bytes=plan.size,
                timeout=self._destination.timeout,
                planned_seconds=plan.seconds,
                seconds=round(self._load.seconds, 6),
                acks_per_second=round(self._load.rate, 1),
                **counts.by_outcome(),
                end_acknowledged=counts.ended,
                latency=latency_members(counts.latencies),
                status=counts.status,
                problem=counts.problem if counts.status else None,
            )
        )
