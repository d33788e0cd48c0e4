"""The chart of the report."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")

from matplotlib import pyplot

from .results import Results, cpu, rate
from .targets import DEEP, DURABLE_DEEP, DURABLE_FIFTY, PLAIN
from .workloads import CLIENT_COUNTS, PAYLOAD_SIZES, Part, Run, Workload, size_name

_COLOURS = {
    "C": "#7f7f7f",
    "ackd": "#1f77b4",
    "ackd, record: batch": "#17becf",
    "ackd, record: none": "#2ca02c",
    "ackd, durability: disk": "#1f77b4",
    "ackd, durability: disk, record: batch": "#17becf",
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
        chart(results).savefig(path, format="svg", metadata={"Date": None})


def chart(results: Results) -> Any:
    """Return the figure of matplotlib."""
    figure, axes = pyplot.subplots(3, 2, figsize=(10, 10.5), layout="constrained")
    figure.get_layout_engine().set(w_pad=0.15, h_pad=0.15)
    acks = (results, rate, "{:,.0f}")
    _bars(axes[0][0], DEEP, "Recorded acks/s, 50 clients 64 deep", *acks)
    costs = (results, _microseconds, "{:.1f}")
    _bars(axes[0][1], PLAIN, "CPU per ack (µs), nothing recorded", *costs)
    _bars(axes[1][0], DURABLE_FIFTY, "Durable acks/s, 50 clients", *acks)
    _bars(axes[1][1], DURABLE_DEEP, "Durable acks/s, 50 clients 64 deep", *acks)
    counts = [f"{count:,}" for count in CLIENT_COUNTS]
    _growth(axes[2][0], results, Part.CLIENTS, counts, "number of clients")
    sizes = [size_name(size) for size in PAYLOAD_SIZES]
    _growth(axes[2][1], results, Part.SIZES, sizes, "size of the payload")
    # Below both panels: inside them, a legend would lie on the lines of some results.
    handles, labels = axes[2][0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return figure


def _microseconds(run: Run) -> float:
    return cpu(run) * 1e6


def _bars(
    axes: Any,
    workload: Workload,
    title: str,
    results: Results,
    figure: Callable[[Run], float],
    number: str,
) -> None:
    """Draw a bar with its value for each server; the values make an axis of numbers needless."""
    values = {s.name: results.median(workload, s.name, figure) for s in workload.servers}
    shown = {name: value for name, value in reversed(values.items()) if value is not None}
    colours = [_COLOURS.get(name, _OTHERS) for name in shown]
    names = [",\n".join(name.rsplit(", ", 1)) for name in shown]
    bars = axes.barh(names, list(shown.values()), color=colours)
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
