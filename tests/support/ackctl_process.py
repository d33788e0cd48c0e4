"""A real ackctl process for tests, with pipes as its standard streams."""

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
# With PYTHONUNBUFFERED, a test would not notice output that ackctl forgets to flush.
ENVIRONMENT = {name: text for name, text in os.environ.items() if name != "PYTHONUNBUFFERED"}
ENVIRONMENT["XDG_STATE_HOME"] = "/nonexistent"  # what the user's own ackctl remembers is there

Ended = tuple[int, str, str]  # exit status, standard output, standard error


class Ackctl:
    """A running ackctl; its standard input is a pipe that stays open, or `stdin`."""

    def __init__(
        self, *arguments: str, stdin: int = subprocess.PIPE, before: tuple[str, ...] = ()
    ) -> None:
        """Start ackctl with these arguments; `before` is a command in front of it."""
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
        """Wait for a line of the standard output."""
        assert self._process.stdout
        assert select.select([self._process.stdout], [], [], DEADLINE)[0], "no output"
        return self._process.stdout.readline().decode()

    def read_error(self) -> str:
        """Wait for a line of the standard error."""
        assert self._process.stderr
        assert select.select([self._process.stderr], [], [], DEADLINE)[0], "no error output"
        return self._process.stderr.readline().decode()

    def await_delivery(self, number: signal.Signals) -> None:
        """Wait until no such signal is pending: the kernel merges pending signals, signal(7)."""
        status = Path(f"/proc/{self._process.pid}/status")
        mask = 1 << (number - 1)
        while any(
            int(p, 16) & mask for p in re.findall(r"(?m)^S\w+Pnd:\t(.*)", status.read_text())
        ):
            pass

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    @property
    def threads(self) -> int:
        """How many threads it has."""
        return len(os.listdir(f"/proc/{self._process.pid}/task"))

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def pause(self) -> None:
        """Stop the process until SIGCONT."""
        self.signal(signal.SIGSTOP)
        os.waitid(os.P_PID, self._process.pid, os.WSTOPPED)

    def ended(self) -> Ended:
        """Close the standard input, wait for the end, and return the output not read before."""
        out, err = self._process.communicate(timeout=DEADLINE)
        return self._process.returncode, out.decode(), err.decode()


def ackctl(*arguments: str, stdin: bytes = b"", before: tuple[str, ...] = ()) -> Ended:
    """Run ackctl to its end."""
    command = [*before, *COMMAND, *arguments]
    done = subprocess.run(
        command, input=stdin, capture_output=True, env=ENVIRONMENT, timeout=DEADLINE
    )
    return done.returncode, done.stdout.decode(), done.stderr.decode()


def ackctl_alone(directory: Path, *arguments: str) -> Ended:
    """Run ackctl with a Python that finds only the standard library and ackd's modules."""
    (directory / "ackd").symlink_to(Path(ackd.__file__).parent)
    command = [sys.executable, "-S", "-m", "ackd.ctl", *arguments]
    environment = {"PYTHONPATH": str(directory)}
    done = subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=directory, timeout=DEADLINE
    )
    return done.returncode, done.stdout, done.stderr


def without_times(report: str) -> str:
    """Replace the parts that differ from run to run: times of day, and durations."""
    report = re.sub(r"(?m)^\d\d:\d\d:\d\d\.\d{6} ", "TIME ", report)
    return re.sub(r"\(\d+\.\d{3} ms\)", "(TOOK)", report)
