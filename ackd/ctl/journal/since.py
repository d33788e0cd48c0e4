"""The option --since, which takes the same times as that of journalctl."""

import os
import re
import subprocess
from argparse import ArgumentTypeError


def since(text: str) -> float:
    """Return a time in seconds since the epoch; raises ArgumentTypeError.

    systemd-analyze(1) reads the text: `yesterday`, `1h ago`, `2026-11-25 10:00`, systemd.time(7).
    """
    command = ("systemd-analyze", "timestamp", "--", text)
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
    except (OSError, ValueError) as error:
        raise ArgumentTypeError(f"{text!r} can't be read: systemd-analyze: {error}") from None
    time = re.search(r"^ *UNIX seconds: @([0-9.]+)$", done.stdout, re.MULTILINE)
    if not time:
        raise ArgumentTypeError(f"{text!r} is no time: say `1h ago` or `2026-11-25 10:00`")
    return float(time[1])
