"""The chart of the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot

from .results import Results, cpu, rate
from .workloads import CLIENT_COUNTS, MAIN, PAYLOAD_SIZES, Part, Run, Workload, size_name

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
_GROWTH = "CPU per ack (µs) by {}"


def draw(results: Results, path: Path) -> None:
    """Write the chart as SVG."""
    with mpl.rc_context(_STYLE):
        figure, axes = pyplot.subplots(2, 2, figsize=(10, 7.5), layout="constrained")
        figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
        _bars(axes[0][0], results, MAIN[2], rate, "{:,.0f}", "Recorded acks/s, 50 clients 64 deep")
        _bars(
            axes[0][1],
            results,
            MAIN[3],
            _microseconds,
            "{:.1f}",
            "CPU per ack (µs), nothing recorded",
        )
        counts = [f"{count:,}" for count in CLIENT_COUNTS]
        _growth(axes[1][0], results, Part.CLIENTS, counts, "number of clients")
        sizes = [size_name(size) for size in PAYLOAD_SIZES]
        _growth(axes[1][1], results, Part.SIZES, sizes, "size of the payload")
        # Below both panels: inside them, a legend would lie on the lines of some results.
        handles, labels = axes[1][0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
        figure.savefig(path, format="svg", metadata={"Date": None})


def _microseconds(run: Run) -> float:
    return cpu(run) * 1e6


def _bars(
    axes: Any,
    results: Results,
    workload: Workload,
    figure: Callable[[Run], float],
    number: str,
    title: str,
) -> None:
    """Draw a bar with its value for each server; the values make an axis of numbers needless."""
    values = {s.name: results.median(workload, s.name, figure) for s in workload.servers}
    shown = {name: value for name, value in reversed(values.items()) if value is not None}
    colours = [_COLOURS.get(name, _OTHERS) for name in shown]
    bars = axes.barh(list(shown), list(shown.values()), color=colours)
    axes.bar_label(bars, fmt=number, padding=3)
    axes.margins(x=0.2)
    axes.xaxis.set_visible(False)
    axes.spines["bottom"].set_visible(False)
    axes.set_title(title)


def _growth(axes: Any, results: Results, part: Part, places: list[str], variable: str) -> None:
    """Draw solid lines for servers that record, dashed lines for those that do not."""
    for recording in (True, False):
        workloads = [w for w in results.workloads() if w.part is part and w.recording is recording]
        for server in workloads[0].servers if workloads else ():
            values = [
                results.median(workload, server.name, _microseconds) for workload in workloads
            ]
            if None not in values:
                style = {"linestyle": "-" if recording else "--", "marker": "o", "markersize": 4}
                axes.plot(
                    places,
                    values,
                    color=_COLOURS[server.name],
                    label=_label(server.name, recording),
                    **style,
                )
    axes.set_ylim(bottom=0)
    axes.set_title(_GROWTH.format(variable))


def _label(server: str, recording: bool) -> str:
    return "C, nothing recorded" if server == "C" and not recording else server
