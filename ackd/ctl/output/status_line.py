"""One line of a terminal that is overwritten to show the progress."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import inf
from time import monotonic
from typing import TextIO

from ackd.ctl.output.terminal import columns, is_live

# To the beginning of the line, then erase the line: CR and EL, ECMA-48.
_CLEAR = "\r\x1b[2K"


class StatusLine:
    """A line that is overwritten; leaving the block, or `end()`, removes the line.

    The line appears `after` seconds from now at the earliest, and changes every `every` seconds at
    most. It never appears where `stream` is not a live terminal.

    There is no thread: a thread would print between two halves of another line. The cursor stays
    visible: a process that is killed could not bring the cursor back.
    """

    def __init__(self, stream: TextIO | None, after: float = 0.0, every: float = 0.0) -> None:
        self._stream = stream if is_live(stream) else None
        self._every = every
        self._next = monotonic() + after if self._stream else inf
        self._text = ""

    def __enter__(self) -> "StatusLine":
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @property
    def shown(self) -> bool:
        """Whether the line is on the terminal."""
        return bool(self._text)

    def due(self) -> float:
        """Return in how many seconds the line may change: 0 for now, inf for never."""
        return max(0.0, self._next - monotonic())

    def show(self, text: str) -> None:
        """Show a text without control characters, as much of it as fits, if the line is due."""
        self.draw(lambda width: text[:width])

    def draw(self, render: Callable[[int], str]) -> None:
        """Show what `render` returns, if the line is due; `render` gets the width in columns."""
        if self.due() or not self._stream:
            return
        self._next = monotonic() + self._every
        # A letter in the last column would make some terminals begin the next line.
        self._text = render(columns(self._stream) - 1)
        self._write(_CLEAR + self._text)

    def clear(self) -> None:
        """Remove the line until there is something to show again."""
        if self._text:
            self._text = ""
            self._write(_CLEAR)

    @contextmanager
    def aside(self) -> Iterator[None]:
        """Remove the line while other text is printed, then show it again.

        SIGPIPE or Ctrl-C may end the program within the block: the terminal is clean then.
        """
        if not self._text:
            yield
            return
        self._write(_CLEAR)
        yield
        self._write(self._text)

    def end(self) -> None:
        """Remove the line for good."""
        self.clear()
        self._next = inf

    def _write(self, text: str) -> None:
        assert self._stream
        self._stream.write(text)
        self._stream.flush()
