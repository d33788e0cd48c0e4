"""The commands and the lines of Python that README shows, for tests that run them."""

import re
from textwrap import dedent

from tests.support.project import PROJECT

README = (PROJECT / "README.md").read_text()


def shows(command: str) -> bool:
    """Return whether README shows this command as a line."""
    return bool(re.search(rf"^    (\$ )?{re.escape(command)}( +#.*)?$", README, re.MULTILINE))


def python_lines() -> str:
    """Return the example that uses the library."""
    (lines,) = re.findall(r"^    from ackd.*\n(?:    .*\n|\n(?=    ))+", README, re.MULTILINE)
    return dedent(lines)


def tls_commands() -> tuple[str, str]:
    """Return the commands that lead to mutual TLS: those for the server, and the client's."""
    section = README.partition("\n## Serve other hosts\n")[2].partition("\n## ")[0]
    _, server, client = re.findall(r"^(?:    .+\n)+", section, re.MULTILINE)
    return dedent(server), dedent(client)
