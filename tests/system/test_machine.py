"""The booted systems: they run real Debian releases, and leave nothing behind."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
from contextlib import ExitStack, closing
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

import pytest

from .support.base_root import Release
from .support.machine import (
    CLIENT_ADDRESS,
    INTERFACE,
    MACHINE_ADDRESS,
    BootError,
    CommandError,
    DeadlineError,
    Machine,
    MachineError,
    boot,
    wait_until,
)

SERVE = """
import socket
with socket.create_server(("", 10008)) as listener:
    print("ready", flush=True)
    while True:
        connection, peer = listener.accept()
        with connection:
            connection.sendall(peer[0].encode())
"""
CONNECT = """
import socket, sys
with socket.create_connection((sys.argv[1], 10008), timeout=5) as connection:
    print(connection.recv(99).decode())
"""
# journald's native protocol: a binary field is its name, its length and its bytes.
SEND = """
import socket, struct, sys
fields = [("MESSAGE", sys.stdin.buffer.read()), ("ACKD_TEST", b"one"), ("ACKD_TEST", b"two")]
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
    journal.connect("/run/systemd/journal/socket")
    journal.send(b"".join(
        name.encode() + b"\\n" + struct.pack("<Q", len(value)) + value + b"\\n"
        for name, value in fields
    ))
"""


def connect(machine: Machine, address: str, *, check: bool = True) -> str:
    command = (sys.executable, "-c", CONNECT, address)
    return machine.client.run(*command, check=check).stdout.strip()


class Trace:
    """The marks of a machine: its name, and its namespaces.

    The namespaces stay open for the time of the test. Otherwise the kernel could give their numbers
    to those of another machine, which another test boots meanwhile: proc_alloc_inum() in
    fs/proc/generic.c takes the lowest free number.
    """

    def __init__(self, place: Place) -> None:
        self.name = place.name
        paths = [*Path(f"/proc/{place.init}/ns").iterdir(), Path(place.client_network)]
        self._open = [path.open() for path in paths]
        own = namespaces_of(os.getpid())
        self.namespaces = {os.readlink(path) for path in paths}.difference(own)

    def close(self) -> None:
        for namespace in self._open:
            namespace.close()

    def processes(self) -> list[int]:
        return [
            int(entry.name)
            for entry in Path("/proc").iterdir()
            if entry.name.isdigit() and self.is_in(int(entry.name))
        ]

    def is_in(self, pid: int) -> bool:
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except (FileNotFoundError, ProcessLookupError):
            return False
        return self.name.encode() in command or not self.namespaces.isdisjoint(namespaces_of(pid))

    def cgroups(self) -> list[str]:
        look = 'mount -t cgroup2 cgroup2 /sys/fs/cgroup; find /sys/fs/cgroup -name "$0"'
        command = ["unshare", "--mount", "sh", "-c", look, self.name]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()

    def is_gone(self) -> bool:
        return not self.processes() and not self.cgroups()


class Place(NamedTuple):
    """How another process finds a machine: its name, its init, and its client host's network."""

    name: str
    init: int
    client_network: str

    @classmethod
    def of(cls, machine: Machine) -> Place:
        (enter,) = (part for part in machine.client.prefix if part.startswith("--net="))
        return cls(machine.name, machine.init, enter.removeprefix("--net="))


def host_state() -> list[str]:
    """Return the mounts and network links of this host that a machine could leave behind.

    Other tests may make links with other names.
    """
    mounts = Path("/proc/self/mounts").read_text().splitlines()
    links = os.listdir("/sys/class/net")
    ours = [line for line in mounts if "ackd-tests" in line]
    return sorted(ours) + [link for link in links if link == INTERFACE]


def namespaces_of(pid: int) -> list[str]:
    try:
        return [os.readlink(entry) for entry in Path(f"/proc/{pid}/ns").iterdir()]
    except OSError:  # the process has ended, or is protected and not one of a machine
        return []


def hold_machine(release: Release, tests: Connection) -> None:
    with boot(release) as machine:
        tests.send(Place.of(machine))
        signal.pause()


def test_a_machine_runs_its_release_and_all_units(machine: Machine) -> None:
    systemd, python = {
        Release.BOOKWORM: ("systemd 252 ", "Python 3.11."),
        Release.TRIXIE: ("systemd 257 ", "Python 3.13."),
    }[machine.release]
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"
    assert machine.run("systemctl", "--version").stdout.startswith(systemd)
    assert machine.run("python3", "--version").stdout.startswith(python)
    assert machine.python("import daemon, hypothesis, pytest, systemd, yaml").stderr == ""


