"""Boots real Debian systems for the tests, each with a client host on its network.

A `Machine` is a systemd-nspawn container over a copy-on-write view of a base system. Its root, its
mounts, its processes and both ends of its network are in separate namespaces. So this host does
not change, and nothing stays behind after a failed test, after Ctrl-C, or when the tests are
killed.

    with boot(Release.TRIXIE) as machine:
        machine.run("systemctl", "start", "ackd")
        machine.client.run("nc", "-N", MACHINE_ADDRESS, "10008", input="hello\n")
        entry = machine.journal("-u", "ackd")[-1]
        assert entry["MESSAGE"] == b"hello"
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, TypeVar

from .base_root import Release, base_root

MACHINE_ADDRESS = "192.168.150.1"
CLIENT_ADDRESS = "192.168.150.2"
DISK = "/disk"
# A setting of a unit that ends with the machine.
DROPIN = "/run/systemd/system/{}.d/{}.conf"
INTERFACE = "lan0"  # in the machine and on the client host: their network namespaces differ

_TOOLS = ("mmdebstrap", "systemd-nspawn", "ip", "unshare", "nsenter", "setpriv")
_SUPERVISOR = Path(__file__).with_name("run_machine.sh")
_UNSHARED = ("unshare", "--mount", "--net", "--")
_DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LANG": "C.UTF-8",
}

T = TypeVar("T")


class MachineError(Exception):
    """An operation of the machine failed; the text has the reason."""


class BootError(MachineError):
    """The system did not start all units; the text has the failed units or the console."""


class DeadlineError(MachineError):
    """Something did not happen in time."""


class CommandError(MachineError):
    """A command ended with a status other than 0; `result` has its output."""

    def __init__(self, result: subprocess.CompletedProcess[str]) -> None:
        self.result = result
        super().__init__(
            f"`{shlex.join(result.args)}` ended with {result.returncode}\n"
            f"stdout: {result.stdout}\nstderr: {result.stderr}"
        )


def wait_until(description: str, predicate: Callable[[], T | None], timeout: float = 60.0) -> T:
    """Call `predicate` until it returns a true value, and return that value.

    Raises `DeadlineError` after `timeout` seconds. Polls, since a machine sends no events to its
    outside.
    """
    deadline = time.monotonic() + timeout
    while not (value := predicate()):
        if time.monotonic() > deadline:
            raise DeadlineError(f"timed out after {timeout:g} s; expected: {description}")
        time.sleep(0.02)
    return value


@dataclass(frozen=True)
class JournalEntry:
    """One entry of the journal; the values of its fields are bytes."""

    fields: Mapping[str, tuple[bytes, ...]]

    def __getitem__(self, name: str) -> bytes:
        """Return the only value of a field; `KeyError` for no value, `ValueError` for several."""
        (value,) = self.fields[name]
        return value

    def __contains__(self, name: str) -> bool:
        return name in self.fields

    def all(self, name: str) -> tuple[bytes, ...]:
        """Return all values of a field, in journald's order; empty if there is none."""
        return self.fields.get(name, ())


class Process(subprocess.Popen[bytes]):
    """A started command. The end of its `with` block kills it, so a failed test does not wait."""

    @property
    def command(self) -> int:
        """The command's PID on this host; `pid` may be the PID of nsenter, its parent."""
        forked = _executable(self.pid).endswith("/nsenter")
        return next(descendants(self.pid), self.pid) if forked else self.pid

    def send_signal(self, sig: int) -> None:
        """Send a signal to the command unless it has ended; nsenter ends after its child."""
        if self.poll() is not None:
            return
        command = self.command
        with contextlib.suppress(ProcessLookupError):
            os.kill(command, sig)
        if command != self.pid:  # nsenter stops itself when its child is stopped
            os.kill(self.pid, signal.SIGCONT)

    def __exit__(self, *exception: Any) -> None:
        self.kill()
        with contextlib.suppress(BrokenPipeError):  # the command did not read all of its input
            super().__exit__(*exception)


