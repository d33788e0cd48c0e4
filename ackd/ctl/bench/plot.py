"""Draws the distribution of latencies with matplotlib."""

from importlib.util import find_spec
from pathlib import Path

from ackd.ctl.output.figures import milliseconds
from ackd.latency import Latencies

# Nanoseconds: 20 bounds to a power of ten, from 1 us to more than a day.
_BOUNDS = [0, *(round(1000 * 10 ** (step / 20)) for step in range(221))]
_COLOURS = {"p50": "#2ca02c", "p95": "#bcbd22", "p99": "#ff7f0e", "p99.9": "#d62728"}
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def problem(path: Path) -> str:
    """Return why there can't be a picture, "" if no reason is known."""
    if path.suffix.lower() not in (".svg", ".png"):
        return f"{path} ends neither in .svg nor in .png"
    if not path.parent.is_dir():
        return f"{path.parent} is no directory"
    if not find_spec("matplotlib"):
        return "matplotlib is not installed; on Debian: apt install python3-matplotlib"
    return ""


def draw(latencies: Latencies, path: Path, title: str) -> None:
    """Write how many acks took how long; there must be one ack. Raises OSError."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter

    steps = latencies.steps(_BOUNDS)
    with rc_context(_STYLE):
        figure = Figure(figsize=(8, 4.5), layout="constrained")
        figure.suptitle(title, fontsize=10)
        axes = figure.subplots()
        edges = [steps[0][0] / 1e6, *(end / 1e6 for _, end, _ in steps)]
        # On a logarithmic scale: otherwise the few slow acks, which matter, would not be seen.
        axes.stairs([count for *_, count in steps], edges, fill=True, color="#1f77b4")
        axes.set(xscale="log", yscale="log", ylim=(0.5, None), ylabel="acks")
        axes.set_xlabel("milliseconds from the sending to the ack")
        quantiles = [(name, s) for name, s in latencies.supported() if name in _COLOURS]
        for name, seconds in quantiles:
            label = f"{name} {milliseconds(seconds)}"
            axes.axvline(seconds * 1000, color=_COLOURS[name], linewidth=1, label=label)
        # Above the bars, which would hide it.
        axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=4)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.xaxis.set_major_formatter("{x:,g}")
        axes.yaxis.set_major_formatter("{x:,g}")
        figure.savefig(path)
