"""Where servers and clients run: on this host, or in a booted Debian with its real journald."""

import json
import platform
import resource
import secrets
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from tests.support.journal_socket import JournalSocket
from tests.system.base_root import Release
from tests.system.installed import install
from tests.system.machine import Machine, boot

from .programs import HERE, Programs
from .servers import ACKD, Server, Site

# Nothing may be dropped, nor deleted before it has been counted. The machine's disk is memory.
_ROOM = """\
[Journal]
RateLimitIntervalSec=0
SystemMaxUse=6G
SystemKeepFree=1M
SystemMaxFileSize=1G
"""
_DESCRIPTORS = 20000


class Place(Protocol):
    """Somewhere to measure."""

    def accepts(self, server: Server) -> bool:
        """Say whether this ackd knows the server's settings."""

    def serving(self, server: Server) -> AbstractContextManager[int]:
        """Have a server run, alone; its PID there."""

    def popen_load(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        """Start the load generator."""

    def read(self, path: str) -> str:
        """Return a file's text."""

    def recorded(self) -> int | None:
        """Return how many payloads the server has recorded; None where nothing is."""


class Loopback:
    """This host: the server has one CPU, the load the other."""

    def __init__(self, programs: Programs, directory: Path) -> None:
        self._load = programs.load
        self._directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        self._notes = str(directory / "journal")  # of ackd, which has none of payloads here
        self._site = Site(
            python=sys.executable,
            ackd=(sys.executable, "-m", "ackd", "--journal", self._notes),
            config=str(directory / "ackd.yaml"),
            reference=str(programs.reference),
            port=port,
        )

    def accepts(self, server: Server) -> bool:
        self._configure(server)
        check = (sys.executable, "-m", "ackd", "--config", self._site.config, "--check-config")
        return subprocess.run(check, capture_output=True).returncode == 0

    @contextmanager
    def serving(self, server: Server) -> Iterator[int]:
        self._configure(server)
        journal = JournalSocket(Path(self._notes))
        command = ("taskset", "--cpu-list", "0", *server.command(self._site))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()
            journal.close()

    def popen_load(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = ("taskset", "--cpu-list", "1", str(self._load), *arguments, str(self._site.port))
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def recorded(self) -> int | None:
        return None

    def _configure(self, server: Server) -> None:
        Path(self._site.config).write_text(self._site.settings(server.settings))


class Booted:
    """A booted Debian, with the server, the load and journald wherever the kernel puts them.

    Three busy processes on two CPUs: any that had one for itself would seem faster. Servers are
    units of their own, without a sandbox, and journald begins each time with an empty journal.
    """

    def __init__(self, machine: Machine, programs: Programs) -> None:
        self.machine = machine
        self._site = Site(
            "python3", ("/usr/sbin/ackd",), "/etc/bench.yaml", "/root/reference", 10008
        )
        install(machine)
        for program in (programs.reference, programs.load):
            machine.put(f"/root/{program.name}", program.read_bytes(), 0o755)
        machine.put("/etc/systemd/journald.conf.d/room.conf", _ROOM)
        machine.run("systemctl", "restart", "systemd-journald")

    def accepts(self, server: Server) -> bool:
        self._configure(server)
        check = ("--config", self._site.config, "--check-config")
        return self.machine.run(*self._site.ackd, *check, check=False).returncode == 0

    @contextmanager
    def serving(self, server: Server) -> Iterator[int]:
        self._configure(server)
        self.machine.run("journalctl", "--rotate")
        self.machine.run("journalctl", "--vacuum-size=1")
        self._unit = f"bench-{secrets.token_hex(4)}.service"
        self.machine.run(
            "systemd-run",
            "--quiet",
            f"--unit={self._unit}",
            f"--property=LimitNOFILE={_DESCRIPTORS}",
            # As in ackd's own unit.
            "--property=LogRateLimitIntervalSec=1s",
            "--property=LogRateLimitBurst=10000000",
            *server.command(self._site),
        )
        try:
            yield self.machine.pid_of(self._unit)
        finally:
            self.machine.run("systemctl", "stop", self._unit, check=False)

    def popen_load(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = ("/root/load", *arguments, str(self._site.port))
        return self.machine.popen(*command, stdin=subprocess.PIPE)

    def read(self, path: str) -> str:
        return self.machine.run("cat", path).stdout

    def recorded(self) -> int | None:
        self.machine.run("journalctl", "--sync")
        entries = f"journalctl --quiet --all --output=cat _SYSTEMD_UNIT={self._unit}"
        count = ("sh", "-c", f"{entries} | grep --count --text '^Buffer: '")
        return int(self.machine.run(*count, check=False, timeout=300).stdout)

    def starts(self, times: int) -> list[tuple[float, int]]:
        """Start ackd so many times; return the seconds to READY=1 and the bytes resident then."""
        self._configure(ACKD)
        self.machine.put("/root/start.py", (HERE / "start.py").read_bytes())
        limit = ("prlimit", f"--nofile={_DESCRIPTORS}")
        command = (*self._site.ackd, "--config", self._site.config)
        said = self.machine.run(*limit, "python3", "/root/start.py", str(times), *command).stdout
        return [(seconds, size) for seconds, size in json.loads(said)]

    def sendings(self, times: int) -> list[tuple[float, float]]:
        """Return the seconds of `ackctl send`, and of a bare Python, so many times."""
        self.machine.put("/root/sending.py", (HERE / "sending.py").read_bytes())
        command = ("/usr/bin/ackctl", "send", "--port", str(self._site.port), "hello")
        with self.serving(ACKD):
            self.machine.run(*command, "--retry", "9")  # until it serves
            said = self.machine.run("python3", "/root/sending.py", str(times), *command).stdout
        return [(ours, bare) for ours, bare in json.loads(said)]

    def versions(self) -> str:
        """Return what the machine is, in words."""
        python = self.machine.run("python3", "--version").stdout.strip()
        systemd = self.machine.run("systemctl", "--version").stdout.split()[1]
        return f"recorded in Debian {self.machine.release.value} (systemd {systemd}, {python})"

    def _configure(self, server: Server) -> None:
        self.machine.put(self._site.config, self._site.settings(server.settings))


@contextmanager
def loopback(programs: Programs) -> Iterator[Loopback]:
    """Yield this host, with descriptors for 10,000 clients."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, _DESCRIPTORS), most))
    with tempfile.TemporaryDirectory() as directory:
        yield Loopback(programs, Path(directory))


@contextmanager
def booted(programs: Programs) -> Iterator[Booted]:
    """Yield a booted Debian; needs root."""
    with boot(_own_release()) as machine:
        yield Booted(machine, programs)


def _own_release() -> Release:
    """Return this host's release, whose libraries are what the programs are compiled for."""
    name = platform.freedesktop_os_release().get("VERSION_CODENAME")
    return next((release for release in Release if release.value == name), Release.TRIXIE)
