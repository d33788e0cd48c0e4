"""A directory on a disk, and files in it."""

import errno
import fcntl
import os
from contextlib import suppress
from typing import Protocol

from ackd.log.storage import LogError

# File systems that keep their files in memory. statvfs(3) does not name the type.
_IN_MEMORY = (b"tmpfs", b"ramfs")
_OPTIONS = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
_CHUNK = bytes(256 * 1024)


def memory_file_system(path: str) -> str:
    """Return the type of a path's file system if it keeps its files in memory; empty otherwise.

    Without /proc that is unknown, and the text is empty as well. Raises OSError for the path.
    """
    device = os.stat(path).st_dev
    number = b"%d:%d" % (os.major(device), os.minor(device))
    with suppress(OSError), open("/proc/self/mountinfo", "rb") as mounts:
        for line in mounts:  # the third field is the device; the type follows a dash: proc(5)
            mount, _, source = line.partition(b" - ")
            kind = source.partition(b" ")[0]
            if kind in _IN_MEMORY and mount.split(b" ")[2] == number:
                return kind.decode()
    return ""


class File(Protocol):
    """An open file. All methods raise OSError."""

    def read(self, size: int, start: int, /) -> bytes:
        """Return at most `size` bytes from byte `start` on; fewer at the end of the file."""

    def write(self, data: bytes | memoryview, start: int, /) -> None:
        """Write all the data at byte `start`."""

    def fill(self, size: int, /) -> None:
        """Make a new file `size` zeros long."""

    def sync(self) -> None:
        """Wait until the disk has stored what was written."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the file."""


class Disk(Protocol):
    """A directory that no other ackd uses. All methods raise OSError."""

    place: str

    def names(self) -> list[str]:
        """Return the names of the files."""

    def open(self, name: str, create: bool = False) -> File:
        """Open a file, to read and write; if `create`, a file that may be new."""

    def remove(self, name: str) -> None:
        """Remove a file."""

    def sync(self) -> None:
        """Wait until the disk has stored which files there are."""

    def fileno(self) -> int:
        """Return the descriptor that holds the lock."""

    def close(self) -> None:
        """Let other processes use the directory."""


class Directory:
    """A directory of the file system, locked while it is open: flock(2)."""

    def __init__(self, path: str) -> None:
        """Open and lock the directory. Raises LogError."""
        self.place = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise LogError(path, f"{error.strerror}", error.errno) from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            os.close(self._descriptor)
            used = error.errno == errno.EWOULDBLOCK
            problem = "another ackd uses this directory" if used else f"{error.strerror}"
            raise LogError(path, problem, error.errno) from error

    def names(self) -> list[str]:
        """Return the names of the files."""
        return os.listdir(self._descriptor)

    def open(self, name: str, create: bool = False) -> "OpenFile":
        """Open a file, to read and write; if `create`, a file that may be new."""
        options = _OPTIONS | os.O_CREAT if create else _OPTIONS
        return OpenFile(os.open(name, options, 0o600, dir_fd=self._descriptor))

    def remove(self, name: str) -> None:
        """Remove a file."""
        os.unlink(name, dir_fd=self._descriptor)

    def sync(self) -> None:
        """Wait until the disk has stored which files there are."""
        os.fsync(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._descriptor

    def close(self) -> None:
        """Let other processes use the directory."""
        os.close(self._descriptor)


class OpenFile:
    """A file of the file system."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, size: int, start: int) -> bytes:
        """Return at most `size` bytes from byte `start` on; fewer at the end of the file."""
        data = b""
        while more := os.pread(self._descriptor, size - len(data), start + len(data)):
            data += more
        return data

    def write(self, data: bytes | memoryview, start: int) -> None:
        """Write all the data at byte `start`. A full disk can take a part of it first."""
        view = memoryview(data)
        while view:
            written = os.pwrite(self._descriptor, view, start)
            view, start = view[written:], start + written

    def fill(self, size: int) -> None:
        """Make a new file `size` zeros long.

        posix_fallocate(3) reserves the blocks, or fails at once if the disk has too few. But their
        first write would still change the file's metadata, and make a commit slow: the zeros are
        written.
        """
        os.posix_fallocate(self._descriptor, 0, size)
        for start in range(0, size, len(_CHUNK)):
            self.write(_CHUNK[: size - start], start)

    def sync(self) -> None:
        """Wait until the disk has stored what was written."""
        os.fdatasync(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._descriptor

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)
