"""A terminal for tests of output."""

import contextlib
import fcntl
import os
import pty
import struct
import termios
from typing import TextIO

# To the beginning of the line, then erase the line.
CLEAR = "\r\x1b[2K"


class Screen:
    """A terminal to which a test prints in its own process, through `stream`."""

    def __init__(self, columns: int) -> None:
        self._end, line = pty.openpty()
        fcntl.ioctl(line, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        self.stream: TextIO = os.fdopen(line, "w")

    def read(self) -> str:
        """Close the terminal; return all that it has shown."""
        self.stream.close()
        shown = b""
        with contextlib.suppress(OSError):  # EIO, at the end of a terminal
            while chunk := os.read(self._end, 65536):
                shown += chunk
        os.close(self._end)
        return shown.decode()
