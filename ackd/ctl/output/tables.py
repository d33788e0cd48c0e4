"""Rows of names and values, one below the other."""

from collections.abc import Sequence
from typing import TextIO

from ackd.ctl.output.terminal import is_live

Row = tuple[str, str]


def aligned(rows: Sequence[Row]) -> list[str]:
    """Return a line for each name and value; there must be at least one."""
    left, right = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [f"{name:{left}}  {value:>{right}}" for name, value in rows]


def counted(rows: Sequence[Row]) -> list[str]:
    """Return a line for each number and the name of what was counted."""
    width = max((7, *(len(number) for number, _ in rows)))
    return [f"{number:>{width}}  {name}" for number, name in rows]


def table(rows: Sequence[Row], stream: TextIO | None) -> list[str]:
    """Return a table of names and values: in a frame for a live terminal, else only aligned."""
    return _framed(rows, stream) if stream and is_live(stream) else ["", *aligned(rows)]


def _framed(rows: Sequence[Row], stream: TextIO) -> list[str]:
    from rich.console import Console  # takes a tenth of a second, so not before it is needed
    from rich.table import Table

    framed = Table(show_header=False)
    framed.add_column()
    framed.add_column(justify="right", style="bold")
    for row in rows:
        framed.add_row(*row)
    console = Console(file=stream)
    with console.capture() as capture:
        console.print(framed)
    return capture.get().splitlines()
