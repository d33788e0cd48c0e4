"""The lines about a run that its sender prints at the end."""

from typing import TextIO

from ackd.ctl.output import figures
from ackd.ctl.output.figures import milliseconds
from ackd.ctl.output.tables import Row
from ackd.ctl.output.terminal import wrapped
from ackd.ctl.runs.payloads import Run
from ackd.latency import Latencies

# In nanoseconds: 0, 1 us, 2 us, 5 us, 10 us and so on, to more than a day.
_BOUNDS = [0, *(digit * 10**power for power in range(3, 15) for digit in (1, 2, 5))]

# Seconds by which the clock of the server may be behind.
_MARGIN = 3600


def latency_rows(latencies: Latencies) -> list[Row]:
    """Return the names and values of the latencies' figures; nothing if there are no latencies."""
    return [(name, milliseconds(seconds)) for name, seconds in latencies.supported()]


def latency_histogram(latencies: Latencies, stream: TextIO | None) -> list[str]:
    """Return the lines of a histogram, which `stream` will show."""
    return figures.histogram(latencies.steps(_BOUNDS), stream)


def latency_members(latencies: Latencies) -> dict[str, float]:
    """Return the figures, in seconds, by their names, for JSON."""
    return {name: round(seconds, 9) for name, seconds in latencies.figures()}


def verify_hint(run: Run, began: float, ended: bool, stream: TextIO | None) -> list[str]:
    """Return how to look for a run in the journal, as lines that `stream` will show.

    `began` is from time.time(). `ended` is whether the run's last payload was acknowledged. The
    sender does not know whether the user has used the name before, but `ackctl verify` does.
    """
    command = f"ackctl verify {run.name} --since @{max(0, int(began) - _MARGIN)}"
    hints = [f"on the server, `{command}` reports whether all is stored"]
    if run.named:
        hints.append("(without --since, earlier runs with this name count as well)")
    if not ended:
        hints.append("(the last payload, which has the number of payloads, will be missing)")
    return [line for each in hints for line in wrapped(each, stream)]
