"""Rows of names and values, one below the other."""

from collections.abc import Sequence
from typing import TextIO

from ackd.ctl.output.terminal import columns, is_live, wrapped

Row = tuple[str, str]


def aligned(rows: Sequence[Row]) -> list[str]:
    """Return a line for each name and value; there must be at least one."""
    left, right = (max(map(len, column)) for column in zip(*rows, strict=True))
    return [f"{name:{left}}  {value:>{right}}" for name, value in rows]


def counted(rows: Sequence[Row]) -> list[str]:
    """Return a line for each number and the name of what was counted."""
    width = max((7, *(len(number) for number, _ in rows)))
    return [f"{number:>{width}}  {name}" for number, name in rows]


def beside(rows: Sequence[Row], stream: TextIO | None) -> list[str]:
    """Return lines with each name and a text beside it, which a terminal's width may break."""
    left = max(len(name) for name, _ in rows) + 2
    lines = []
    for name, text in rows:
        first, *rest = wrapped(text, stream, indent=left, first=left)
        lines += [f"{name:{left}}{first}".rstrip(), *rest]
    return lines


def columns_of(rows: Sequence[Sequence[str]], stream: TextIO | None) -> list[str]:
    """Return a line for each row: a name, and figures. The last columns may not fit a terminal."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = columns(stream) if stream and stream.isatty() else sum(widths) + 2 * len(widths)
    while len(widths) > 1 and sum(widths) + 2 * (len(widths) - 1) >= room:
        widths.pop()
    return [_in_columns(row, widths) for row in rows]


def _in_columns(row: Sequence[str], widths: Sequence[int]) -> str:
    name, *figures = (cell for cell, _ in zip(row, widths, strict=False))
    right = (f"{figure:>{width}}" for figure, width in zip(figures, widths[1:], strict=True))
    return "  ".join([f"{name:{widths[0]}}", *right]).rstrip()


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
