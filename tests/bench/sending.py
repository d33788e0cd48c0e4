"""How long sending a line takes: run in a machine, `python3 sending.py TIMES COMMAND...`.

Prints for each time the seconds of the command, and of a Python that only imports what any client
would need, in JSON.
"""

import json
import subprocess
import sys
from time import monotonic

_BARE = ["python3", "-c", "import argparse, socket"]


def seconds(command: list[str]) -> float:
    """Run it once."""
    began = monotonic()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return monotonic() - began


if __name__ == "__main__":
    times = range(int(sys.argv[1]))
    print(json.dumps([(seconds(sys.argv[2:]), seconds(_BARE)) for _ in times]))
