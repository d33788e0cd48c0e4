"""Measures `ackctl send` inside a machine: `python3 send_time.py TIMES COMMAND...`.

Runs the command and a Python that only imports `argparse` and `socket`, alternately, TIMES times.
Prints their seconds as a JSON list of pairs.
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
    times = range(int(sys.argv[1]))
    print(json.dumps([(seconds(sys.argv[2:]), seconds(_PYTHON)) for _ in times]))
