"""Whether tests can make networks and boot systems on this host."""

import subprocess
from functools import cache

import pytest

from tests.support.project import PROJECT


@cache
def obstacle() -> str:
    """Return why tests can't make networks and boot systems on this host; "" if they can."""
    done = subprocess.run([PROJECT / "tests/support/obstacle"], stdout=subprocess.PIPE, text=True)
    return done.stdout.strip()


needs_namespaces = pytest.mark.skipif(bool(obstacle()), reason=f"no namespaces: {obstacle()}")
