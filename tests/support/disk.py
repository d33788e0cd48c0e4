"""A disk for tests, on which a test decides when fdatasync(2) returns, and whether it fails.

A preloaded library, disk.c, does that in an ackd that is started with `Disk.command`.
"""

import fcntl
import os
import select
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.support.daemon_process import COMMAND
from tests.support.journal_socket import DEADLINE

SOURCE = Path(__file__).with_suffix(".c")
needs_compiler = pytest.mark.skipif(
    shutil.which("gcc") is None, reason="needs gcc: apt-get install gcc libc6-dev"
)

# A directory in memory.
MEMORY = Path("/dev/shm")


def _is_in_memory(directory: Path) -> bool:
    mounts = Path("/proc/mounts")
    return mounts.exists() and f" {directory} tmpfs " in mounts.read_text()


needs_memory_file_system = pytest.mark.skipif(
    not (_is_in_memory(MEMORY) and os.access(MEMORY, os.W_OK)), reason=f"needs a tmpfs at {MEMORY}"
)


class Disk:
    """Controls fdatasync(2) in processes that are started with `command`."""

    def __init__(self, directory: Path) -> None:
        """Compile the library; needs gcc, and raises CalledProcessError."""
        library, gate, calls = (directory / name for name in ("disk.so", "gate", "calls"))
        subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, SOURCE], check=True)
        gate.touch()
        os.mkfifo(calls)
        # Both directions, so that ackd never waits for a reader, fifo(7).
        self._calls = os.open(calls, os.O_RDWR | os.O_NONBLOCK)
        self._gate = os.open(gate, os.O_RDWR)
        variables = {"LD_PRELOAD": library, "DISK_GATE": gate, "DISK_CALLS": calls}
        self.command = ("env", *(f"{name}={value}" for name, value in variables.items()), *COMMAND)

    def hold(self) -> None:
        """Let fdatasync not return until `let_go`, and forget earlier calls."""
        fcntl.flock(self._gate, fcntl.LOCK_EX)
        while select.select([self._calls], [], [], 0)[0]:
            os.read(self._calls, 65536)

    def await_call(self) -> None:
        """Wait until fdatasync is called."""
        assert select.select([self._calls], [], [], DEADLINE)[0], "no fdatasync"
        os.read(self._calls, 1)

    def let_go(self) -> None:
        """Let fdatasync return."""
        fcntl.flock(self._gate, fcntl.LOCK_UN)

    def fail(self, error: int) -> None:
        """Let each fdatasync fail with this errno; 0 stands for none."""
        os.ftruncate(self._gate, 0)
        os.pwrite(self._gate, b"%d" % error if error else b"", 0)

    def close(self) -> None:
        """Close the descriptors; a held fdatasync returns."""
        os.close(self._calls)
        os.close(self._gate)
