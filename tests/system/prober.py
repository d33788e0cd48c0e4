"""A client that only looks whether it is greeted, and how fast: run beside a machine.

    python3 prober.py HOST PORT

Connects, is greeted, closes, 50 times a second at most, until the standard input closes; prints the
seconds from each connection to its greeting.
"""

import select
import socket
import sys
from time import monotonic

from tests.support.peer import GREETING


def main(host: str, port: str) -> None:
    """Probe until the standard input closes."""
    print("ready", flush=True)
    while not select.select([sys.stdin], [], [], 0.02)[0]:
        began = monotonic()
        with socket.create_connection((host, int(port)), 60) as client:
            assert client.makefile("rb").readline() == GREETING
        print(monotonic() - began, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