def test_the_client_host_reaches_the_machine(machine: Machine) -> None:
    with machine.popen("python3", "-c", SERVE) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        assert connect(machine, MACHINE_ADDRESS) == CLIENT_ADDRESS

        machine.link_down()
        assert connect(machine, MACHINE_ADDRESS, check=False) == ""
        machine.link_up()
        assert connect(machine, MACHINE_ADDRESS) == CLIENT_ADDRESS

        machine.add_address("192.168.150.7")
        assert connect(machine, "192.168.150.7") == CLIENT_ADDRESS


def test_commands_pass_bytes_as_they_are(machine: Machine) -> None:
    text = "a\r\nb\u2028\udcff\x00"
    assert machine.run("cat", input=text).stdout == text
    assert machine.run("cat", input=text.encode(errors="surrogateescape")).stdout == text
    assert machine.client.run("cat", input=text).stdout == text
    assert machine.run("printenv", "ACKD_TEST", env={"ACKD_TEST": "1"}).stdout == "1\n"


def test_the_error_of_a_failed_command_has_its_output(machine: Machine) -> None:
    with pytest.raises(CommandError, match="No such file") as failed:
        machine.run("ls", "/nonexistent")
    assert failed.value.result.returncode == 2
    assert machine.run("ls", "/nonexistent", check=False).returncode == 2
    with pytest.raises(MachineError, match="ackd-nonexistent"):
        machine.pid_of("ackd-nonexistent.service")


def test_a_command_that_takes_too_long_is_killed(machine: Machine) -> None:
    def commands() -> str:
        return machine.run("sh", "-c", "cat /proc/[0-9]*/cmdline").stdout

    with pytest.raises(DeadlineError, match="sleep 4711"):
        machine.run("sleep", "4711", timeout=0.1)
    wait_until("sleep is gone", lambda: "4711" not in commands())


def test_files_are_copied_with_their_modes(machine: Machine, tmp_path: Path) -> None:
    machine.put("/opt/put/a b", b"\xff\r\n", mode=0o750)
    assert machine.run("cat", "/opt/put/a b").stdout == "\udcff\r\n"
    assert machine.run("stat", "--format=%a %U", "/opt/put/a b").stdout == "750 root\n"

    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "script").write_text("#!/bin/sh\necho it runs\n")
    (tmp_path / "sub" / "script").chmod(0o755)
    machine.copy_tree(tmp_path, "/opt/tree")
    assert machine.run("/opt/tree/sub/script").stdout == "it runs\n"


def test_journal_fields_have_the_bytes_that_were_sent(machine: Machine) -> None:
    payload = "red \x1b[31m, NUL \x00, \r\n, \u2028 and ".encode() + b"\xff"
    machine.python(SEND, input=payload)
    machine.python(SEND, input="text\u2028")
    binary, text = machine.journal("ACKD_TEST=one")
    assert binary["MESSAGE"] == payload
    assert text["MESSAGE"] == "text\u2028".encode()
    assert text["_TRANSPORT"] == b"journal"
    assert text.all("ACKD_TEST") == (b"one", b"two")
    assert "CODE_FILE" not in text
    assert text.all("CODE_FILE") == ()


def test_pid_of_a_unit(machine: Machine) -> None:
    pid = machine.pid_of("systemd-journald.service")
    assert machine.run("cat", f"/proc/{pid}/comm").stdout == "systemd-journal\n"


def test_systemd_enforces_ip_address_deny(machine: Machine) -> None:
    send = "import socket; socket.socket(type=socket.SOCK_DGRAM).sendto(b'', ('127.0.0.1', 10008))"
    unit = ("systemd-run", "--quiet", "--pipe", "--wait", "--collect")
    machine.run(*unit, "python3", "-c", send)
    with pytest.raises(CommandError, match="PermissionError"):
        machine.run(*unit, "--property=IPAddressDeny=any", "python3", "-c", send)


def test_an_interrupted_test_leaves_nothing(machine: Machine) -> None:
    before = host_state()
    with ExitStack() as stack:
        with pytest.raises(KeyboardInterrupt), boot(machine.release) as second:  # noqa: PT012
            trace = stack.enter_context(closing(Trace(Place.of(second))))
            second.client.popen("sleep", "4711")
            second.popen("sleep", "4711")
            assert not trace.is_gone()
            raise KeyboardInterrupt
        assert trace.processes() == []
        assert trace.cgroups() == []
    assert host_state() == before
    assert machine.run("systemctl", "is-system-running").stdout == "running\n"


def test_killed_tests_leave_nothing(release: Release) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    tests = context.Process(target=hold_machine, args=(release, theirs), daemon=True)
    tests.start()
    theirs.close()
    with closing(Trace(ours.recv())) as trace:
        assert not trace.is_gone()
        tests.kill()
        tests.join()
        wait_until("the machine is gone", trace.is_gone)


def test_a_boot_that_takes_too_long_fails(release: Release) -> None:
    with pytest.raises(BootError, match="timed out"), boot(release, timeout=0):
        pass