@dataclass(frozen=True, kw_only=True)
class Host:
    """A host on the tests' network: the prefix of a command there, and its environment."""

    prefix: tuple[str, ...] = field(repr=False)
    environment: Mapping[str, str] = field(repr=False)  # not in pytest's report of a failure
    started: list[Process] = field(default_factory=list, repr=False)

    def run(
        self,
        *argv: str,
        input: str | bytes = b"",  # noqa: A002 - subprocess.run calls it so
        check: bool = True,
        timeout: float = 180.0,
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end; `env` is added to the host's environment.

        Bytes that are not UTF-8 become surrogate escapes, and surrogate escapes become bytes. Line
        ends stay unchanged. Raises `CommandError` if `check` is set and the command fails. Kills a
        command that runs longer than `timeout` seconds, and raises `DeadlineError`.
        """
        data = input if isinstance(input, bytes) else input.encode(errors="surrogateescape")
        pipe = subprocess.PIPE
        with self.popen(*argv, stdin=pipe, stderr=pipe, env=env) as process:
            try:
                output = process.communicate(data, timeout)
            except subprocess.TimeoutExpired:
                raise DeadlineError(f"`{shlex.join(argv)}` took over {timeout:g} s") from None
        out, err = (stream.decode(errors="surrogateescape") for stream in output)
        result = subprocess.CompletedProcess(argv, process.returncode, out, err)
        if check and result.returncode != 0:
            raise CommandError(result)
        return result

    def popen(
        self,
        *argv: str,
        stdin: int | IO[bytes] = subprocess.DEVNULL,
        stdout: int | IO[bytes] = subprocess.PIPE,
        stderr: int | IO[bytes] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Process:
        """Start a command; if it still runs at the machine's end, it is killed.

        A command on the client host is also killed when the thread that started it ends.
        """
        environment = {**self.environment, **(env or {})}
        command = [*self.prefix, *argv]
        process = Process(command, stdin=stdin, stdout=stdout, stderr=stderr, env=environment)
        self.started.append(process)
        return process


@dataclass(frozen=True, kw_only=True)
class Machine(Host):
    """A booted Debian system, and a client host on the same network; made by `boot`.

    Commands in the machine run as root, outside of all units, with a minimal environment. Commands
    on `client` are this host's programs, with the environment of the tests. `init` is the PID, on
    this host, of the machine's PID 1.
    """

    release: Release
    name: str
    init: int
    client: Host

    @property
    def title(self) -> str:
        """The name of the system in tables of results."""
        return self.release.value

    def python(
        self,
        code: str,
        *argv: str,
        input: str | bytes = b"",  # noqa: A002
        check: bool = True,
        timeout: float = 180.0,
    ) -> subprocess.CompletedProcess[str]:
        """Run code with the machine's Python; otherwise like `run`."""
        return self.run("python3", "-c", code, *argv, input=input, check=check, timeout=timeout)

    def put(self, path: str, content: str | bytes, mode: int = 0o644) -> None:
        """Write a file that root owns, and create the directories above it."""
        self.run("install", "-D", f"--mode={mode:o}", "/dev/stdin", path, input=content)

    def copy_tree(self, source: Path, target: str) -> None:
        """Copy the files of a directory on this host to one in the machine, owned by root."""
        pack = ("tar", "--create", "--owner=0", "--group=0", "--exclude=__pycache__")
        archive = subprocess.run(
            [*pack, f"--directory={source}", "."], stdout=subprocess.PIPE, check=True
        )
        self.run("mkdir", "--parents", target)
        self.run("tar", "--extract", f"--directory={target}", input=archive.stdout)

    def journal(self, *matches: str) -> list[JournalEntry]:
        """Return the entries, oldest first; journald has read all that was sent before the call.

        `matches` are arguments of journalctl: `FIELD=value`, `-u`, `ackd`, `-n`, `10`.
        """
        self.run("journalctl", "--sync")
        output = self.run("journalctl", "--quiet", "--all", "--output=json", *matches).stdout
        # splitlines() would also split at U+2028, which journalctl does not escape.
        return [_entry(line) for line in output.split("\n") if line]

    def pid_of(self, unit: str) -> int:
        """Return the PID, inside the machine, of a unit's main process."""
        pid = int(self.run("systemctl", "show", "--property=MainPID", "--value", unit).stdout)
        if pid == 0:
            status = self.run("systemctl", "status", unit, check=False).stdout
            raise MachineError(f"{unit} has no main process\n{status}")
        return pid

    def save_disk(self, image: Path, size: str) -> None:
        """Write the machine's files to an image of an ext4 file system of this size, sparse.

        The machine may run on; what its processes have not written to files is not in the image.
        """
        subprocess.run(["truncate", f"--size={size}", image], check=True)
        make = ("mkfs.ext4", "-q", "-F", "-d", "/run/root", str(image))
        subprocess.run([*self._supervisors_view(), *make], check=True, capture_output=True)

    def _supervisors_view(self) -> tuple[str, ...]:
        """Return the prefix of a command on this host that sees the mounts of run_machine.sh."""
        supervisor = Path(f"/proc/{self.init}/stat").read_text().rpartition(")")[2].split()[1]
        return ("nsenter", f"--mount=/proc/{supervisor}/ns/mnt", "--wd=/", "--")

    def freeze(self) -> None:
        """Stop all processes of the machine; its kernel still answers for their sockets."""
        self._set_frozen(1)

    def thaw(self) -> None:
        """Let all processes run on."""
        self._set_frozen(0)

    def _set_frozen(self, frozen: int) -> None:
        group = f"/sys/fs/cgroup/{self.name}"
        write = f"echo {frozen} >{group}/cgroup.freeze"
        subprocess.run([*self._supervisors_view(), "sh", "-c", write], check=True)

        def done() -> bool:
            events = [*self._supervisors_view(), "cat", f"{group}/cgroup.events"]
            return f"frozen {frozen}" in subprocess.check_output(events, text=True)

        wait_until("all processes have stopped, or run", done)

    def link_down(self) -> None:
        """Set the client host's interface down: the machine loses the carrier, not its address."""
        self.client.run("ip", "link", "set", INTERFACE, "down")

    def link_up(self) -> None:
        """Set both interfaces up, and wait until both have a carrier."""
        for host in (self, self.client):
            host.run("ip", "link", "set", INTERFACE, "up")
        wait_until("the link is up", self._has_carrier)

    def add_address(self, address: str) -> None:
        """Add an IPv4 address of the client host's network to the machine."""
        _add_address(self, address)

    def _has_carrier(self) -> bool:
        return "LOWER_UP" in self.run("ip", "link", "show", INTERFACE).stdout


@contextlib.contextmanager
def boot(
    release: Release,
    timeout: float = 180.0,
    tools: tuple[str, ...] = (),
    disk: Path | None = None,
    files: Path | None = None,
    start_network: Callable[[Machine], None] | None = None,
) -> Iterator[Machine]:
    """Yield a booted system; at the end of the block, kill it and all commands.

    `tools` are packages in addition to those of every base system. `disk` is a directory of this
    host that is `DISK` in the machine, whose other files are in memory, or in the directory `files`
    of this host, where the next boot finds them. `start_network` takes the place of the network
    with the client host; it is called while units start. Raises `BootError` if not
    all units run after `timeout` seconds, `BuildError` if there is no base system, and
    `MachineError` if a tool is missing on this host.
    """
    for tool in _TOOLS:
        if shutil.which(tool) is None:
            raise MachineError(f"{tool} is not installed; `make test` installs it")
    with base_root(release, tools) as base, tempfile.TemporaryFile() as console:
        name = f"ackd-{release.value}-{secrets.token_hex(4)}"
        with _supervisor(base, name, disk, files, console) as supervisor:
            try:
                machine = _await_machine(release, name, supervisor, timeout)
                (start_network or _start_network)(machine)
                _await_running(machine, timeout)
            except MachineError as error:
                raise BootError(f"{error}\nconsole of {name}:\n{_tail(console)}") from error
            try:
                yield machine
            finally:
                for process in (*machine.started, *machine.client.started):
                    with process:
                        pass


@contextlib.contextmanager
def _supervisor(
    base: Path, name: str, disk: Path | None, files: Path | None, console: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """Run run_machine.sh; at the end, close its standard input and wait until it has cleaned up."""
    supervisor = subprocess.Popen(
        [*_UNSHARED, "sh", _SUPERVISOR, base, name, disk or "", files or ""],
        stdin=subprocess.PIPE,
        stdout=console,
        stderr=console,
        start_new_session=True,  # Ctrl-C in a terminal must reach only the tests
    )
    try:
        yield supervisor
    finally:
        supervisor.communicate(timeout=60)


def _await_machine(
    release: Release, name: str, supervisor: subprocess.Popen[bytes], timeout: float
) -> Machine:
    init = wait_until("the machine has an init", lambda: _find_init(supervisor), timeout)
    return Machine(
        # --root: if the tests run in a chroot, the mount namespace's root is not the machine's.
        prefix=("nsenter", f"--target={init}", "--all", "--root", "--wd", "--"),
        environment=ENVIRONMENT,
        release=release,
        name=name,
        init=init,
        client=Host(
            # These commands are in this host's PID namespace: the machine's end does not end them.
            prefix=(*_DIES_WITH_PARENT, "nsenter", f"--net=/proc/{supervisor.pid}/ns/net", "--"),
            environment=dict(os.environ),
        ),
    )


def _find_init(supervisor: subprocess.Popen[bytes]) -> int | None:
    if supervisor.poll() is not None:
        raise MachineError(f"run_machine.sh ended with {supervisor.returncode}")
    for pid in descendants(supervisor.pid):
        if _executable(pid).endswith("/lib/systemd/systemd"):
            return pid
    return None


def descendants(pid: int) -> Iterator[int]:
    """Yield the PIDs of a process's descendants, parents first."""
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
            yield int(child)
            yield from descendants(int(child))


def _executable(pid: int) -> str:
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except (FileNotFoundError, ProcessLookupError):  # the process has ended
        return ""


def _await_running(machine: Machine, timeout: float) -> None:
    def state() -> str:
        ask = ("systemctl", "is-system-running", "--wait")
        answer = machine.run(*ask, check=False, timeout=timeout).stdout.strip()
        # Before /run/systemd/system exists the answer is "offline"; before D-Bus runs it is "".
        return answer if answer != "offline" else ""

    reached = wait_until("systemd has started its units", state, timeout)
    if reached != "running":
        failed = machine.run("systemctl", "list-units", "--failed", "--plain").stdout
        raise MachineError(f"systemd is {reached}, not running\n{failed}")


def _start_network(machine: Machine) -> None:
    peer = ("peer", "name", INTERFACE, "netns", str(machine.init))
    machine.client.run("ip", "link", "add", INTERFACE, "type", "veth", *peer)
    _add_address(machine, MACHINE_ADDRESS)
    _add_address(machine.client, CLIENT_ADDRESS)
    machine.link_up()


def _add_address(host: Host, address: str) -> None:
    host.run("ip", "address", "add", f"{address}/24", "dev", INTERFACE)


def _tail(console: IO[bytes]) -> str:
    console.seek(0)
    return console.read().decode(errors="replace")[-4000:]


def _entry(line: str) -> JournalEntry:
    fields: dict[str, object] = json.loads(line)
    return JournalEntry({name: _values(value) for name, value in fields.items()})


def _values(value: object) -> tuple[bytes, ...]:
    """Decode a value in journalctl's JSON: a string, a list of bytes, or a list of values."""
    if isinstance(value, str):
        return (value.encode(),)
    if not isinstance(value, list):
        raise MachineError(f"journalctl printed {value!r} as the value of a field")
    if all(isinstance(item, int) for item in value):
        return (bytes(value),)
    return tuple(part for item in value for part in _values(item))


def succeed(machine: Machine, *command: str) -> None:
    """Repeat a systemctl command that may fail, until it succeeds."""

    def run() -> bool:
        return machine.run("systemctl", *command, check=False, timeout=120).returncode == 0

    wait_until(f"systemctl {' '.join(command)} succeeds", run, 120)


@contextlib.contextmanager
def unit_setting(machine: Machine, unit: str, text: str) -> Iterator[None]:
    """Add settings to a unit for the time of the block."""
    path = DROPIN.format(unit, f"setting-{secrets.token_hex(4)}")
    machine.put(path, text)
    machine.run("systemctl", "daemon-reload")
    yield
    machine.run("rm", path)
    machine.run("systemctl", "daemon-reload")
