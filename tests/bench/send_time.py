"""Measures `ackctl send` inside a machine: `python3 send_time.py COMMAND...`.

Prints a JSON list: the seconds of the command, and those of a Python that only imports `argparse`
and `socket`.
"""

import json
import subprocess
import sys
from time import monotonic

_PYTHON = ["python3", "-c", "import argparse, socket"]


def seconds(command: list[str]) -> float:
    """Run a command to its end and return how long it took."""
    began = monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return monotonic() - began


if __name__ == "__main__":
    print(json.dumps([seconds(sys.argv[1:]), seconds(_PYTHON)]))
