"""What this host lacks for some tests."""

import socket
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


def _knows_localhost() -> bool:
    try:
        socket.getaddrinfo("localhost", None, family=socket.AF_INET)
    except socket.gaierror:
        return False
    return True


needs_localhost = pytest.mark.skipif(
    not _knows_localhost(), reason="this host has no address for the name localhost"
)
