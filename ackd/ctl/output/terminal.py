"""The abilities of the terminal behind a stream."""

import os
from typing import TextIO

BLOCKS = "▏▎▍▌▋▊▉█"  # U+258F to U+2588: one eighth of a letter to a whole one


def is_live(stream: TextIO | None) -> bool:
    """Return whether the stream is a terminal on which a line can be overwritten."""
    return stream is not None and stream.isatty() and os.environ.get("TERM") != "dumb"


def has_colours(stream: TextIO | None) -> bool:
    """Return whether to print colours: not where NO_COLOR is set, https://no-color.org."""
    return is_live(stream) and not os.environ.get("NO_COLOR")


def has_blocks(stream: TextIO | None) -> bool:
    """Return whether the stream's encoding has the block letters of bars."""
    try:
        BLOCKS.encode(getattr(stream, "encoding", None) or "ascii")
    except UnicodeEncodeError:
        return False
    return True


def columns(terminal: TextIO) -> int:
    """Return the width of a terminal; 80 for a terminal that does not know its size."""
    return os.get_terminal_size(terminal.fileno()).columns or 80


def wrapped(
    text: str, stream: TextIO | None, indent: int = 0, first: int | None = None
) -> list[str]:
    """Return the lines of a text, which a terminal would break within words; elsewhere one line.

    Lines after the first are indented by `indent` columns; the first begins at the column `first`,
    which is not part of the line, or is indented as well.
    """
    if not (stream and stream.isatty()):
        return [text]
    import textwrap  # needed on a terminal only

    margin = " " * indent
    lines = textwrap.wrap(
        text,
        columns(stream),
        initial_indent=margin if first is None else " " * first,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return [lines[0][first or 0 :], *lines[1:]] if lines else [""]
