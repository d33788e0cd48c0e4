"""Which records outlive a power cut in the journal: those in files that journald has archived."""

import logging
import os
from math import inf
from threading import Thread
from time import monotonic
from typing import Protocol

from ackd.journal.files import FileHeader, FileState, JournalFiles, read_header
from ackd.log.disk import memory_file_system
from ackd.loop import Loop
from ackd.protocol import NOT_STORED

log = logging.getLogger("ackd")

# Seconds between two looks into the directory. journald archives a file after minutes or more.
_INTERVAL = 5.0


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

    journald has written each stored record into its active file or into an older file. A record is
    safe when this file has been archived, and when all archived files are on the disk. At each
    deadline a thread finds out which file is active, and synchronizes the archived files, which can
    take seconds.

    A journal in memory never outlives a power cut: then the recorder's `volatile` has the reason.
    """

    def __init__(self, loop: Loop, recorder: DiskRecorder, files: JournalFiles) -> None:
        self.deadline = 0.0
        self.scheduled = inf
        self._recorder = recorder
        self._log = recorder.log
        self._archive_sync = ArchiveSync(files)
        self._problem = ""
        self._thread: Thread | None = None
        self._read = 0  # the cursor `read` when the thread was started
        # By the ids of files: all records before the number are in this file or in an older one.
        self._stored: dict[bytes, int] = {}
        loop.timers.watch(self)

    def on_deadline(self) -> None:
        """Take the thread's result, and start it again."""
        self.deadline = monotonic() + _INTERVAL
        if self._thread and self._thread.is_alive():
            return  # the disk is slow
        if self._thread:
            self._take_result(self._archive_sync)
        self._read = self._log.read
        self._thread = Thread(target=self._archive_sync.run, daemon=True)
        self._thread.start()

    def _take_result(self, result: "ArchiveSync") -> None:
        self._recorder.volatile = result.volatile
        if result.problem != self._problem:
            self._problem = result.problem
            if self._problem:
                log.error("the log only grows: %s", self._problem)
        if result.active:
            self._stored[result.active] = self._read
        safe = max(
            (self._stored[file_id] for file_id in self._stored.keys() & result.archived), default=0
        )
        if safe > self._log.safe:
            self._log.set_safe(safe)
        # Also forget files that journald has deleted before they were seen in the archive.
        self._stored = {file_id: end for file_id, end in self._stored.items() if end > safe}


class ArchiveSync:
    """Brings archived files to the disk; its methods block, and run in one thread at a time.

    `active` is the id of the file that journald was writing at the beginning of the last call; it
    is empty if there was none. `archived` are the ids of archived files: they are on the disk, and
    so are all older ones. `volatile` says that journald writes no files on a disk, and `problem`
    why files can't be synchronized; both are empty otherwise.
    """

    def __init__(self, files: JournalFiles) -> None:
        self.active = b""
        self.archived: set[bytes] = set()
        self.volatile = self.problem = ""
        self._files = files
        self._listed: set[str] = set()  # by the last call
        self._synced: set[str] = set()
        self._ids: dict[str, bytes] = {}
        self._failed = False

    def run(self) -> None:
        """Find the active file, and synchronize what has been archived since the last call."""
        self.active = b""
        if self._failed:
            return
        try:
            self.volatile = self._in_memory()
            header = None if self.volatile else self._header(self._files.active)
            self._synchronize()
            self.active = header.file_id if header else b""
            self.problem = ""
        except OSError as error:
            self.problem = f"{error.filename or self._files.directory}: {error.strerror}"

    def _in_memory(self) -> str:
        """Return that journald stores records in memory, and where; empty if on a disk."""
        reason = f"{NOT_STORED}payloads on the disk: it is"
        volatile, directory = self._files.volatile, self._files.directory
        if volatile.exists():
            return f"{reason} {volatile}"
        kind = memory_file_system(str(directory)) if directory.exists() else ""
        return f"{reason} {directory}, in memory ({kind})" if kind else ""

    def _synchronize(self) -> None:
        listed = self._list()
        for name in listed - self._synced:
            self._sync(name)
        # A file that is renamed while the directory is read may not be listed. So a file counts
        # only when it is listed again: all files that were archived before it are in this list.
        for name in (listed & self._listed) - self._ids.keys():
            self._count(name)
        self._listed = listed
        self._synced &= listed
        self._ids = {name: self._ids[name] for name in self._ids.keys() & listed}
        self.archived = set(self._ids.values())

    def _list(self) -> set[str]:
        """Return the names of the archived files, also of those that a killed journald has left."""
        try:
            names = os.listdir(self._files.directory)
        except FileNotFoundError:  # journald has not started yet
            return set()
        return {name for name in names if name.startswith(self._files.archived)}

    def _sync(self, name: str) -> None:
        descriptor = self._open(name)
        if descriptor is None:
            return
        try:
            os.fsync(descriptor)
        except OSError as error:
            # Another attempt would succeed, and prove nothing: the kernel reports a lost page once.
            self._failed = True
            error.filename = str(self._files.directory / name)
            raise
        finally:
            os.close(descriptor)
        self._synced.add(name)

    def _count(self, name: str) -> None:
        """Note the id of an archived file, if journald has finished it.

        If journald was killed, the next journald adds a `~` to the name, and begins another file.
        """
        header = self._header(name)
        if header and (header.state is FileState.ARCHIVED or name.endswith("~")):
            self._ids[name] = header.file_id

    def _header(self, name: str) -> FileHeader | None:
        """Return the header of a file; None if it is damaged, or not there."""
        descriptor = self._open(name)
        if descriptor is None:
            return None
        try:
            return read_header(descriptor)
        finally:
            os.close(descriptor)

    def _open(self, name: str) -> int | None:
        """Return a descriptor of a file; None if it is not there: journald deletes the oldest."""
        path = self._files.directory / name
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
        except FileNotFoundError:
            return None
