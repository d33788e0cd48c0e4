"""What all runs have measured, and what is said of it: medians, and ratios within one turn."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from .works import Run, Work

# A run, or why there is none.
Outcome = Run | str


@dataclass
class Results:
    """The runs of each work and server, in turns; the n-th of all servers belong together.

    `starts` are seconds to READY=1, and bytes of resident memory then; `sendings` are seconds of
    `ackctl send`, and of a bare Python.
    """

    runs: dict[tuple[Work, str], list[Outcome]] = field(default_factory=dict)
    starts: list[tuple[float, int]] = field(default_factory=list)
    sendings: list[tuple[float, float]] = field(default_factory=list)

    def add(self, work: Work, server: str, outcome: Outcome) -> None:
        """Keep one run."""
        self.runs.setdefault((work, server), []).append(outcome)

    def works(self) -> list[Work]:
        """Return all works, in their order."""
        return list(dict.fromkeys(work for work, _ in self.runs))

    def failure(self, work: Work, server: str) -> str:
        """Return why a server has no figures; empty if it has."""
        outcomes = self.runs.get((work, server), ["not measured"])
        return next((outcome for outcome in outcomes if isinstance(outcome, str)), "")

    def median(self, work: Work, server: str, figure: Callable[[Run], float]) -> float | None:
        """Return the median of a figure over all turns; None where the server has failed."""
        if self.failure(work, server):
            return None
        return median(figure(run) for run in self._good(work, server))

    def ratio(
        self, work: Work, server: str, figure: Callable[[Run], float], beside: str = "C"
    ) -> float | None:
        """Return the median of a figure's ratio to another server's of the same turn."""
        if self.failure(work, server) or self.failure(work, beside):
            return None
        pairs = zip(self._good(work, server), self._good(work, beside), strict=True)
        ratios = [figure(run) / figure(other) for run, other in pairs if figure(other)]
        return median(ratios) if ratios else None

    def _good(self, work: Work, server: str) -> list[Run]:
        return [run for run in self.runs[work, server] if isinstance(run, Run)]


def rate(run: Run) -> float:
    """Acks a second."""
    return run.rate


def cpu(run: Run) -> float:
    """Seconds of the server's CPU for each ack."""
    return run.cpu


def memory(run: Run) -> float:
    """Bytes of the server's resident memory for each client."""
    return run.memory
