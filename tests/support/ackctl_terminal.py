"""A real ackctl process for tests, in the foreground of a pseudo-terminal."""

import os
import pty
import select
import subprocess

from tests.support.ackctl_process import COMMAND, ENVIRONMENT
from tests.support.journal_socket import DEADLINE

# A regular expression for a Select Graphic Rendition that sets a colour, ECMA-48.
COLOUR = r"\x1b\[(\d+;)*[349]\dm"


class Terminal:
    """A running ackctl; `before` is a command in front, `variables` extend the environment."""

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
        """Return the output up to this text; there can be more after it."""
        shown = b""
        while text.encode() not in shown:
            assert select.select([self._keyboard], [], [], DEADLINE)[0], f"no {text} in {shown!r}"
            shown += os.read(self._keyboard, 65536)
        return shown.decode()

    def ended(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and the output not read before."""
        shown = b""
        try:
            while select.select([self._keyboard], [], [], DEADLINE)[0]:
                shown += os.read(self._keyboard, 65536)
        except OSError:  # EIO: no process has the other end open, pty(7)
            pass
        return self._process.wait(DEADLINE), shown.decode()
