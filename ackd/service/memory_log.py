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

from ackd.log.log import Log
from ackd.log.memory import FIRST_SEGMENTS, MemoryStorage
from ackd.log.storage import LogError
from ackd.service import systemd

_NAME = "log"


def open_log(environ: Mapping[str, str]) -> tuple[Log, str]:
    """Return the log of the process before, or a new one, and why an earlier one is of no use.

    Without a runtime directory, or without room in it, the log ends with this process. Raises
    LogError.
    """
    path = _path(environ)
    if not path:
        return Log(MemoryStorage()), ""
    try:
        return Log(MemoryStorage(_open(path))), ""
    except OSError as error:
        return Log(MemoryStorage()), f"{path}: {error.strerror or error}"
    except LogError as error:
        remove(environ)
        return Log(MemoryStorage(_open(path))), f"{path}: {error}"


def outlives_ackd(environ: Mapping[str, str]) -> bool:
    """Return whether there is a log that the next process finds."""
    path = _path(environ)
    return bool(path) and os.path.exists(path)


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
