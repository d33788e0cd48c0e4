"""Lines that are shown again and again, each time in the place of those before."""

import os

from ackd.ctl.output.streams import Output
from ackd.ctl.output.terminal import is_live

# CUP, EL and ED, ECMA-48: to the first column of the first line; erase to the end of the line, and
# to the end of the screen.
_HOME, _ERASE_LINE, _ERASE_REST = "\x1b[H", "\x1b[K", "\x1b[J"


class Screen:
    """Shows blocks of lines: on a live terminal from its first line on, as much as fits.

    Elsewhere each block is printed below the one before, after an empty line. The cursor stays
    visible, and there is no second screen: a process that is killed could not bring them back.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._shown = False

    def show(self, *lines: str) -> None:
        """Show a block of lines without control characters."""
        out = self._output.out
        if out and is_live(out):
            size = os.get_terminal_size(out.fileno())
            most, width = (size.lines or 24) - 1, size.columns or 80
            # Not behind the text: after the last column, that would erase the last letter.
            block = "".join(f"{_ERASE_LINE}{line[:width]}\n" for line in lines[:most])
            out.write(f"{_HOME}{block}{_ERASE_REST}")
            self._output.flush()
        else:
            self._output.print(*([""] if self._shown else []), *lines)
            self._output.end_if_unread()  # the next write is a moment away
        self._shown = True
