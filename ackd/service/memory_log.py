"""The log in memory: a file in the service's runtime directory, under /run, which is in memory.

The file outlives ackd however it ends. The descriptors that the service manager stores do not: the
manager discards them at a stop, also at a stop after a crash, when no process is left that could
save its log. Only the service's user and root can reach the directory: RuntimeDirectoryMode= of the
unit. The file goes with the boot: file-hierarchy(7).
"""

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from ackd.log.log import Log
from ackd.log.memory import FIRST_SEGMENTS, MemoryStorage
from ackd.log.storage import LogError
from ackd.service import systemd

_NAME = "log"


class MemoryLog(NamedTuple):
    """The log in memory; `problem` says why an earlier one is of no use, and is empty otherwise.

    `outlives_ackd` is whether the next process finds the log.
    """

    log: Log
    outlives_ackd: bool
    problem: str


def open_log(environ: Mapping[str, str]) -> MemoryLog:
    """Return the log of the process before, or a new one.

    Without a runtime directory, or without room in it, the log ends with this process. Raises
    LogError.
    """
    path, problem = _path(environ), ""
    if not path:
        return MemoryLog(Log(MemoryStorage()), False, "")
    try:
        try:
            log = Log(MemoryStorage(_open(path)))
        except LogError as error:
            problem = f"{path}: {error}"
            remove(environ)
            log = Log(MemoryStorage(_open(path)))
    except OSError as error:
        return MemoryLog(Log(MemoryStorage()), False, f"{path}: {error.strerror or error}")
    return MemoryLog(log, True, problem)


def remove(environ: Mapping[str, str]) -> None:
    """Remove the log, if there is one: it is not needed any more."""
    if path := _path(environ):
        with suppress(OSError):
            os.unlink(path)


def _path(environ: Mapping[str, str]) -> str:
    """Return the path of the log; empty without a runtime directory."""
    directory = systemd.runtime_directory(environ)
    return os.path.join(directory, _NAME) if directory else ""


def _open(path: str) -> int:
    """Return a descriptor of the file, which is empty if it is new. Raises OSError."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    descriptor = os.open(path, flags, 0o600)
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise OSError("it is not a file of ackd's user")
        if not status.st_size:
            os.posix_fallocate(descriptor, 0, FIRST_SEGMENTS)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor
