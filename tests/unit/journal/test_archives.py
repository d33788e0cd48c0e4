"""Which files are synchronized, and which checkpoints count. Real files: tests/system."""

import os
from pathlib import Path
from time import monotonic_ns

import pytest

from ackd.journal.archives import Archives, ArchiveSync
from ackd.journal.files import JournalFiles
from ackd.loop import Loop

BOOT = bytes(range(16))


class Cursors:
    """A log's cursors, and the recorder with this log."""

    volatile = ""

    def __init__(self) -> None:
        self.read = self.safe = 0
        self.log = self

    def set_safe(self, number: int) -> None:
        assert self.safe <= number <= self.read
        self.safe = number


@pytest.fixture
def files(tmp_path: Path) -> JournalFiles:
    directory = tmp_path / "log"
    directory.mkdir()
    return JournalFiles(directory, tmp_path / "run.journal", "system@")


def test_damaged_and_foreign_files_do_no_harm(files: JournalFiles) -> None:
    for name in ("system@a.journal", "system@b.journal~", "user-1000@c.journal", "system.journal"):
        (files.directory / name).write_bytes(b"no journal")
    archive_sync = ArchiveSync(files, BOOT)
    for _ in range(3):
        archive_sync.run()
    assert (archive_sync.newest, archive_sync.problem) == (0, "")


def test_a_directory_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    archive_sync = ArchiveSync(JournalFiles(tmp_path / "none", tmp_path / "run", "system@"), BOOT)
    archive_sync.run()
    assert archive_sync.problem == ""


def test_a_volatile_journal_is_a_problem(files: JournalFiles) -> None:
    archive_sync = ArchiveSync(files, BOOT)
    files.volatile.touch()
    archive_sync.run()
    text = "the journal does not store payloads on the disk: it is"
    assert archive_sync.volatile == f"{text} {files.volatile}"
    files.volatile.unlink()
    archive_sync.run()
    assert archive_sync.volatile == archive_sync.problem == ""


def test_a_link_is_not_followed(files: JournalFiles) -> None:
    path = files.directory / "system@a.journal"
    path.symlink_to("/dev/zero")
    archive_sync = ArchiveSync(files, BOOT)
    archive_sync.run()
    assert archive_sync.problem == f"{path}: Too many levels of symbolic links"


class Timed:
    """Archives whose thread has always ended."""

    def __init__(self, files: JournalFiles) -> None:
        self.cursors = Cursors()
        self.archives = Archives(Loop(), self.cursors, files, BOOT)

    def next(self, read: int = 0) -> None:
        self.cursors.read = max(self.cursors.read, read)
        self.archives.on_deadline()
        assert self.archives._thread
        self.archives._thread.join()


def test_records_are_safe_that_were_stored_before_the_newest_archived_entry(
    files: JournalFiles,
) -> None:
    timed = Timed(files)
    timed.next(read=10)
    between = monotonic_ns() // 1000 + 1
    while monotonic_ns() // 1000 <= between:
        pass
    timed.next(read=20)
    timed.archives._archive_sync.newest = between
    timed.next()
    assert timed.cursors.safe == 10
    timed.archives._archive_sync.newest = monotonic_ns() // 1000 + 1
    timed.next(read=30)
    assert timed.cursors.safe == 20


def test_an_idle_log_needs_no_checkpoints(files: JournalFiles) -> None:
    timed = Timed(files)
    for _ in range(10):
        timed.next(read=1)
    assert len(timed.archives._checkpoints) == 1


def test_the_number_of_checkpoints_is_bounded(files: JournalFiles) -> None:
    timed = Timed(files)
    for read in range(1, 3001):
        timed.cursors.read = read
        timed.archives._add_checkpoint()
    checkpoints = timed.archives._checkpoints
    assert 512 <= len(checkpoints) <= 1024
    assert checkpoints[-1][1] == 3000
    assert list(checkpoints) == sorted(checkpoints)


def test_a_thread_that_waits_for_the_disk_is_waited_for(files: JournalFiles) -> None:
    os.mkfifo(files.directory / "system@a.journal")
    timed = Timed(files)
    timed.archives.on_deadline()
    thread = timed.archives._thread
    timed.archives.on_deadline()
    assert thread
    assert timed.archives._thread is thread
    with open(files.directory / "system@a.journal", "wb"):
        thread.join()
