"""A real ackctl for tests, as somebody at a terminal or in a pipe uses it."""

import os
import re
import select
import signal
import subprocess
import sys
from pathlib import Path

import ackd
from tests.support.journal_socket import DEADLINE

COMMAND = (sys.executable, "-m", "ackd.ctl")
# Where Python itself does not buffer, output that waits in a pipe would not be noticed.
ENVIRONMENT = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}

Ended = tuple[int, str, str]  # exit status, standard output, standard error


class Ackctl:
    """Started with arguments; its standard input is a pipe that stays open, or `stdin`."""

    def __init__(
        self, *arguments: str, stdin: int = subprocess.PIPE, before: tuple[str, ...] = ()
    ) -> None:
        """Start it, by the command `before` if there is one."""
        self._process = subprocess.Popen(
            [*before, *COMMAND, *arguments],
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=ENVIRONMENT,
        )

    def __enter__(self) -> "Ackctl":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
        self._process.communicate()

    def write(self, data: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(data)

    def read_line(self) -> str:
        """Wait for a line of its standard output."""
        assert self._process.stdout
        assert select.select([self._process.stdout], [], [], DEADLINE)[0], "it says nothing"
        return self._process.stdout.readline().decode()

    def read_error(self) -> str:
        """Wait for a line of its standard error."""
        assert self._process.stderr
        assert select.select([self._process.stderr], [], [], DEADLINE)[0], "it complains of nothing"
        return self._process.stderr.readline().decode()

    def await_delivery(self, number: signal.Signals) -> None:
        """Wait until it has got a signal: two at once could be one, signal(7)."""
        status = Path(f"/proc/{self._process.pid}/status")
        mask = 1 << (number - 1)
        while any(
            int(p, 16) & mask for p in re.findall(r"(?m)^S\w+Pnd:\t(.*)", status.read_text())
        ):
            pass

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return len(os.listdir(f"/proc/{self._process.pid}/task"))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def pause(self) -> None:
        """Keep it from noticing anything until SIGCONT."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def ended(self) -> Ended:
        """Close its input and wait for its end; the output is what has not been read."""
        out, err = self._process.communicate(timeout=DEADLINE)
        return self._process.returncode, out.decode(), err.decode()


def ackctl(*arguments: str, stdin: bytes = b"", before: tuple[str, ...] = ()) -> Ended:
    """Run it to its end."""
    command = [*before, *COMMAND, *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=ENVIRONMENT, timeout=DEADLINE
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def ackctl_alone(directory: Path, *arguments: str) -> Ended:
    """Run it to its end by a Python that finds only the standard library and ackd's modules."""
    (directory / "ackd").symlink_to(Path(ackd.__file__).parent)
    command = [sys.executable, "-S", "-m", "ackd.ctl", *arguments]
    environment = {"PYTHONPATH": str(directory)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=directory, timeout=DEADLINE
    )
    return done.returncode, done.stdout, done.stderr


def without_times(story: str) -> str:
    """Replace what differs from run to run: times of day, and how long things took."""
    story = re.sub(r"(?m)^\d\d:\d\d:\d\d\.\d{6} ", "TIME ", story)
    return re.sub(r"\(\d+\.\d{3} ms\)", "(TOOK)", story)
