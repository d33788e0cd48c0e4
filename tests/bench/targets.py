"""What ackd is to reach, and whether it has."""

from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

from .results import Results, cpu, memory, rate
from .works import MAIN, Run, Work

ONE, FIFTY, DEEP, PLAIN, PIPELINED, CHURN, IDLE = MAIN
EACH, BATCH, NONE = "ackd", "ackd, record: batch", "ackd, record: none"


@dataclass(frozen=True)
class Target:
    """A bound for one figure; `measured` returns it, or None where it could not be measured.

    `at_most` says on which side of the bound it must be; `show` writes the figure.
    """

    work: str
    what: str
    bound: float
    at_most: bool
    measured: Callable[[Results], float | None]
    show: Callable[[float], str]

    def verdict(self, value: float | None) -> str:
        """Say whether it is met, or by how much not."""
        if value is None:
            return "not measured"
        if value <= self.bound if self.at_most else value >= self.bound:
            return "met"
        return f"missed by {abs(value / self.bound - 1):.1%}"


def _ratio(value: float) -> str:
    return f"{value:.2f}"


def _beside(
    work: Work,
    server: str,
    figure: Callable[[Run], float],
    bound: float,
    other: str = "C",
) -> Target:
    name = "acks/s" if figure is rate else "CPU an ack"
    at_most = figure is not rate
    side = "at most" if at_most else "at least"
    allowed = f"{side} {bound:g} times" if bound != 1 else "no more than"
    return Target(
        f"{server}: {work.name}",
        f"{name} {allowed} {other}'s",
        bound,
        at_most,
        lambda results: results.ratio(work, server, figure, other),
        _ratio,
    )


TARGETS = (
    *(_beside(work, EACH, rate, 0.95) for work in (ONE, FIFTY, DEEP)),
    *(_beside(work, EACH, cpu, 1.3) for work in (ONE, FIFTY, DEEP)),
    _beside(DEEP, BATCH, rate, 25),
    Target(
        f"{BATCH}: {DEEP.name}",
        "over 1,000,000 acks/s, all recorded",
        1e6,
        False,
        lambda results: results.median(DEEP, BATCH, rate),
        lambda value: f"{value:,.0f}/s",
    ),
    _beside(PLAIN, NONE, cpu, 1.3),
    _beside(PIPELINED, NONE, cpu, 2.0),
    _beside(PLAIN, NONE, cpu, 1, "uvloop"),
    _beside(PIPELINED, NONE, cpu, 1, "uvloop"),
    _beside(CHURN, NONE, cpu, 1.6),
    _beside(CHURN, NONE, cpu, 1, "asyncio"),
    Target(
        f"{EACH}: {IDLE.name}",
        "at most 1,024 bytes of resident memory each",
        1024,
        True,
        lambda results: results.median(IDLE, EACH, memory),
        lambda value: f"{value:,.0f} B",
    ),
    Target(
        f"{EACH}: start",
        "at most 100 ms until READY",
        0.1,
        True,
        lambda results: median(s for s, _ in results.starts) if results.starts else None,
        lambda value: f"{value * 1000:.0f} ms",
    ),
    Target(
        f"{EACH}: start",
        "at most 20 MiB of resident memory",
        20 * 1024 * 1024,
        True,
        lambda results: median(b for _, b in results.starts) if results.starts else None,
        lambda value: f"{value / 1024 / 1024:.1f} MiB",
    ),
    Target(
        "ackctl send: one line",
        "at most 2 times a Python that imports argparse and socket",
        2,
        True,
        lambda results: median(o / b for o, b in results.sendings) if results.sendings else None,
        _ratio,
    ),
)
