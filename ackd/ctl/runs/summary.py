"""What the verbs that send a run print about it at the end."""

from typing import TextIO

from ackd.ctl.output import figures
from ackd.ctl.output.figures import milliseconds
from ackd.ctl.output.tables import Row
from ackd.ctl.runs.latency import Latencies

# In nanoseconds: 0, 1 us, 2 us, 5 us, 10 us and so on, to more than a day.
_BOUNDS = [0, *(digit * 10**power for power in range(3, 15) for digit in (1, 2, 5))]


def latency_rows(latencies: Latencies) -> list[Row]:
    """Return the names and values of the latencies' figures; nothing if there are no latencies."""
    return [(name, milliseconds(seconds)) for name, seconds in latencies.figures()]


def latency_histogram(latencies: Latencies, stream: TextIO | None) -> list[str]:
    """Return the lines of a histogram, which `stream` will show."""
    return figures.histogram(latencies.steps(_BOUNDS), stream)


def latency_members(latencies: Latencies) -> dict[str, float]:
    """Return the figures, in seconds, by their names, for JSON."""
    return {name: round(seconds, 9) for name, seconds in latencies.figures()}


def verify_hint(run: str, ended: bool) -> list[str]:
    """Return how to look for a run in the journal.

    `ended` is whether the run's last payload was acknowledged.
    """
    hint = f"on the server, `ackctl verify {run}` tells whether all is stored"
    if ended:
        return [hint]
    return [hint, "(it will not find the last payload, which holds the number of payloads)"]
