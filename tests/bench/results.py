"""The figures of all runs: medians, and ratios within a round."""

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import median

from .places import Send, Start
from .workloads import Run, Workload

# A run, or the reason why there is none.
Outcome = Run | str


@dataclass
class Results:
    """The runs of each workload and server, one of each round; the starts and sends of each ackd.

    The n-th runs of all servers belong to the same round.
    """

    runs: dict[tuple[Workload, str], list[Outcome]] = field(default_factory=dict)
    starts: dict[str, list[Start]] = field(default_factory=dict)
    sends: dict[str, list[Send]] = field(default_factory=dict)

    def add(self, workload: Workload, server: str, outcome: Outcome) -> None:
        """Keep one run."""
        self.runs.setdefault((workload, server), []).append(outcome)

    def workloads(self) -> list[Workload]:
        """Return all workloads, in the order in which they were measured."""
        return list(dict.fromkeys(workload for workload, _ in self.runs))

    def failure(self, workload: Workload, server: str) -> str:
        """Return why a server has no figures; empty if it has figures."""
        outcomes = self.runs.get((workload, server), ["not measured"])
        return next((outcome for outcome in outcomes if isinstance(outcome, str)), "")

    def median(
        self, workload: Workload, server: str, figure: Callable[[Run], float]
    ) -> float | None:
        """Return the median of a figure over all rounds; None where the server has failed."""
        if self.failure(workload, server):
            return None
        return median(figure(run) for run in self._good(workload, server))

    def ratios(
        self, workload: Workload, server: str, figure: Callable[[Run], float], reference: str = "C"
    ) -> list[float]:
        """Return the ratio to the reference's figure in each round; none where one has failed."""
        if self.failure(workload, server) or self.failure(workload, reference):
            return []
        pairs = zip(self._good(workload, server), self._good(workload, reference), strict=True)
        return [figure(run) / figure(other) for run, other in pairs if figure(other)]

    def ratio(
        self, workload: Workload, server: str, figure: Callable[[Run], float], reference: str = "C"
    ) -> float | None:
        """Return the median of the ratios of all rounds; None if there is none."""
        ratios = self.ratios(workload, server, figure, reference)
        return median(ratios) if ratios else None

    def _good(self, workload: Workload, server: str) -> list[Run]:
        return [run for run in self.runs[workload, server] if isinstance(run, Run)]


def rate(run: Run) -> float:
    """Acks per second."""
    return run.rate


def cpu(run: Run) -> float:
    """Seconds of the server's CPU per ack."""
    return run.cpu


def memory(run: Run) -> float:
    """Bytes of the server's resident memory per client."""
    return run.memory
