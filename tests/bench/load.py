"""The load generator's options, and what it reports."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """What clients do: `depth` payloads of `size` bytes are on their way from each at a time.

    With `churn` each connects for every payload anew; with `idle` they do nothing.
    """

    clients: int
    depth: int = 1
    size: int = 80
    churn: bool = False
    idle: bool = False

    def arguments(self, seconds: float, run: str) -> tuple[str, ...]:
        """Return the options of the program; `run` is the name that its payloads begin with."""
        return (
            f"--clients={self.clients}",
            f"--depth={self.depth}",
            f"--size={self.size}",
            f"--seconds={0 if self.idle else seconds}",
            f"--run={run}",
            *(("--churn", "--sources=8") if self.churn else ()),
        )


@dataclass(frozen=True)
class Seen:
    """What the clients have seen: counts; `seconds` in all, and until an ack came."""

    sent: int
    acks: int
    wrong: int
    unanswered: int
    lost: int
    seconds: float
    p50: float
    p99: float
    p999: float

    @property
    def trouble(self) -> str:
        """What was not as it should be, in words."""
        counts = {"wrong": self.wrong, "unanswered": self.unanswered, "lost": self.lost}
        return ", ".join(f"{count} {what}" for what, count in counts.items() if count)


class LoadError(Exception):
    """The clients were not greeted, or not answered as they should be."""


class Clients:
    """Clients that have been greeted, and wait to begin."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self._begin = process.stdin
        self._said = process.stdout
        if self._said.readline() != b"ready\n":
            raise LoadError("the clients were not all greeted")

    def run(self) -> Seen:
        """Have them send; return what they have seen. They stay connected."""
        self._begin.write(b"\n")
        self._begin.flush()
        said = self._said.readline()
        if not said:
            raise LoadError("the load generator has ended")
        return Seen(**json.loads(said))


@contextmanager
def clients(process: subprocess.Popen[bytes]) -> Iterator[Clients]:
    """Have clients connected, until the end of the block."""
    with process:
        try:
            yield Clients(process)
        finally:
            process.kill()
