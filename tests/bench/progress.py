"""The progress of a benchmark: a bar on a terminal, otherwise a line per run."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

Step = Callable[[str], None]


@contextmanager
def progress(total: int) -> Iterator[Step]:
    """Yield a function that takes the name of each of `total` steps before the step begins."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield _lines(total)
        return
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.description}"),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("", total=total)
        begun = iter([0, *(1 for _ in range(total))])
        yield lambda text: bar.update(task, description=text, advance=next(begun))


def _lines(total: int) -> Step:
    numbers = iter(range(1, total + 1))
    return lambda text: print(f"{next(numbers)}/{total} {text}", file=sys.stderr, flush=True)
