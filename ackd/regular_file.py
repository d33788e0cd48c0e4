"""Files that administrators write: they are read at once, also in a reload, and may be anything."""

import errno
import os
import stat
from collections.abc import Iterator
from itertools import accumulate

# Bytes. A million is a configuration with 40,000 networks, or the certificates of 500 authorities.
_LARGEST = 1 << 20


def read(path: str) -> bytes:
    """Return the content of a regular file of at most 1 MiB, without ever waiting.

    Raises OSError.
    """
    _check_kind(os.stat(path).st_mode)  # before open(2), which can act on a device
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with open(descriptor, "rb") as file:
        _check_kind(os.fstat(descriptor).st_mode)
        text = file.read(_LARGEST + 1)
    if len(text) > _LARGEST:
        raise OSError(errno.EFBIG, f"is larger than {_LARGEST} bytes")
    return text


def _check_kind(mode: int) -> None:
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "is not a regular file")


def first_closed(path: str) -> str:
    """Return the first directory on the way to a file, or the file, that not all users can read.

    Return nothing if there is none, or if there is no such file.
    """
    file = os.path.realpath(path)
    if not os.path.exists(file):
        return ""
    for directory in _directories(file):
        if not os.stat(directory).st_mode & stat.S_IXOTH:
            return directory
    return "" if os.stat(file).st_mode & stat.S_IROTH else file


def first_forbidden(path: str) -> str:
    """Return the first directory on the way to a file that this process may not enter, or the file.

    To be called with a file that the process can't read.
    """
    file = os.path.realpath(path)
    return next((d for d in _directories(file) if not os.access(d, os.X_OK)), file)


def _directories(path: str) -> Iterator[str]:
    """Yield the directories on the way to an absolute path, from / on."""
    return accumulate(path.split("/")[1:-1], os.path.join, initial="/")
