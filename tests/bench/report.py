"""The report in Markdown: each target with its measured value, then all figures."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from .results import Results, cpu, memory, rate
from .servers import before
from .targets import TARGETS
from .workloads import Part, Run, Workload

_HEAD = """\
# Benchmarks of ackd

Written by `make bench`. [README.md](README.md) explains the method and the words.

![Acks per second, CPU and growth](RESULTS.svg)

"""
_COMPARISON = """\

## Compared with the ackd before

Each figure is new / before: the median, and the lowest and highest.
Rounds: {rounds}; starts and sends: {starts}.

"""


@dataclass(frozen=True)
class Conditions:
    """How the figures were measured; `machine` are lines of text, `seconds` is for each run."""

    machine: tuple[str, ...]
    rounds: int
    growth_rounds: int
    seconds: float
    starts: int

    @property
    def facts(self) -> tuple[str, ...]:
        """Lines of text with all conditions."""
        growth = f" (costs by number and size: {self.growth_rounds})" if self.growth_rounds else ""
        amount = f"Rounds: {self.rounds}{growth}; each run: {self.seconds:g} s"
        return (*self.machine, f"{amount}; starts and sends: {self.starts}")


def text(results: Results, conditions: Conditions) -> str:
    """Return the whole report."""
    facts = (f"- {fact}\n" for fact in conditions.facts)
    return "".join((_HEAD, *facts, *_targets(results), *_parts(results)))


def comparison(results: Results, conditions: Conditions) -> str:
    """Return the ratios of this ackd's figures to those of the ackd before."""
    rows = [
        _compared(results, workload, server.name, before(server).name)
        for workload in results.workloads()
        for server in workload.servers
        if server.ackd
    ]
    head = ("workload", "server", "acks/s", "CPU per ack", "memory per client")
    heading = _COMPARISON.format(rounds=conditions.rounds, starts=conditions.starts)
    return "".join((heading, _table(head, "llrrr", rows), "\n", *_compared_starts(results)))


def _compared(results: Results, workload: Workload, new: str, old: str) -> Iterator[str]:
    yield _full_name(workload)
    yield new
    idle = workload.load.idle
    for figure, shown in ((rate, not idle), (cpu, not idle), (memory, idle)):
        ratios = results.ratios(workload, new, figure, old) if shown else []
        yield _spread(ratios) if ratios or not shown else _failures(results, workload, new, old)


def _failures(results: Results, workload: Workload, new: str, old: str) -> str:
    return results.failure(workload, new) or results.failure(workload, old) or "no figure"


def _spread(ratios: list[float]) -> str:
    if not ratios:
        return ""
    return f"{median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


def _compared_starts(results: Results) -> Iterator[str]:
    starts = list(zip(*results.starts.values(), strict=True))
    sends = list(zip(*results.sends.values(), strict=True))
    ratios = {
        "start until READY=1": [new.seconds / old.seconds for new, old in starts],
        "resident memory after the start": [new.resident / old.resident for new, old in starts],
        "`ackctl send`": [new.ackctl / old.ackctl for new, old in sends],
    }
    yield from (f"- {name}: {_spread(each)}\n" for name, each in ratios.items())


def _targets(results: Results) -> Iterator[str]:
    yield "\n## Targets\n\n"
    rows = []
    for target in TARGETS:
        value = target.measured(results)
        shown = "" if value is None else target.show(value)
        rows.append((target.workload, target.bound_text, shown, target.verdict(value)))
    yield _table(("workload", "target", "measured", ""), "llrl", rows)


def _parts(results: Results) -> Iterator[str]:
    for part in Part:
        workloads = [workload for workload in results.workloads() if workload.part is part]
        if workloads:
            table = _memory_table if workloads[0].load.idle else _load_table
            yield f"\n## {part.value}\n\n{table(results, workloads)}"


def _memory_table(results: Results, workloads: list[Workload]) -> str:
    rows = [
        (server, failure or f"{_known(results.median(workload, server, memory)):,.0f} B")
        for workload, server, failure in _cases(results, workloads)
    ]
    return _table(("server", "resident memory per client"), "lr", rows)


def _load_table(results: Results, workloads: list[Workload]) -> str:
    head = ("workload", "server", "acks/s", "to C", "CPU per ack", "to C", "p50", "p99", "p99.9")
    rows = []
    for workload, server, failure in _cases(results, workloads):
        figures = (failure, *[""] * 6) if failure else _figures(results, workload, server)
        rows.append((_full_name(workload), server, *figures))
    return _table(head, "llrrrrrrr", rows)


def _full_name(workload: Workload) -> str:
    """Return the name; for a growth workload, with the way of recording."""
    growing = workload.part in (Part.CLIENTS, Part.SIZES)
    return f"{workload.name}{', recorded' if workload.recording and growing else ''}"


def _cases(results: Results, workloads: list[Workload]) -> Iterator[tuple[Workload, str, str]]:
    for workload in workloads:
        for server in workload.servers:
            yield workload, server.name, results.failure(workload, server.name)


def _figures(results: Results, workload: Workload, server: str) -> Iterator[str]:
    yield f"{_known(results.median(workload, server, rate)):,.0f}"
    yield _ratio(results.ratio(workload, server, rate))
    yield _time(_known(results.median(workload, server, cpu)))
    yield _ratio(results.ratio(workload, server, cpu))
    for quantile in (_p50, _p99, _p999):
        yield _time(_known(results.median(workload, server, quantile)))


def _p50(run: Run) -> float:
    return run.p50


def _p99(run: Run) -> float:
    return run.p99


def _p999(run: Run) -> float:
    return run.p999


def _known(value: float | None) -> float:
    assert value is not None
    return value


def _ratio(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def _time(seconds: float) -> str:
    for unit, size in (("ms", 1e-3), ("µs", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds * 1e9:.0f} ns"


def _table(head: Iterable[str], alignment: str, rows: Iterable[Iterable[str]]) -> str:
    """Return a Markdown table; `alignment` has `l` or `r` for each column."""
    rule = ["--:" if side == "r" else "---" for side in alignment]
    lines = (head, rule, *rows)
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
