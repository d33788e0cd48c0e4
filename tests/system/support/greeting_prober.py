"""Measures how fast new clients get the greeting; runs on the client host as a program.

    python3 -m tests.system.support.greeting_prober HOST PORT

Connects, reads the greeting and closes the connection, at most 50 times per second, until the
standard input closes. Prints the seconds from each connecting to the greeting.
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
