"""The log on the disk, with `durability: disk`: where it is, and why it can't be used."""

import errno
import os
import select
from collections.abc import Iterator, Mapping
from contextlib import suppress

from ackd.config import Config, Durability, Recording
from ackd.log.format import FRAME_SIZE
from ackd.log.log import Log
from ackd.log.storage import LogError
from ackd.service import systemd

_REMEDIES = {
    errno.ENOENT: "create it, or name another with wal_directory",
    errno.EEXIST: "name an empty directory with wal_directory",
    errno.ENOTDIR: "name a directory with wal_directory",
    errno.EACCES: "give ackd's user the right to write there",
    errno.EPERM: "give ackd's user the right to write there",
    errno.EROFS: "mount it for writing, or give the service ReadWritePaths=, see ackd.yaml(5)",
    errno.EWOULDBLOCK: "stop that ackd, or name another directory with wal_directory",
    errno.ENOSPC: "make room",
}
# Microseconds that systemd waits for a start that reads a large log on a slow disk, after a power
# cut: sd_notify(3), EXTEND_TIMEOUT_USEC=.
_OPENING = 600_000_000
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
    _check_place(place)
    try:
        return _open(place, config)
    except LogError as error:
        remedy = f"; {_REMEDIES[error.errno]}" if error.errno in _REMEDIES else ""
        raise DiskLogError(f"durability: disk: {error}{remedy}") from error


def open_left(config: Config, environ: Mapping[str, str]) -> Log | None:
    """Return the log that an ackd with `durability: disk` has left, if it is still needed.

    To be called with `durability: journal`. Raises DiskLogError, also with `record: none`, if the
    log is still needed.
    """
    place = _place(config, environ)
    if not place or not os.path.exists(os.path.join(place, "control")):
        return None
    try:
        left = _open(place, config)
    except LogError as error:
        if error.errno == errno.EWOULDBLOCK:  # it is the log of another ackd
            return None
        text = f"durability: journal: the earlier log on the disk can't be read: {error}"
        raise DiskLogError(f"{text}; with durability: disk ackd uses it") from error
    if left.read < left.appended:
        if config.record is Recording.NONE:
            raise DiskLogError(
                "record: none: the log on the disk has records that the journal may not have;"
                " write record: each until it has them"
            )
        return left
    forget(left)
    return None


def fits(left: Log, memory: Log) -> bool:
    """Return whether a log in memory has room for what the journal may not have of another log."""
    room = memory.room // 2  # segments have ends that stay unused
    for record in left.records(left.read, left.appended):
        room -= len(record) + FRAME_SIZE
        if room < 0:
            return False
    return True


def carry(left: Log, records: Log) -> None:
    """Append to a log what the journal may not have of the log that was used before.

    What was sent counts as sent: the other end of the stored socket may still have it in its queue.
    Raises DiskLogError.
    """
    all_sent = records.sent == records.appended
    _append(records, left.records(left.read, left.sent))
    sent = records.appended
    _append(records, left.records(left.sent, left.appended))
    _commit(records)
    if all_sent:
        records.set_sent(sent)


def forget(left: Log) -> None:
    """Close a log that is not needed any more."""
    left.set_sent(left.appended)
    left.set_read(left.appended)
    left.set_safe(left.appended)
    left.close(clean=True)


def _open(place: str, config: Config) -> Log:
    """Return the log in a directory. Raises LogError."""
    # Imported here because most starts open no log on the disk.
    from ackd.log.disk import Directory
    from ackd.log.files import FileStorage

    systemd.notify(f"EXTEND_TIMEOUT_USEC={_OPENING}")
    return Log(FileStorage(Directory(place), config.wal_size))


def _append(records: Log, data: Iterator[bytes]) -> None:
    for record in data:
        if not records.append(record):
            raise DiskLogError(
                "durability: the log on the disk has no room for the records that the journal may"
                " not have; make wal_size larger"
            )


def _commit(records: Log) -> None:
    """Wait until a log is on the disk, if it is in files. Raises DiskLogError."""
    records.commit()
    if records.committing:
        select.select([records], [], [])
        if error := records.collect():
            raise DiskLogError(f"durability: disk: {error.strerror}") from error


def check_lasting(before: Config, after: Config, *, in_use: bool = False) -> None:
    """Check that no setting has changed which only another process can have.

    `in_use` is whether acks wait for the log on the disk. Raises DiskLogError.
    """
    if in_use and after.record is Recording.NONE:
        raise DiskLogError("record: none needs a restart of ackd, not only a reload")
    disk = in_use or Durability.DISK in (before.durability, after.durability)
    for key in _LASTING:
        if disk and getattr(before, key) != getattr(after, key):
            raise DiskLogError(f"{key}: a change needs a restart of ackd, not only a reload")


def _check_place(place: str) -> None:
    """Check that what is synced there outlives the power. Raises DiskLogError."""
    from ackd.log.disk import memory_file_system  # here, as in `_open`

    with suppress(OSError):  # to open the directory fails as well
        if kind := memory_file_system(place):
            raise DiskLogError(
                f"durability: disk: {place} is in memory ({kind}), and would not outlive the power:"
                " name a directory on a disk with wal_directory"
            )


def _place(config: Config, environ: Mapping[str, str]) -> str:
    """Return the directory of the log; empty if there is none."""
    return config.wal_directory or systemd.state_directory(environ)
