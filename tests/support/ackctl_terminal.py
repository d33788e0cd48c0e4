"""A real ackctl in the foreground of a pseudo-terminal."""

import os
import pty
import select
import subprocess

from tests.support.ackctl_process import COMMAND, ENVIRONMENT
from tests.support.journal_socket import DEADLINE

# Select Graphic Rendition, ECMA-48, with a colour: a regular expression.
COLOUR = r"\x1b\[(\d+;)*[349]\dm"


class Terminal:
    """Started with arguments, by the command `before`, with some more variables around it."""

    def __init__(self, *arguments: str, before: tuple[str, ...] = (), **variables: str) -> None:
        self._keyboard, screen = pty.openpty()
        self._process = subprocess.Popen(
            ["setsid", "--ctty", *before, *COMMAND, *arguments],
            stdin=screen,
            stdout=screen,
            stderr=screen,
            env={**ENVIRONMENT, "TERM": "xterm", **variables},
        )
        os.close(screen)

    def __enter__(self) -> "Terminal":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        os.close(self._keyboard)

    def type(self, keys: str) -> None:
        os.write(self._keyboard, keys.encode())

    def read_to(self, text: str) -> str:
        """Return what is shown up to this text, and perhaps some more."""
        shown = b""
        while text.encode() not in shown:
            assert select.select([self._keyboard], [], [], DEADLINE)[0], f"no {text} in {shown!r}"
            shown += os.read(self._keyboard, 65536)
        return shown.decode()

    def ended(self) -> tuple[int, str]:
        """Wait for its end; return the exit status, and what was still shown."""
        shown = b""
        try:
            while select.select([self._keyboard], [], [], DEADLINE)[0]:
                shown += os.read(self._keyboard, 65536)
        except OSError:  # EIO: nobody has the other end any more, pty(7)
            pass
        return self._process.wait(DEADLINE), shown.decode()
