"""How far the reading of the journal is, for who waits for it at a terminal."""

from contextlib import ExitStack
from datetime import datetime
from typing import Any, TextIO

from ackd.ctl.output.terminal import alive

_OFTEN = 50_000  # payloads: about a second


class Reading:
    """A line on a stream if that is a terminal, once it takes longer; gone on leaving the block."""

    def __init__(self, stream: TextIO | None) -> None:
        self._stream = stream if alive(stream) else None
        self._count = 0
        self._line: Any = None
        self._shown = ExitStack()

    def __enter__(self) -> "Reading":
        return self

    def __exit__(self, *_: object) -> None:
        self._shown.close()

    def tell(self, time: datetime) -> None:
        """Count a payload that was recorded at this time."""
        self._count += 1
        if self._stream and self._count % _OFTEN == 0:
            self._show(f"{self._count:,} payloads read, up to {time.astimezone():%Y-%m-%d %H:%M}")

    def _show(self, text: str) -> None:
        from rich.console import Console  # takes a tenth of a second, so not before here
        from rich.live import Live
        from rich.text import Text

        if not self._line:
            line = Live(console=Console(file=self._stream), auto_refresh=False, transient=True)
            self._line = self._shown.enter_context(line)
        self._line.update(Text(text), refresh=True)
