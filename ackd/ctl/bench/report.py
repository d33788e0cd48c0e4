"""Prints the progress of `ackctl bench`, and its figures as a table or as JSON."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ackd.client.addresses import Destination
from ackd.ctl.bench.load import BenchPlan, Load
from ackd.ctl.output.figures import aligned, histogram, milliseconds, verify
from ackd.ctl.output.terminal import alive


class BenchReport:
    """Prints text: what the load is, and the figures in a table."""

    def __init__(self, destination: Destination, plan: BenchPlan, load: Load) -> None:
        self._destination, self._plan, self._load = destination, plan, load

    def begin(self, what: str) -> None:
        """Print what the load will be."""
        where = "all are recorded there, unless it records none"
        print(f"run {self._load.run.name}: {what}; {where}", flush=True)

    def end(self) -> None:
        """Print what went wrong, and the figures."""
        for what, clients in self._load.trouble.items():
            whose = f"{clients:,} of {self._plan.clients:,} clients: " * (self._plan.clients > 1)
            print(f"ackctl: {whose}{what}", file=sys.stderr)
        self.show()

    def show(self) -> None:
        """Print the figures."""
        counts = self._load.counts
        rows = [("acks/s", f"{self._load.rate:,.0f}")]
        rows += [(name, f"{count:,}") for name, count in counts.by_outcome().items()]
        rows += [(name, milliseconds(took)) for name, took in counts.latencies.figures()]
        if alive(sys.stdout):
            _show_table(rows)
        else:
            print("", *aligned(rows), sep="\n")
        if counts.latencies.count:
            print("", *histogram(counts.latencies), sep="\n")
        if counts.sent:
            print("", *verify(self._load.run.name, counts.ended), sep="\n")


class BenchJson(BenchReport):
    """Prints the figures as one object."""

    def begin(self, what: str) -> None:
        """Print nothing: all is in the object."""

    def show(self) -> None:
        """Print the figures."""
        import json

        counts, plan = self._load.counts, self._plan
        members = {
            "run": self._load.run.name,
            "host": self._destination.host,
            "port": self._destination.port,
            "clients": plan.clients,
            "depth": plan.depth,
            "bytes": plan.size,
            "timeout": self._destination.timeout,
            "planned_seconds": plan.seconds,
            "seconds": round(self._load.seconds, 6),
            "acks_per_second": round(self._load.rate, 1),
            **counts.by_outcome(),
            "end_acknowledged": counts.ended,
            "latency": {name: round(took, 9) for name, took in counts.latencies.figures()},
            "status": counts.status,
            "problem": counts.problem if counts.status else None,
        }
        print(json.dumps(members), flush=True)


def _show_table(rows: list[tuple[str, str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False)
    table.add_column()
    table.add_column(justify="right", style="bold")
    for row in rows:
        table.add_row(*row)
    Console().print(table)


@contextmanager
def progress(seconds: float) -> Iterator[Callable[[float, int], None]]:
    """Yield what is to be called with the seconds so far and the acks; it shows on a terminal."""
    if not alive(sys.stderr):
        yield lambda elapsed, acks: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (BarColumn(), TimeRemainingColumn(), TextColumn("{task.fields[what]}"))
    # Not refreshed by a thread of its own, which would hold up the load at any time.
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, auto_refresh=False) as bar:
        task = bar.add_task("", total=seconds, what="connecting")
        bar.refresh()
        yield lambda elapsed, acks: bar.update(
            task, completed=elapsed, what=f"{acks / elapsed:,.0f} acks/s", refresh=True
        )
