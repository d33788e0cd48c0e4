"""Another checkout of ackd, which `--before` measures beside this one."""

import tomllib
from dataclasses import dataclass
from pathlib import Path

_SCRIPT = """\
import sys

sys.path.insert(0, {modules!r})
from {module} import {function}

sys.exit({function}())
"""


@dataclass(frozen=True)
class Checkout:
    """A checkout at `root`; its folders may differ from those of this checkout."""

    root: Path

    @property
    def package(self) -> Path:
        """The directory of its package `ackd`."""
        return self.root / "ackd"

    def script(self, name: str, modules: str) -> str:
        """Return the text of its program `name`, `ackd` or `ackctl`.

        `modules` is the directory from which the program imports its package. That directory comes
        first in `sys.path`, so that an installed ackd does not replace it.
        """
        project = tomllib.loads((self.root / "pyproject.toml").read_text())["project"]
        module, function = project["scripts"][name].split(":")
        return _SCRIPT.format(modules=modules, module=module, function=function)
