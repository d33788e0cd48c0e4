"""A disk with a kernel's cache before it, which power cuts, crashes and errors hit at any time.

The disk keeps what was synced. Of everything else a power cut leaves any part: each block that was
written has its old content or one of those that were written since. The same holds for the size
of a file, and for each name that was made or removed. After a failed sync the kernel still shows
what was written, but no later sync writes it: Rebello et al., Can Applications Recover from fsync
Failures?, https://www.usenix.org/conference/atc20/presentation/rebello
"""

import errno
import os
from collections import deque
from collections.abc import Callable
from random import Random


class PowerCutError(BaseException):
    """The power is gone, or the process is killed, in the middle of an operation.

    No `except Exception` of ackd goes on after it.
    """


class Inode:
    """A file, whether or not it has a name."""

    def __init__(self, block: int) -> None:
        self.shown = bytearray()  # what the kernel shows
        self.stored = bytearray()  # what the disk has
        self.versions: dict[int, list[bytes]] = {}  # of the blocks that are not synced
        self._block = block

    def write(self, data: bytes | memoryview, start: int) -> None:
        if not len(data):
            return
        end = start + len(data)
        self.shown.extend(bytes(max(0, end - len(self.shown))))
        self.shown[start:end] = data
        for number in range(start // self._block, (end - 1) // self._block + 1):
            place = slice(number * self._block, (number + 1) * self._block)
            self.versions.setdefault(number, []).append(bytes(self.shown[place]))

    def sync(self) -> None:
        self.stored, self.versions = bytearray(self.shown), {}

    def store_some(self, random: Random) -> None:
        """Store any part of what is not synced, and forget the rest."""
        sizes = [len(self.stored), len(self.shown)]
        for number, versions in self.versions.items():
            version = random.choice([b"", *versions])
            start = number * self._block
            self.stored.extend(bytes(max(0, start + len(version) - len(self.stored))))
            self.stored[start : start + len(version)] = version
        size = random.choice(sizes)
        self.stored = self.stored[:size].ljust(size, b"\0")
        self.versions = {}


class SimulatedDisk:
    """A directory on such a disk. `space` is how many bytes its files may have together.

    `errors` has the numbers of operations, counted from now, that fail with an error; `end` is the
    number of the one in which the power is cut or the process killed. `failures` counts the
    operations that have failed.
    """

    place = "the disk"

    def __init__(self, random: Random, block: int) -> None:
        self.random = random
        self.space = 1 << 40
        self.failing: dict[int, int] = {}
        self.end: int | None = None
        self.failures = 0
        self.block = block
        self._names: dict[str, Inode] = {}
        self._stored_names: dict[str, Inode] = {}

    # What ackd.log.disk.Disk has

    def names(self) -> list[str]:
        return list(self._names)

    def open(self, name: str, create: bool = False) -> "SimulatedFile":
        self.operation()
        if create:
            self._names.setdefault(name, Inode(self.block))
        self._check(name)
        return SimulatedFile(self, self._names[name])

    def remove(self, name: str) -> None:
        self.operation()
        self._check(name)
        del self._names[name]

    def sync(self) -> None:
        self.operation()
        self._stored_names = dict(self._names)

    def fileno(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass

    # What happens to it

    def operation(self) -> None:
        """Count an operation; raise its error, if it has one."""
        if self.end is not None:
            self.end -= 1
            if self.end < 0:
                raise PowerCutError
        self.failing = {number - 1: error for number, error in self.failing.items() if number >= 0}
        if -1 in self.failing:
            self.failures += 1
            raise OSError(self.failing[-1], os.strerror(self.failing[-1]))

    def _check(self, name: str) -> None:
        if name not in self._names:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))

    def used(self) -> int:
        return sum(len(inode.shown) for inode in self._names.values())

    def kill_process(self) -> None:
        """All that the kernel shows stays."""
        self.end, self.failing = None, {}

    def cut_power(self) -> None:
        self.end, self.failing = None, {}
        for file in dict.fromkeys([*self._names.values(), *self._stored_names.values()]):
            file.store_some(self.random)
            file.shown = bytearray(file.stored)
        for name in dict.fromkeys([*self._names, *self._stored_names]):
            inode = self.random.choice([self._names, self._stored_names]).get(name)
            self._stored_names.pop(name, None)
            if inode:
                self._stored_names[name] = inode
        self._names = dict(self._stored_names)


class SimulatedFile:
    """An open file of the simulated disk."""

    def __init__(self, disk: SimulatedDisk, inode: Inode) -> None:
        self._disk = disk
        self._inode = inode

    def read(self, size: int, start: int) -> bytes:
        self._disk.operation()
        return bytes(self._inode.shown[start : start + size])

    def write(self, data: bytes | memoryview, start: int) -> None:
        try:
            self._disk.operation()
        except (OSError, PowerCutError):
            # Any number of whole blocks has been written before.
            end = self._disk.random.randint(start, start + len(data) + self._disk.block)
            self._inode.write(data[: max(0, end - end % self._disk.block - start)], start)
            raise
        # What the file has already needs no more space.
        free = max(0, self._disk.space - self._disk.used())
        room = free + len(self._inode.shown) - start
        self._inode.write(data[: max(0, room)], start)
        if room < len(data):
            self._disk.failures += 1
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def fill(self, size: int) -> None:
        self.write(bytes(size), 0)

    def sync(self) -> None:
        try:
            self._disk.operation()
        except OSError:
            self._inode.store_some(self._disk.random)
            raise
        self._inode.sync()

    def fileno(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        pass


class SimulatedWorker:
    """Does a job when the schedule says so; see ackd.log.worker.Worker."""

    def __init__(self) -> None:
        self.jobs: deque[Callable[[], None]] = deque()
        self.reported = False

    def start(self) -> None:
        pass

    def do(self, job: Callable[[], None]) -> None:
        self.jobs.append(job)

    def work(self) -> None:
        self.jobs.popleft()()

    def report(self) -> None:
        self.reported = True

    def fileno(self) -> int:
        raise NotImplementedError

    def acknowledge(self) -> None:
        self.reported = False

    def work_off(self) -> None:
        while self.jobs:
            self.work()

    def stop(self, _seconds: float) -> bool:
        self.work_off()
        return True
