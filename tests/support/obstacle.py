"""Whether tests can make networks and boot systems on this host."""

import subprocess
from functools import cache

import pytest

from tests.support.project import PROJECT


@cache
def obstacle() -> str:
    """Return what keeps tests from making networks and booting systems here; "" if nothing."""
    asked = subprocess.run([PROJECT / "tests/support/obstacle"], stdout=subprocess.PIPE, text=True)
    return asked.stdout.strip()


needs_namespaces = pytest.mark.skipif(bool(obstacle()), reason=f"no namespaces: {obstacle()}")
