"""A real virtual machine whose power can be cut.

QEMU emulates the processor, so the host's processor need not support virtual machines. The tests
run outside of the machine. They run commands in it through a shell that listens on a port.

    with hardware.power_on(chance) as machine:
        machine.await_greeting(port)
        machine.run("journalctl", "--sync")
        cut = machine.cut_power()
"""

from __future__ import annotations

import contextlib
import fcntl
import random
import shlex
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.support.peer import GREETING
from tests.system.support.base_root import Release, cache_directory, locked
from tests.system.support.machine import BootError, CommandError, MachineError, wait_until

from .disk import PowerCut, VirtualDisk
from .initramfs import Kernel
from .nbd import DiskServer

LOOPBACK = "127.0.0.1"
SHELL_PORT = 10099  # in the machine; image.py installs the shell
_DIES_WITH_PARENT = ("setpriv", "--pdeathsig", "KILL", "--")
_QEMU = (
    *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-nographic", "-no-reboot"),
    # With two processors, the emulated kernel sometimes runs into an instruction that it replaces.
    *("-accel", "tcg", "-smp", "1", "-m", "1024", "-serial", "stdio"),
    *("-append", "console=ttyS0 quiet panic=-1 mitigations=off"),
)
_SLOW = ",throttling.iops-write=60,throttling.bps-write=4000000"


@dataclass(frozen=True)
class Hardware:
    """A machine without power, and what is on its disk.

    `ports` are the ports of the machine to which clients on this host can connect.
    """

    release: Release
    kernel: Kernel
    image: Path
    ports: tuple[int, ...]

    @contextlib.contextmanager
    def power_on(
        self, chance: random.Random, *, block_size: int = 4096, slow: bool = False
    ) -> Iterator[VirtualMachine]:
        """Switch the machine on, and yield it before it has booted; at the end cut its power.

        The disk is a `VirtualDisk`; a slow one writes 60 times and 4 MB a second at most. Only one
        machine of all runs of the tests has power at a time: the others wait.
        """
        console = self.image.with_suffix(".console")
        with contextlib.ExitStack() as at_end:
            at_end.enter_context(locked(cache_directory() / ".power.lock", fcntl.LOCK_EX))
            disk = VirtualDisk(self.image, chance, block_size)
            at_end.callback(disk.close)
            ours, theirs = socket.socketpair()
            ports = {port: _free_port() for port in (*self.ports, SHELL_PORT)}
            with theirs:
                qemu = self._start(console, theirs.fileno(), ports, slow)
            server = DiskServer(disk, ours)
            machine = VirtualMachine(self.release, console, ports, disk, server, qemu)
            at_end.callback(machine.cut_power)
            yield machine

    def _start(
        self, console: Path, disk: int, ports: dict[int, int], slow: bool
    ) -> subprocess.Popen[bytes]:
        """Start QEMU with its console, the descriptor of its disk, and ways to its ports."""
        drive = f"driver=nbd,server.type=fd,server.str={disk},if=virtio,cache=writeback"
        ways = (f"hostfwd=tcp:{LOOPBACK}:{port}-:{inside}" for inside, port in ports.items())
        command = (
            *(*_DIES_WITH_PARENT, *_QEMU),
            *("-kernel", str(self.kernel.image), "-initrd", str(self.kernel.initramfs)),
            *("-drive", drive + _SLOW if slow else drive),
            *("-netdev", ",".join(("user,id=network,restrict=on", *ways))),
            *("-device", "virtio-net-pci,netdev=network,romfile="),
        )
        with console.open("wb") as output:
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=(disk,),
                start_new_session=True,  # Ctrl-C in a terminal must reach only the tests
            )


def _free_port() -> int:
    with socket.create_server((LOOPBACK, 0)) as server:
        port: int = server.getsockname()[1]
        return port


class VirtualMachine:
    """A virtual machine with its power on; made by `Hardware.power_on`.

    `ports` are the ports on this host that lead to ports of the machine.
    """

    def __init__(
        self,
        release: Release,
        console: Path,
        ports: dict[int, int],
        disk: VirtualDisk,
        server: DiskServer,
        qemu: subprocess.Popen[bytes],
    ) -> None:
        self.release = release
        self.ports = ports
        self._console = console
        self._disk = disk
        self._server = server
        self._qemu = qemu

    @property
    def title(self) -> str:
        """The name of the system in tables of results."""
        return f"{self.release.value}, virtual"

    def await_greeting(self, port: int, timeout: float = 240) -> None:
        """Wait until ackd accepts a client at this port of the machine.

        Raises `BootError` if the machine ends first, and `DeadlineError`.
        """

        def greets() -> bool:
            self._check_power()
            with contextlib.suppress(OSError), self._connect(port, 10) as client:
                return client.recv(100) == GREETING
            return False

        wait_until(f"ackd greets at port {port}", greets, timeout)

    def run(
        self, *argv: str, check: bool = True, timeout: float = 240
    ) -> subprocess.CompletedProcess[str]:
        """Run a command as root, without input.

        Raises `CommandError` if `check` is set and the command fails, and `MachineError` if the
        machine ends first.
        """
        answer = self._execute(shlex.join(argv), timeout).rsplit(b"\0", 2)
        if len(answer) < 3:
            raise MachineError(f"`{shlex.join(argv)}` did not end\n{self._console_text()}")
        out, err, status = (part.decode(errors="surrogateescape") for part in answer)
        done = subprocess.CompletedProcess(argv, int(status), out, err)
        if check and done.returncode != 0:
            raise CommandError(done)
        return done

    def cut_power_at_write(
        self, is_last: Callable[[bytes], bool], share: float | None = None
    ) -> PowerCut:
        """Cut the power at a write for whose data `is_last` returns true, before any flush.

        Without such a write, cut the power after 15 seconds.
        """
        self._server.stop_at(is_last)
        self._server.await_stop(timeout=15)
        return self.cut_power(share)

    def cut_power(self, share: float | None = None) -> PowerCut:
        """Cut the power. Of what the disk has not flushed, it keeps a share: see `VirtualDisk`."""
        self._qemu.kill()
        self._qemu.wait()
        self._server.join()
        return self._disk.cut_power(share)

    def _execute(self, command: str, timeout: float = 10) -> bytes:
        """Return a shell command's output, its errors and its exit status, with NUL between."""
        run = f"errors=$(mktemp); {command} </dev/null 2>$errors; status=$?"
        answer = "printf '\\0'; cat $errors; printf '\\0%d' $status; rm $errors; exit"
        with self._connect(SHELL_PORT, timeout) as shell, shell.makefile("rb") as output:
            shell.sendall(f"{run}; {answer}\n".encode())
            return output.read()

    def _connect(self, port: int, timeout: float) -> socket.socket:
        return socket.create_connection((LOOPBACK, self.ports[port]), timeout)

    def _check_power(self) -> None:
        if self._qemu.poll() is not None:
            raise BootError(f"QEMU ended with {self._qemu.returncode}\n{self._console_text()}")

    def _console_text(self) -> str:
        return self._console.read_text(errors="replace")[-4000:]
