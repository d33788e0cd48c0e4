"""How far the sending is, in a line on the standard error, if that is a terminal."""

import os
import signal
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import TYPE_CHECKING

from ackd.ctl.output.terminal import alive

if TYPE_CHECKING:
    from rich.progress import Progress as Display

_SOON, _OFTEN = 1.0, 0.1  # seconds: until it appears, and from one look of it to the next


def progress(descriptor: int) -> "Progress":
    """Return what shows how far the lines of a descriptor are sent, or -1 for no descriptor.

    It shows nothing where nobody would see it, or where the lines are typed.
    """
    if not alive(sys.stderr) or descriptor < 0 or os.isatty(descriptor):
        return Progress()
    return Line(_size(descriptor))


def _size(descriptor: int) -> int | None:
    """Return how many bytes are left to read, if that is known."""
    file = os.fstat(descriptor)
    if not stat.S_ISREG(file.st_mode):
        return None
    return file.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)


class Progress:
    """Shows nothing.

    While it is `seen` whatever else is to be printed had better wait until it is `due`: a flood of
    replies would hide it.
    """

    @property
    def seen(self) -> bool:
        """Whether it is shown, and need not be updated yet."""
        return False

    def due(self) -> float:
        """Return in how many seconds it is to be updated."""
        return inf

    def update(self, size: int, acknowledged: int, refused: int) -> None:
        """Take how many bytes of the input have been replied to, and how many payloads."""

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make room for what is printed meanwhile."""
        yield

    def stop(self) -> None:
        """End it, and leave nothing behind."""


class Line(Progress):
    """Shows a bar and the time left where the size of the input is known, and counts."""

    def __init__(self, size: int | None) -> None:
        self._size = size
        self._began = monotonic()
        self._next = self._began + _SOON  # to read the modules of rich takes 0.2 s
        self._display: Display | None = None

    @property
    def seen(self) -> bool:
        """Whether it is shown, and need not be updated yet."""
        return self._display is not None and self.due() > 0

    def due(self) -> float:
        """Return in how many seconds it is to be updated."""
        return max(0.0, self._next - monotonic())

    def update(self, size: int, acknowledged: int, refused: int) -> None:
        """Show how many bytes of the input have been replied to, and how many payloads."""
        if self.due():
            return
        self._next = monotonic() + _OFTEN
        display = self._display = self._display or self._begin()
        replies = acknowledged + refused
        task = display.tasks[0]
        completed = replies if self._size is None else size
        speed = task.speed or completed / (monotonic() - self._began)
        display.update(
            task.id,
            completed=completed,
            counts=f"{acknowledged:,} acknowledged" + (f", {refused:,} refused" if refused else ""),
            rate=f"{speed * replies / max(1, completed):,.0f}/s",
            refresh=True,
        )

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Make room for what is printed meanwhile."""
        if not self._display:
            yield
            return
        self._display.stop()
        yield
        self._display.start()

    def stop(self) -> None:
        """End it, and leave nothing behind."""
        self._next = inf
        if self._display:
            self._display.stop()
            self._display = None
            signal.signal(signal.SIGPIPE, signal.SIG_DFL)

    def _begin(self) -> "Display":
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            TaskProgressColumn,
            TextColumn,
            TimeElapsedColumn,
            TimeRemainingColumn,
        )
        from rich.progress import Progress as Display

        counts = (TextColumn("{task.fields[counts]}"), TextColumn("{task.fields[rate]}"))
        columns = (
            (*counts, TimeElapsedColumn())
            if self._size is None
            else (BarColumn(20), TaskProgressColumn(), *counts, TimeRemainingColumn())
        )
        # Refreshed from here: a thread of its own would print between two halves of a line.
        display = Display(
            *columns,
            console=Console(stderr=True),
            transient=True,
            auto_refresh=False,
            get_time=monotonic,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        display.add_task("", total=self._size, counts="", rate="")
        display.tasks[0].start_time = self._began
        # Ended by SIGPIPE, it would leave the line there, and the terminal without a cursor.
        signal.signal(signal.SIGPIPE, signal.SIG_IGN)
        display.start()
        return display
