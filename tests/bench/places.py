"""The places where servers and clients run: this host, or a booted Debian with its journald."""

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
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from tests.support.certificates import Authority
from tests.support.journal_socket import JournalSocket
from tests.system.support.base_root import Release
from tests.system.support.install import install
from tests.system.support.machine import DISK, Machine, boot

from .checkout import Checkout
from .programs import HERE, Programs
from .servers import Paths, Server

# journald must neither drop entries nor delete them before they are counted. The machine's files
# are in a tmpfs.
_ROOM = """\
[Journal]
RateLimitIntervalSec=0
SystemMaxUse=6G
SystemKeepFree=1M
SystemMaxFileSize=1G
"""
_DESCRIPTORS = 20000
# Debian's packages of the servers that write to a disk.
DURABLE_SERVERS = ("redis-server", "beanstalkd")
# Seconds until journald has everything that ackd has acknowledged.
_CATCHING_UP = 30.0
# The directory of the other checkout's ackd in the machine.
_BEFORE = "/root/before"


@dataclass(frozen=True)
class Start:
    """One start of ackd: seconds until READY=1, and bytes of resident memory then."""

    seconds: float
    resident: int


@dataclass(frozen=True)
class Send:
    """Seconds of one `ackctl send`, and of one Python that imports `argparse` and `socket`."""

    ackctl: float
    python: float


