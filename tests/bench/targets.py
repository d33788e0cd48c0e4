"""The targets of ackd, and whether a run of the benchmarks meets them."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from .places import Send, Start
from .results import Results, cpu, memory, rate
from .workloads import MAIN, Run, Workload

ONE, FIFTY, DEEP = MAIN[:3]
DURABLE_ONE, DURABLE_FIFTY, DURABLE_DEEP = MAIN[3:6]
PLAIN, PIPELINED, CHURN, IDLE = MAIN[6:10]
EACH, BATCH, NONE = "ackd", "ackd, record: batch", "ackd, record: none"
DISK, DISK_BATCH = "ackd, durability: disk", "ackd, durability: disk, record: batch"


@dataclass(frozen=True)
class Target:
    """A bound for one figure, which `measured` returns; None where it could not be measured.

    The figure meets the bound from below if `at_most` is set, otherwise from above; `show` writes
    the figure as text.
    """

    workload: str
    bound_text: str
    bound: float
    at_most: bool
    measured: Callable[[Results], float | None]
    show: Callable[[float], str]

    def verdict(self, value: float | None) -> str:
        """Return whether a value meets the target, and otherwise by how much it misses it."""
        if value is None:
            return "not measured"
        if value <= self.bound if self.at_most else value >= self.bound:
            return "met"
        return f"missed by {abs(value / self.bound - 1):.1%}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _relative(
    workload: Workload,
    server: str,
    figure: Callable[[Run], float],
    bound: float,
    reference: str = "C",
) -> Target:
    name = "acks/s" if figure is rate else "CPU per ack"
    at_most = figure is not rate
    side = "at most" if at_most else "at least"
    allowed = f"{side} {bound:g} times"
    if bound == 1:
        allowed = "no more than" if at_most else "more than"
    return Target(
        f"{server}: {workload.name}",
        f"{name} {allowed} {reference}'s",
        bound,
        at_most,
        lambda results: results.ratio(workload, server, figure, reference),
        _ratio,
    )


def _start(
    bound_text: str, bound: float, figure: Callable[[Start], float], show: Callable[[float], str]
) -> Target:
    def measured(results: Results) -> float | None:
        starts = results.starts.get(EACH)
        return median(map(figure, starts)) if starts else None

    return Target(f"{EACH}: start", bound_text, bound, True, measured, show)


def _send_ratio(results: Results) -> float | None:
    def ratio(send: Send) -> float:
        return send.ackctl / send.python

    sends = results.sends.get(EACH)
    return median(map(ratio, sends)) if sends else None


TARGETS = (
    *(_relative(workload, EACH, rate, 0.95) for workload in (ONE, FIFTY, DEEP)),
    *(_relative(workload, EACH, cpu, 1.3) for workload in (ONE, FIFTY, DEEP)),
    _relative(DEEP, BATCH, rate, 25),
    Target(
        f"{BATCH}: {DEEP.name}",
        "over 1,000,000 acks/s, all recorded",
        1e6,
        False,
        lambda results: results.median(DEEP, BATCH, rate),
        lambda value: f"{value:,.0f}/s",
    ),
    *(_relative(workload, DISK, rate, 0.8, "Redis") for workload in (DURABLE_ONE, DURABLE_FIFTY)),
    *(_relative(DURABLE_DEEP, server, rate, 1, "Redis") for server in (DISK, DISK_BATCH)),
    _relative(PLAIN, NONE, cpu, 1.3),
    _relative(PIPELINED, NONE, cpu, 2.0),
    _relative(PLAIN, NONE, cpu, 1, "uvloop"),
    _relative(PIPELINED, NONE, cpu, 1, "uvloop"),
    _relative(CHURN, NONE, cpu, 1.6),
    _relative(CHURN, NONE, cpu, 1, "asyncio"),
    Target(
        f"{EACH}: {IDLE.name}",
        "at most 1,024 bytes of resident memory per client",
        1024,
        True,
        lambda results: results.median(IDLE, EACH, memory),
        lambda value: f"{value:,.0f} B",
    ),
    _start(
        "at most 100 ms until READY=1",
        0.1,
        lambda start: start.seconds,
        lambda value: f"{value * 1000:.0f} ms",
    ),
    _start(
        "at most 20 MiB of resident memory",
        20 * 1024 * 1024,
        lambda start: start.resident,
        lambda value: f"{value / 1024 / 1024:.1f} MiB",
    ),
    Target(
        "ackctl send: one line",
        "at most 2 times a Python that imports argparse and socket",
        2,
        True,
        _send_ratio,
        _ratio,
    ),
)
