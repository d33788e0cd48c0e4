"""Which records outlive a power cut in the journal: those in files that journald has archived."""

import logging
import os
from collections import deque
from datetime import timedelta
from math import inf
from pathlib import Path
from threading import Thread
from time import monotonic, monotonic_ns
from typing import Protocol

from ackd.journal.files import FileState, JournalFiles, read_header
from ackd.journal.reader import NotReadableError, next_entry, open_file
from ackd.loop import Loop
from ackd.protocol import NOT_STORED

log = logging.getLogger("ackd")

# Seconds between two looks into the directory. journald archives a file after minutes or more.
_INTERVAL = 5.0
# Moments that are remembered, at most; beyond it every second one is forgotten.
_MOST_CHECKPOINTS = 1024


class Cursors(Protocol):
    """The cursors of the log that matter here."""

    read: int
    safe: int

    def set_safe(self, number: int, /) -> None:
        """Note that all records before `number` outlive a power cut in the journal."""


class DiskRecorder(Protocol):
    """The recorder, as far as it matters here."""

    volatile: str

    @property
    def log(self) -> Cursors:
        """The log."""


class Archives:
    """A timer that moves the log's cursor `safe`.

    At each deadline a thread brings the archived files to the disk, fsync(2), which can take
    seconds. Until the next deadline, `checkpoints` remember which records journald had stored at
    which moment. If an archived file ends with an entry that is younger than a checkpoint, journald
    has written the checkpoint's records into this file or into an older one.

    A journal in memory never outlives a power cut: then the recorder's `volatile` has the reason.
    """

    def __init__(
        self, loop: Loop, recorder: DiskRecorder, files: JournalFiles, boot: bytes
    ) -> None:
        """`boot` is the id of this boot, 16 bytes."""
        self.deadline = 0.0
        self.scheduled = inf
        self._recorder = recorder
        self._log = recorder.log
        self._archive_sync = ArchiveSync(files, boot)
        self._problem = ""
        self._thread: Thread | None = None
        self._checkpoints: deque[tuple[int, int]] = deque()  # microseconds, number of records
        loop.timers.watch(self)

    def on_deadline(self) -> None:
        """Take the thread's result, and start it again."""
        self.deadline = monotonic() + _INTERVAL
        if self._thread and self._thread.is_alive():
            return  # the disk is slow
        if self._thread:
            self._take_result()
        self._add_checkpoint()
        self._thread = Thread(target=self._archive_sync.run, daemon=True)
        self._thread.start()

    def _take_result(self) -> None:
        result = self._archive_sync
        self._recorder.volatile = result.volatile
        if result.problem != self._problem:
            self._problem = result.problem
            if self._problem:
                log.error("the log only grows: %s", self._problem)
        while self._checkpoints and self._checkpoints[0][0] < result.newest:
            _, number = self._checkpoints.popleft()
            self._log.set_safe(number)

    def _add_checkpoint(self) -> None:
        """Remember what journald has stored by now."""
        number = self._log.read
        latest = self._checkpoints[-1][1] if self._checkpoints else self._log.safe
        if number > latest:
            self._checkpoints.append((monotonic_ns() // 1000, number))
        if len(self._checkpoints) > _MOST_CHECKPOINTS:
            self._checkpoints = deque(list(self._checkpoints)[::2])


class ArchiveSync:
    """Brings archived files to the disk; its methods block, and run in one thread at a time.

    `newest` is a time of this boot's monotonic clock, in microseconds: all entries up to it are on
    the disk. `volatile` says that journald writes no files on a disk, and `problem` why they can't
    be synchronized; both are empty otherwise.
    """

    def __init__(self, files: JournalFiles, boot: bytes) -> None:
        self.newest = 0
        self.volatile = self.problem = ""
        self._files = files
        self._boot = boot
        self._listed: set[str] = set()  # by the last call
        self._synced: set[str] = set()
        self._counted: set[str] = set()
        self._failed = False

    def run(self) -> None:
        """Synchronize what has been archived since the last call."""
        if self._failed:
            return
        volatile = self._files.volatile
        try:
            in_memory = volatile.exists()
            self.volatile = f"{NOT_STORED}payloads on the disk: it is {volatile}" * in_memory
            self._synchronize()
            self.problem = ""
        except NotReadableError as error:
            self.problem = str(error)
        except OSError as error:
            self.problem = f"{error.filename or self._files.directory}: {error.strerror}"

    def _synchronize(self) -> None:
        listed = self._list()
        for name in listed - self._synced:
            self._sync(name)
        # A file that is renamed while the directory is read may not be listed. So a file counts
        # only when it is listed again: all files that were archived before it are in this list.
        for name in (listed & self._listed) - self._counted:
            self._count(name)
        self._listed = listed
        self._synced &= listed
        self._counted &= listed

    def _list(self) -> set[str]:
        """Return the names of the archived files, also of those that a killed journald has left."""
        try:
            names = os.listdir(self._files.directory)
        except FileNotFoundError:  # journald has not started yet
            return set()
        return {name for name in names if name.startswith(self._files.archived)}

    def _sync(self, name: str) -> None:
        path = self._files.directory / name
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:  # journald has deleted it to make room
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Another attempt would succeed, and prove nothing: the kernel reports a lost page once.
            self._failed = True
            error.filename = str(path)
            raise
        finally:
            os.close(descriptor)
        self._synced.add(name)

    def _count(self, name: str) -> None:
        """Note how far an archived file goes, if journald has finished it.

        A file whose name ends with `~` is one that a killed journald has left: it is synchronized,
        and the next archived file shows how far the journal goes.
        """
        path = self._files.directory / name
        try:
            with open(path, "rb") as file:
                header = read_header(file.fileno())
            if not header or header.state is not FileState.ARCHIVED:
                return
            if header.boot == self._boot:
                self.newest = max(self.newest, last_entry(path, self._boot))
        except FileNotFoundError:
            return
        self._counted.add(name)


def last_entry(path: Path, boot: bytes) -> int:
    """Return when journald has stored the file's last entry, in microseconds of this boot.

    0 if that was in another boot: systemd 252 may open a file, which notes this boot in its header,
    and archive it without a further entry.
    """
    with open_file(path) as reader:
        reader.seek_tail()
        entry = next_entry(reader, -1)
    if not entry or entry["__MONOTONIC_TIMESTAMP"].bootid.bytes != boot:
        return 0
    time: timedelta = entry["__MONOTONIC_TIMESTAMP"].timestamp
    return time // timedelta(microseconds=1)
