"""Shows in the status line how far the sending is."""

import os
import stat
from time import monotonic
from typing import TYPE_CHECKING, TextIO

from ackd.ctl.output.status_line import StatusLine
from ackd.ctl.output.streams import Output

if TYPE_CHECKING:
    from ackd.ctl.output.progress_bar import ProgressBar

_AFTER, _EVERY = 1.0, 0.1  # seconds until the line appears, and between two updates


def progress_of(descriptor: int, output: Output) -> "SendProgress":
    """Return the display of how far the lines of a descriptor are sent; -1 is no descriptor.

    The display is empty if a user types the lines: the user sees each reply.
    """
    if descriptor < 0 or os.isatty(descriptor):
        return SendProgress(StatusLine(None), None, None)
    return SendProgress(output.status_line(_AFTER, _EVERY), output.err, _size(descriptor))


def _size(descriptor: int) -> int | None:
    """Return how many bytes are left to read, if that is known."""
    file = os.fstat(descriptor)
    if not stat.S_ISREG(file.st_mode):
        return None
    return file.st_size - os.lseek(descriptor, 0, os.SEEK_CUR)


class SendProgress:
    """Shows counts and, for an input of known size in bytes, a bar and the time left."""

    def __init__(self, line: StatusLine, stream: TextIO | None, size: int | None) -> None:
        self._line = line
        self._stream = stream
        self._size = size
        self._began = monotonic()
        self._bar: ProgressBar | None = None

    @property
    def holds_output(self) -> bool:
        """Whether other output should wait until `due`: a flood of replies would hide the line."""
        return self._line.shown and self._line.due() > 0

    def due(self) -> float:
        """Return in how many seconds to update the line; inf for never."""
        return self._line.due()

    def update(self, size: int, acknowledged: int, refused: int) -> None:
        """Show how many bytes of the input have a reply, and how many payloads."""
        if self._line.due():
            return
        replies = acknowledged + refused
        completed = replies if self._size is None else size
        bar = self._bar = self._bar or self._new_bar()
        bar.update(completed)
        rate = bar.speed * replies / max(1, completed)
        counts = f"{acknowledged:,} acknowledged" + (f", {refused:,} refused" if refused else "")
        self._line.draw(lambda width: bar.render(f"{counts} {rate:,.0f}/s", width))

    def end(self) -> None:
        """Remove the line for good."""
        self._line.end()

    def _new_bar(self) -> "ProgressBar":
        from ackd.ctl.output.progress_bar import ProgressBar  # slow to import

        return ProgressBar(self._stream, self._size, self._began)
