"""The load generator: its options, and the report that it prints."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """The behaviour of the clients: each has `depth` payloads of `size` bytes in flight.

    With `churn` each client opens a new connection for every payload. With `idle` the clients only
    connect.
    """

    clients: int
    depth: int = 1
    size: int = 80
    churn: bool = False
    idle: bool = False

    def arguments(
        self, protocol: str, seconds: float, run: str, tls: bool = False
    ) -> tuple[str, ...]:
        """Return the options of the program; its payloads begin with the name `run`."""
        return (
            f"--protocol={protocol}",
            f"--clients={self.clients}",
            f"--depth={self.depth}",
            f"--size={self.size}",
            f"--seconds={0 if self.idle else seconds}",
            f"--run={run}",
            *(("--churn", "--sources=8") if self.churn else ()),
            *(("--tls",) if tls else ()),
        )


@dataclass(frozen=True)
class LoadReport:
    """The counts of all clients; `seconds` of the whole run; quantiles of the seconds to an ack."""

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
    def errors(self) -> str:
        """The counts of all errors, in words; empty if there are none."""
        counts = {"wrong": self.wrong, "unanswered": self.unanswered, "lost": self.lost}
        return ", ".join(f"{count} {error}" for error, count in counts.items() if count)


class LoadError(Exception):
    """A client got no greeting, or a payload got no ack or a wrong reply."""


class Clients:
    """Connected clients that have received the greeting and wait for the start."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        self._input = process.stdin
        self._output = process.stdout
        if self._output.readline() != b"ready\n":
            raise LoadError("not all clients received the greeting")

    def run(self) -> LoadReport:
        """Start the sending and return the report at its end. The clients stay connected."""
        self._input.write(b"\n")
        self._input.flush()
        line = self._output.readline()
        if not line:
            raise LoadError("the load generator has ended")
        return LoadReport(**json.loads(line))


@contextmanager
def clients(process: subprocess.Popen[bytes]) -> Iterator[Clients]:
    """Yield connected clients; kill the load generator at the end of the block."""
    with process:
        try:
            yield Clients(process)
        finally:
            process.kill()
