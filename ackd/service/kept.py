"""The log of a stopped ackd, kept in the runtime directory until the next start.

At a stop the service manager discards the descriptors that it has stored. So ackd leaves a copy of
its log there if journald may not have stored all of it. Only the service's user and root can reach
the directory: RuntimeDirectoryMode= of the unit.
"""

import errno
import os
import stat
from collections.abc import Mapping
from contextlib import suppress

from ackd.service import systemd

_NAME = "log"
_CHUNK = 256 * 1024
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW


def keep(descriptor: int, environ: Mapping[str, str]) -> None:
    """Keep a copy of the log; raises OSError, also if there is no runtime directory."""
    path = _path(environ)
    unfinished = f"{path}.new"
    copy = os.open(unfinished, _FLAGS | os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        _copy(descriptor, copy)
        os.rename(unfinished, path)
    except OSError:
        os.unlink(unfinished)
        raise
    finally:
        os.close(copy)


def load(environ: Mapping[str, str]) -> int | None:
    """Return a copy of the kept log in memory; None if there is none. Raises OSError."""
    try:
        kept = os.open(_path(environ), _FLAGS | os.O_RDONLY | os.O_NONBLOCK)
    except FileNotFoundError:
        return None
    try:
        status = os.fstat(kept)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            return None
        memory = os.memfd_create("ackd-log")
        _copy(kept, memory)
        return memory
    finally:
        os.close(kept)


def is_there(environ: Mapping[str, str]) -> bool:
    """Return whether a log is kept."""
    return bool(systemd.runtime_directory(environ)) and os.path.lexists(_path(environ))


def remove(environ: Mapping[str, str]) -> None:
    """Remove the kept log, if there is one: the next process finds the log in the store."""
    with suppress(OSError):
        os.unlink(_path(environ))


def _path(environ: Mapping[str, str]) -> str:
    directory = systemd.runtime_directory(environ)
    if not directory:
        raise FileNotFoundError("there is no runtime directory")
    return os.path.join(directory, _NAME)


def _copy(source: int, target: int) -> None:
    """Copy a file, but for its holes: most of the log is never touched. Raises OSError."""
    size = os.fstat(source).st_size
    os.ftruncate(target, size)
    end = 0
    while (start := _next_data(source, end, size)) < size:
        end = os.lseek(source, start, os.SEEK_HOLE)
        while start < end:
            start += os.pwrite(target, os.pread(source, min(end - start, _CHUNK), start), start)


def _next_data(descriptor: int, start: int, size: int) -> int:
    """Return where the next data of a file begin, from `start` on; `size` if there are none."""
    try:
        return os.lseek(descriptor, start, os.SEEK_DATA)
    except OSError as error:
        if error.errno != errno.ENXIO:  # no more data: lseek(2)
            raise
        return size
