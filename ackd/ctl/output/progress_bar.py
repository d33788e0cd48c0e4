"""A progress bar for the status line, drawn by rich.

rich takes a tenth of a second to import: import this module only when a bar is to be shown.
"""

from time import monotonic
from typing import TextIO

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

_WIDTH = 20


class ProgressBar:
    """A bar, a percentage, a text and the time left; without a total, a text and the time so far.

    `total` has the unit of what `update` takes; `began` is from time.monotonic(); `stream` is the
    terminal that will show the bar.
    """

    def __init__(self, stream: TextIO | None, total: float | None, began: float) -> None:
        text = TextColumn("{task.description}", markup=False)
        columns = (
            (text, TimeElapsedColumn())
            if total is None
            else (BarColumn(_WIDTH), TaskProgressColumn(), text, TimeRemainingColumn())
        )
        self._console = Console(file=stream)
        # Never started: rich would hide the cursor, and refresh the bar from a thread.
        self._progress = Progress(*columns, console=self._console, get_time=monotonic)
        self._progress.add_task("", total=total)
        (self._task,) = self._progress.tasks
        self._task.start_time = began
        self._began = began

    @property
    def speed(self) -> float:
        """How much is completed per second of late."""
        return self._task.speed or self._task.completed / (monotonic() - self._began)

    def update(self, completed: float) -> None:
        """Take note of how much is completed."""
        self._progress.update(self._task.id, completed=completed)

    def render(self, text: str, width: int) -> str:
        """Return the bar with a text as one line of at most `width` columns, with its colours."""
        self._task.description = text
        bar = self._progress.make_tasks_table([self._task])
        with self._console.capture() as capture:
            self._console.print(bar, end="", width=width)
        return capture.get().partition("\n")[0]
