"""The directory of the checkout."""

import re
from pathlib import Path

PROJECT = Path(__file__).parents[2]


def defined_tests() -> set[str]:
    """Return the names of all tests of the project."""
    modules = (PROJECT / "tests").rglob("test_*.py")
    return {
        name
        for module in modules
        for name in re.findall(r"^def (test_\w+)", module.read_text(), re.MULTILINE)
    }
