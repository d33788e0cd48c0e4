"""Times as text: of the day, how long something took, and how many took how long."""

import sys
from time import localtime, strftime

from ackd.ctl.runs.latency import Latencies

_WIDTH = 40
# 1 us, 2 us, 5 us and so on, past a day.
_BOUNDS = [0, *(digit * 10**power for power in range(3, 15) for digit in (1, 2, 5))]
_EIGHTHS = "▏▎▍▌▋▊▉█"  # U+258F to U+2588


def clock(at: float, date: bool = False) -> str:
    """Return the time of day of a time.time(), to the millisecond below."""
    form = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"
    return f"{strftime(form, localtime(at))}.{int(at % 1 * 1000):03}"


def milliseconds(seconds: float) -> str:
    """Return how long something took."""
    return f"{seconds * 1000:,.3f} ms"


def many(number: int, noun: str) -> str:
    """Return so many of something, in words."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def aligned(rows: list[tuple[str, str]]) -> list[str]:
    """Return a line for each name and value, of which there must be one."""
    left, right = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [f"{name:{left}}  {value:>{right}}" for name, value in rows]


def verify(run: str, ended: bool) -> list[str]:
    """Return how to know what became of a run; `ended` is whether its last payload arrived."""
    what = f"on the server, `ackctl verify {run}` tells whether all is stored"
    return [what] if ended else [what, "(it will miss the last payload, which holds their number)"]


def histogram(latencies: Latencies) -> list[str]:
    """Return a line for each step of 1, 2, 5, 10 ... that anything took: how many, and a bar."""
    steps = latencies.steps(_BOUNDS)
    if not steps:
        return []
    most = max(count for *_, count in steps)
    cells = [(_plain(low), _plain(high), f"{count:,}") for low, high, count in steps]
    a, b, c = (max(map(len, column)) for column in zip(*cells, strict=True))
    return [
        f"{low:>{a}} to {high:>{b}} ms  {count:>{c}}  {_bar(held / most)}".rstrip()
        for (low, high, count), (*_, held) in zip(cells, steps, strict=True)
    ]


def _plain(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.3f}"


def _bar(share: float) -> str:
    """Return a bar of a share of the width, at least a sliver for what is not nothing."""
    if not _has_blocks():
        return "#" * max(round(share * _WIDTH), share > 0)
    eighths = max(round(share * _WIDTH * 8), share > 0)
    return _EIGHTHS[-1] * (eighths // 8) + (_EIGHTHS[eighths % 8 - 1] if eighths % 8 else "")


def _has_blocks() -> bool:
    """Say whether the standard output has the letters that bars are made of."""
    try:
        _EIGHTHS.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True
