"""What a stream's terminal can do."""

from os import environ
from typing import TextIO


def alive(stream: TextIO | None) -> bool:
    """Say whether it is a terminal on which a line can be written again."""
    return stream is not None and stream.isatty() and environ.get("TERM") != "dumb"


def coloured(stream: TextIO | None) -> bool:
    """Say whether it is one for colours, unless these are not wanted: https://no-color.org."""
    return alive(stream) and not environ.get("NO_COLOR")
