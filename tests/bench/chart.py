"""The report's chart."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot

from .results import Results, cpu, rate
from .works import GROWN_CLIENTS, GROWN_SIZES, MAIN, Part, Run, Work, size_name

_COLOURS = {
    "C": "#7f7f7f",
    "ackd": "#1f77b4",
    "ackd, record: batch": "#17becf",
    "ackd, record: none": "#2ca02c",
}
_OTHERS = "#d9a066"
# The same figures make the same file.
_STYLE = {
    "svg.hashsalt": "ackd",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def draw(results: Results, path: Path) -> None:
    """Write the chart as SVG."""
    with mpl.rc_context(_STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(10, 7), layout="constrained")
        _bars(axes[0][0], results, MAIN[2], rate, "Recorded acks a second, 50 clients 64 deep")
        _bars(axes[0][1], results, MAIN[3], _microseconds, "CPU an ack, nothing recorded (µs)")
        _growth(axes[1][0], results, Part.CLIENTS, [f"{n:,}" for n in GROWN_CLIENTS], "clients")
        _growth(
            axes[1][1],
            results,
            Part.SIZES,
            [size_name(n) for n in GROWN_SIZES],
            "bytes of a payload",
        )
        figure.savefig(path, format="svg", metadata={"Date": None})


def _microseconds(run: Run) -> float:
    return cpu(run) * 1e6


def _bars(
    axes: Any, results: Results, work: Work, figure: Callable[[Run], float], title: str
) -> None:
    values = {s.name: results.median(work, s.name, figure) for s in work.servers}
    shown = {name: value for name, value in reversed(values.items()) if value is not None}
    colours = [_COLOURS.get(name, _OTHERS) for name in shown]
    bars = axes.barh(list(shown), list(shown.values()), color=colours)
    axes.bar_label(bars, fmt="{:,.4g}" if figure is _microseconds else "{:,.0f}", padding=3)
    axes.margins(x=0.2)
    axes.xaxis.set_major_formatter("{x:,.0f}")
    axes.set_title(title)


def _growth(axes: Any, results: Results, part: Part, places: list[str], label: str) -> None:
    """Draw the CPU an ack over what grows: full lines are recorded, broken ones are not."""
    for recording in (True, False):
        works = [w for w in results.works() if w.part is part and w.recording is recording]
        for server in works[0].servers if works else ():
            values = [results.median(work, server.name, _microseconds) for work in works]
            if None not in values:
                style = {"linestyle": "-" if recording else "--", "marker": "o", "markersize": 4}
                name = (
                    f"{server.name}, nothing recorded"
                    if server.name == "C" and not recording
                    else server.name
                )
                axes.plot(places, values, color=_COLOURS[server.name], label=name, **style)
    axes.set_ylim(bottom=0)
    axes.set_title(f"CPU an ack (µs) over {label}")
    axes.legend(frameon=False)
