"""Times and counts as text, and a histogram."""

from collections.abc import Sequence
from time import localtime, strftime
from typing import TextIO

from ackd.ctl.output.terminal import BLOCKS, columns, has_blocks

_WIDTH = 40

Step = tuple[int, int, int]  # from, below, both in nanoseconds, and how many


def clock(at: float, date: bool = False) -> str:
    """Return the local time of day of a time.time(), with milliseconds, never rounded up."""
    form = "%Y-%m-%d %H:%M:%S" if date else "%H:%M:%S"
    return f"{strftime(form, localtime(at))}.{int(at % 1 * 1000):03}"


def milliseconds(seconds: float) -> str:
    """Return a duration in milliseconds, with its unit."""
    return f"{seconds * 1000:,.3f} ms"


def many(number: int, noun: str) -> str:
    """Return a number and a noun, in the plural unless the number is 1."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def rough(seconds: float) -> str:
    """Return a duration to two digits or so, with its unit."""
    if seconds < 0.01:
        return f"{seconds * 1000:.1f} ms"
    return f"{seconds * 1000:.0f} ms" if seconds < 10 else f"{seconds:,.0f} s"


def lasting(seconds: float) -> str:
    """Return a long duration in its one or two largest units."""
    minutes, hours = int(seconds) // 60, int(seconds) // 3600
    if minutes < 1:
        return f"{int(seconds)} s"
    if hours < 1:
        return f"{minutes} min"
    if hours < 24:
        return f"{hours} h {minutes % 60} min"
    return f"{hours // 24:,} d {hours % 24} h"


def amount(count: float) -> str:
    """Return a number of bytes to three digits, with its unit."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 999.5:
            return f"{count:.0f} {unit}" if unit == "B" or count >= 99.95 else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:,.1f} TB"


def histogram(steps: Sequence[Step], stream: TextIO | None) -> list[str]:
    """Return a line for each step, with a bar for its count, in the width of `stream`."""
    if not steps:
        return []
    most = max(count for *_, count in steps)
    blocks = has_blocks(stream)
    cells = [(_number(low), _number(high), f"{count:,}") for low, high, count in steps]
    a, b, c = (max(map(len, column)) for column in zip(*cells, strict=True))
    names = [f"{low:>{a}} to {high:>{b}} ms  {count:>{c}}  " for low, high, count in cells]
    # A letter in the last column would make some terminals begin the next line.
    room = columns(stream) - 1 - len(names[0]) if stream and stream.isatty() else _WIDTH
    width = max(1, min(_WIDTH, room))
    return [
        f"{name}{_bar(held / most, width, blocks)}".rstrip()
        for name, (*_, held) in zip(names, steps, strict=True)
    ]


def _number(nanoseconds: int) -> str:
    return f"{nanoseconds / 1e6:,.3f}"


def _bar(share: float, width: int, blocks: bool) -> str:
    """Return a bar for a share of the width; any share above 0 is visible."""
    if not blocks:
        return "#" * max(round(share * width), share > 0)
    eighths = max(round(share * width * 8), share > 0)
    return BLOCKS[-1] * (eighths // 8) + (BLOCKS[eighths % 8 - 1] if eighths % 8 else "")
