"""The log on the disk, with `durability: disk`: where it is, and why it can't be used."""

import errno
import os
from collections.abc import Mapping

from ackd.config import Config, Durability
from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.storage import Found, LogError

_REMEDIES = {
    errno.ENOENT: "create it, or name another with wal_directory",
    errno.ENOTDIR: "name a directory with wal_directory",
    errno.EACCES: "give ackd's user the right to write there",
    errno.EPERM: "give ackd's user the right to write there",
    errno.EROFS: "mount it for writing, or give the service ReadWritePaths=, see ackd.yaml(5)",
    errno.EWOULDBLOCK: "stop that ackd, or name another directory with wal_directory",
    errno.ENOSPC: "make room",
}
# Settings that are in force until ackd ends.
_LASTING = ("durability", "wal_size", "wal_directory")


class DiskLogError(Exception):
    """The log on the disk can't be used; the text says why and what to do."""


def open_log(config: Config, environ: Mapping[str, str]) -> Log:
    """Return the log on the disk. Raises DiskLogError."""
    place = _place(config, environ)
    if not place:
        raise DiskLogError(
            "durability: disk needs a directory for its log: run /usr/share/ackd/durable,"
            " or name a directory with wal_directory"
        )
    try:
        return Log(FileStorage(Directory(place), config.wal_size))
    except LogError as error:
        remedy = f"; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
        raise DiskLogError(f"durability: disk: {error}{remedy}") from error


def check_left(config: Config, environ: Mapping[str, str]) -> None:
    """Check that a log of before, with `durability: disk`, has nothing that the journal lacks.

    Raises DiskLogError.
    """
    place = _place(config, environ)
    if not place or not os.path.exists(os.path.join(place, "control")):
        return
    try:
        records = Log(FileStorage(Directory(place), config.wal_size))
    except LogError as error:
        if error.errno == errno.EWOULDBLOCK:  # it is the log of another ackd
            return
        text = f"durability: journal: a log of before can't be read: {error}"
        raise DiskLogError(f"{text}; with durability: disk ackd uses it") from error
    left = records.appended - records.read
    if not left:  # from now on the journal is enough, also after the next boot
        records.set_safe(records.read)
    records.close(clean=records.found is Found.CLEAN)
    if left:
        raise DiskLogError(
            f"durability: journal: the log in {place} has {left} records that the journal may not"
            " have; write durability: disk until it has them"
        )


def check_lasting(before: Config, after: Config) -> None:
    """Check that no setting has changed which only another process can have.

    Raises DiskLogError.
    """
    disk = Durability.DISK in (before.durability, after.durability)
    for key in _LASTING:
        if disk and getattr(before, key) != getattr(after, key):
            raise DiskLogError(f"{key}: a change needs a restart of ackd, not only a reload")


def _place(config: Config, environ: Mapping[str, str]) -> str:
    """Return the directory of the log; empty if there is none."""
    return config.wal_directory or environ.get("STATE_DIRECTORY", "").partition(":")[0]