class Place(Protocol):
    """A place to measure in."""

    def accepts(self, server: Server) -> bool:
        """Return whether the ackd of this server knows its settings."""

    def serving(self, server: Server) -> AbstractContextManager[int]:
        """Run a server for the time of the block, alone; yield its PID in this place."""

    def popen_load(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        """Start the load generator."""

    def read(self, path: str) -> str:
        """Return the text of a file."""

    def recorded(self, server: Server, acknowledged: int) -> int | None:
        """Return how many payloads the server has recorded; None where that can't be counted."""


class Loopback:
    """This host: the server runs on one CPU, the load on another."""

    def __init__(self, programs: Programs, directory: Path, before: Checkout | None) -> None:
        self._load = programs.load
        self._directory = directory
        local = ("127.0.0.1", 0)
        with socket.create_server(local) as free, socket.create_server(local) as inner:
            port, inner_port = (listener.getsockname()[1] for listener in (free, inner))
        own = Authority(directory / "authority").issue("localhost")
        pem = directory / "both.pem"
        pem.write_text(own.certificate.read_text() + own.key.read_text())
        # ackd logs its start and its stop here; the servers of this place record no payloads.
        self._journal = str(directory / "journal")
        script = directory / "ackd_before.py"
        if before:
            script.write_text(before.script("ackd", str(before.root)))
        self._paths = Paths(
            python=sys.executable,
            ackd=(sys.executable, "-m", "ackd", "--journal", self._journal),
            ackd_before=(sys.executable, str(script), "--journal", self._journal),
            config=str(directory / "ackd.yaml"),
            reference=str(programs.reference),
            port=port,
            disk=str(directory),
            inner_port=inner_port,
            pem=str(pem),
        )

    def accepts(self, server: Server) -> bool:
        self._configure(server)
        check = (*server.command(self._paths), "--check-config")
        return subprocess.run(check, capture_output=True).returncode == 0

    @contextmanager
    def serving(self, server: Server) -> Iterator[int]:
        self._configure(server)
        journal = JournalSocket(Path(self._journal))
        command = ("taskset", "--cpu-list", "0", *server.command(self._paths))
        process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        try:
            yield process.pid
        finally:
            process.kill()
            process.wait()
            journal.close()

    def popen_load(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = ("taskset", "--cpu-list", "1", str(self._load), *arguments, str(self._paths.port))
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def read(self, path: str) -> str:
        return Path(path).read_text()

    def recorded(self, server: Server, acknowledged: int) -> int | None:
        return None

    def _configure(self, server: Server) -> None:
        Path(self._paths.config).write_text(self._paths.settings(server))


class Booted:
    """A booted Debian, in which the kernel places the server, the load and journald on the CPUs.

    Three busy processes share two CPUs: a process with a CPU of its own would seem faster. Each
    server is a unit of its own, without a sandbox. Each run begins with an empty journal, and a
    durable server with an empty directory on this host's disk; the journal is in memory.
    """

    def __init__(self, machine: Machine, programs: Programs, before: Checkout | None) -> None:
        self.machine = machine
        self._paths = Paths(
            python="python3",
            ackd=("/usr/sbin/ackd",),
            ackd_before=("python3", f"{_BEFORE}/run_ackd.py"),
            config="/etc/bench.yaml",
            reference="/root/reference",
            port=10008,
            disk=DISK,
        )
        install(machine)
        machine.run("systemctl", "stop", *DURABLE_SERVERS)
        for name in ("start_time.py", "send_time.py"):
            machine.put(f"/root/{name}", (HERE / name).read_bytes())
        if before:
            self._install_before(before)
        for program in (programs.reference, programs.load):
            machine.put(f"/root/{program.name}", program.read_bytes(), 0o755)
        machine.put("/etc/systemd/journald.conf.d/room.conf", _ROOM)
        machine.run("systemctl", "restart", "systemd-journald")

    def accepts(self, server: Server) -> bool:
        self._configure(server)
        check = (*server.command(self._paths), "--check-config")
        return self.machine.run(*check, check=False).returncode == 0

    @contextmanager
    def serving(self, server: Server) -> Iterator[int]:
        self._configure(server)
        self.machine.run("journalctl", "--rotate")
        self.machine.run("journalctl", "--vacuum-size=1")
        if server.durable:
            self._clear_disk()
        self._unit = f"bench-{secrets.token_hex(4)}.service"
        self.machine.run(
            "systemd-run",
            "--quiet",
            f"--unit={self._unit}",
            f"--property=LimitNOFILE={_DESCRIPTORS}",
            # The same limits as in ackd.service.
            "--property=LogRateLimitIntervalSec=1s",
            "--property=LogRateLimitBurst=10000000",
            *server.command(self._paths),
        )
        try:
            yield self.machine.pid_of(self._unit)
        finally:
            self.machine.run("systemctl", "stop", self._unit, check=False)

    @contextmanager
    def listening(self, server: Server) -> Iterator[None]:
        """Run an ackd for the time of the block, which begins when it listens."""
        with self.serving(server):
            port = str(self._paths.port)
            self.machine.run("/usr/bin/ackctl", "send", "--port", port, "--retry", "9", "hello")
            yield

    def popen_load(self, arguments: tuple[str, ...]) -> subprocess.Popen[bytes]:
        command = ("/root/load", *arguments, str(self._paths.port))
        return self.machine.popen(*command, stdin=subprocess.PIPE)

    def read(self, path: str) -> str:
        return self.machine.run("cat", path).stdout

    def recorded(self, server: Server, acknowledged: int) -> int | None:
        if not server.count:
            return None
        deadline = monotonic() + _CATCHING_UP
        while (count := self._count(server)) < acknowledged and monotonic() < deadline:
            pass
        return count

    def _count(self, server: Server) -> int:
        names = {"UNIT": self._unit, "PORT": str(self._paths.port)}
        count = self.machine.run("sh", "-c", server.count, check=False, timeout=300, env=names)
        return int(count.stdout)

    def _clear_disk(self) -> None:
        """Empty the disk's directory, and write out what would slow down the next commits."""
        self.machine.run("find", DISK, "-mindepth", "1", "-delete")
        self.machine.run("sync", "--file-system", DISK)

    def start(self, server: Server) -> Start:
        """Start an ackd, and stop it."""
        self._configure(server)
        limit = ("prlimit", f"--nofile={_DESCRIPTORS}", "--")
        return Start(*self._measure(limit, "start_time.py", server.command(self._paths)))

    def send(self, server: Server) -> Send:
        """Run the `ackctl send` of an ackd; another ackd is serving."""
        ackctl = ("python3", f"{_BEFORE}/run_ackctl.py") if server.before else ("/usr/bin/ackctl",)
        port = str(self._paths.port)
        return Send(*self._measure((), "send_time.py", (*ackctl, "send", "--port", port, "hello")))

    def _measure(
        self, prefix: tuple[str, ...], program: str, command: tuple[str, ...]
    ) -> tuple[Any, ...]:
        output = self.machine.run(*prefix, "python3", f"/root/{program}", *command).stdout
        return tuple(json.loads(output))

    def versions(self) -> str:
        """Return the versions of the machine's Debian and programs, in words."""
        python = self.machine.run("python3", "--version").stdout.strip()
        query = ("dpkg-query", "--show", "--showformat=${Package} ${Version}\n")
        packages = self.machine.run(*query, "systemd", *DURABLE_SERVERS).stdout.splitlines()
        return f"Debian {self.machine.release.value} ({', '.join((python, *packages))})"

    def disk(self) -> str:
        """Return the device and the file system of the disk, in words."""
        show = ("findmnt", "--noheadings", "--nofsroot", "--output=SOURCE,FSTYPE", "--target", DISK)
        return " ".join(self.machine.run(*show).stdout.split())

    def _install_before(self, before: Checkout) -> None:
        self.machine.copy_tree(before.package, f"{_BEFORE}/ackd")
        self.machine.run("python3", "-m", "compileall", "-q", f"{_BEFORE}/ackd")
        for name in ("ackd", "ackctl"):
            self.machine.put(f"{_BEFORE}/run_{name}.py", before.script(name, _BEFORE))

    def _configure(self, server: Server) -> None:
        self.machine.put(self._paths.config, self._paths.settings(server))


@contextmanager
def loopback(programs: Programs, before: Checkout | None = None) -> Iterator[Loopback]:
    """Yield this host; raise its limit of descriptors, which 10,000 clients need."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _DESCRIPTORS), hard))
    with tempfile.TemporaryDirectory() as directory:
        yield Loopback(programs, Path(directory), before)


@contextmanager
def booted(programs: Programs, before: Checkout | None = None) -> Iterator[Booted]:
    """Yield a booted Debian; needs root. Its disk is where the programs are."""
    with (
        tempfile.TemporaryDirectory(dir=programs.load.parent) as disk,
        boot(own_release(), tools=DURABLE_SERVERS, disk=Path(disk).resolve()) as machine,
    ):
        yield Booted(machine, programs, before)


def own_release() -> Release:
    """Return this host's release: the programs are compiled for its libraries."""
    name = platform.freedesktop_os_release().get("VERSION_CODENAME")
    return next((release for release in Release if release.value == name), Release.TRIXIE)
