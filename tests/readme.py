"""What the README shows, as text for those who try it."""

import re
from pathlib import Path
from textwrap import dedent

README = (Path(__file__).parents[1] / "README.md").read_text()


def python_lines() -> str:
    """Return the lines that use the library."""
    (lines,) = re.findall(r"^    from ackd.*\n(?:    .*\n|\n(?=    ))+", README, re.MULTILINE)
    return dedent(lines)
