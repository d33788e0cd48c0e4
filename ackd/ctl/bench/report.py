"""What `ackctl bench` tells: how far it is, and at the end the figures, as a table or as JSON."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ackd.ctl.bench.load import Load, Plan
from ackd.ctl.output.figures import aligned, histogram, milliseconds, verify
from ackd.ctl.output.terminal import alive


class Report:
    """Prints text: what the load is, and the figures in a table."""

    def __init__(self, host: str, port: int, plan: Plan, load: Load) -> None:
        self._host, self._port = host, port
        self._plan, self._load = plan, load

    def begin(self, what: str) -> None:
        """Tell what the load will be."""
        where = "all are recorded there, unless it records none"
        print(f"run {self._load.run.name}: {what}; {where}", flush=True)

    def end(self) -> None:
        """Tell what came of it."""
        for what, clients in self._load.trouble.items():
            whose = f"{clients:,} of {self._plan.clients:,} clients: " * (self._plan.clients > 1)
            print(f"ackctl: {whose}{what}", file=sys.stderr)
        self.show()

    def show(self) -> None:
        """Print the figures."""
        tally = self._load.tally
        rows = [("acks/s", f"{self._load.rate:,.0f}")]
        rows += [(name, f"{count:,}") for name, count in tally.counts().items()]
        rows += [(name, milliseconds(took)) for name, took in tally.latencies.figures()]
        if alive(sys.stdout):
            _show_table(rows)
        else:
            print("", *aligned(rows), sep="\n")
        if tally.latencies.count:
            print("", *histogram(tally.latencies), sep="\n")
        if tally.sent:
            print("", *verify(self._load.run.name, tally.ended), sep="\n")


class Json(Report):
    """Prints the figures as one object."""

    def begin(self, what: str) -> None:
        """Tell nothing: all is in the object."""

    def show(self) -> None:
        """Print the figures."""
        import json

        tally, plan = self._load.tally, self._plan
        members = {
            "run": self._load.run.name,
            "host": self._host,
            "port": self._port,
            "clients": plan.clients,
            "depth": plan.depth,
            "bytes": plan.size,
            "timeout": plan.timeout,
            "planned_seconds": plan.seconds,
            "seconds": round(self._load.seconds, 6),
            "acks_per_second": round(self._load.rate, 1),
            **tally.counts(),
            "end_acknowledged": tally.ended,
            "latency": {name: round(took, 9) for name, took in tally.latencies.figures()},
            "status": tally.status,
            "problem": tally.problem if tally.status else None,
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
