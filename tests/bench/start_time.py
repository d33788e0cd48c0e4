"""Measures a start of ackd inside a machine: `python3 start_time.py COMMAND...`.

Prints a JSON list: the seconds until the command sent READY=1, and the bytes of its resident memory
at that moment.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from time import monotonic

# WatchdogSec= of ackd.service, in microseconds.
_WATCHDOG = "30000000"


def start(command: list[str]) -> tuple[float, int]:
    """Start the command, wait for READY=1, kill it; return seconds and bytes."""
    with (
        tempfile.TemporaryDirectory() as directory,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        manager.bind(f"{directory}/notify")
        manager.settimeout(20)
        environment = {"NOTIFY_SOCKET": f"{directory}/notify", "WATCHDOG_USEC": _WATCHDOG}
        began = monotonic()
        with subprocess.Popen(command, env={**os.environ, **environment}) as process:
            try:
                while b"READY=1" not in manager.recv(4096).split(b"\n"):
                    pass
                return monotonic() - began, _resident(process.pid)
            finally:
                process.kill()


def _resident(pid: int) -> int:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


if __name__ == "__main__":
    print(json.dumps(start(sys.argv[1:])))
