"""The examples of the README, as text for the tests that run them."""

import re
from textwrap import dedent

from tests.support.project import PROJECT

README = (PROJECT / "README.md").read_text()


def shows(command: str) -> bool:
    """Say whether the README shows a command, on a line of its own."""
    return bool(re.search(rf"^    (\$ )?{re.escape(command)}( +#.*)?$", README, re.MULTILINE))


def python_lines() -> str:
    """Return the Python example that uses the library."""
    (lines,) = re.findall(r"^    from ackd.*\n(?:    .*\n|\n(?=    ))+", README, re.MULTILINE)
    return dedent(lines)
