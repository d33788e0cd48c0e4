"""Which files are synchronized, and which records are safe then. Real files: tests/system."""

import os
import struct
import tempfile
from pathlib import Path

import pytest

from ackd.journal.archives import Archives, ArchiveSync
from ackd.journal.files import FileState, JournalFiles
from ackd.loop import Loop
from tests.support.disk import MEMORY, needs_memory_file_system


class Cursors:
    """A log's cursors, and the recorder with this log."""

    volatile = ""

    def __init__(self) -> None:
        self.read = self.safe = 0
        self.log = self

    def set_safe(self, number: int) -> None:
        assert self.safe < number <= self.read
        self.safe = number


@pytest.fixture
def files(tmp_path: Path) -> JournalFiles:
    directory = tmp_path / "log"
    directory.mkdir()
    return JournalFiles(directory, tmp_path / "run.journal")


def write(path: Path, file_id: int, state: FileState) -> None:
    """Write the header of a journal file."""
    data = struct.pack("<8s8xB7x16s48xQQ", b"LPKSHHRH", state, b"%016d" % file_id, 104, 0)
    path.write_bytes(data)


class Journal:
    """A directory in which a journald archives its files."""

    def __init__(self, files: JournalFiles) -> None:
        self._directory = files.directory
        self._number = 0
        self._begin()

    def rename(self, end: str = ".journal") -> Path:
        """Rename the active file, and begin another."""
        path = self._directory / f"system@{self._number}{end}"
        self._active.rename(path)
        self._begin()
        return path

    def finish(self, path: Path) -> None:
        """Write into the header of a file that it is archived."""
        number = int(path.name.partition("@")[2].partition(".")[0])
        write(path, number, FileState.ARCHIVED)

    def rotate(self) -> Path:
        path = self.rename()
        self.finish(path)
        return path

    def _begin(self) -> None:
        self._number += 1
        self._active = self._directory / "system.journal"
        write(self._active, self._number, FileState.ONLINE)


class Watched:
    """Archives whose thread always ends before the next deadline."""

    def __init__(self, files: JournalFiles) -> None:
        self.cursors = Cursors()
        self.archives = Archives(Loop(), self.cursors, files)

    def look(self, read: int = 0, times: int = 1) -> int:
        """Let journald have stored `read` records; return how many are safe then."""
        self.cursors.read = max(self.cursors.read, read)
        for _ in range(times):
            self.archives.on_deadline()
            assert self.archives._thread
            self.archives._thread.join()
        return self.cursors.safe


def test_records_are_safe_when_the_file_of_their_time_is_archived(files: JournalFiles) -> None:
    journal, watched = Journal(files), Watched(files)
    assert watched.look(read=10, times=5) == 0
    journal.rotate()
    assert watched.look(read=20, times=5) == 10
    journal.rotate()
    assert watched.look(read=30, times=5) == 20


def test_a_file_does_not_count_before_journald_has_finished_it(files: JournalFiles) -> None:
    journal, watched = Journal(files), Watched(files)
    watched.look(read=10, times=2)
    path = journal.rename()
    assert watched.look(times=5) == 0
    journal.finish(path)
    assert watched.look(times=5) == 10


def test_a_file_that_is_never_finished_does_not_hold_up_later_ones(files: JournalFiles) -> None:
    journal, watched = Journal(files), Watched(files)
    watched.look(read=10, times=2)
    journal.rename()
    watched.look(read=20, times=2)
    journal.rotate()
    assert watched.look(times=5) == 20


def test_the_file_of_a_killed_journald_counts(files: JournalFiles) -> None:
    journal, watched = Journal(files), Watched(files)
    watched.look(read=10, times=2)
    journal.rename(".journal~")
    assert watched.look(times=5) == 10


def test_a_file_that_journald_deletes_at_once_does_not_hold_up_later_ones(
    files: JournalFiles,
) -> None:
    journal, watched = Journal(files), Watched(files)
    watched.look(read=10, times=2)
    journal.rotate().unlink()
    assert watched.look(read=20, times=5) == 0
    journal.rotate()
    assert watched.look(times=5) == 20
    assert len(watched.archives._stored) <= 1


def test_files_of_before_say_nothing_about_records_of_now(files: JournalFiles) -> None:
    journal = Journal(files)
    for _ in range(3):
        journal.rotate()
    assert Watched(files).look(read=10, times=5) == 0


def test_damaged_and_foreign_files_do_no_harm(files: JournalFiles) -> None:
    for name in ("system@a.journal", "system@b.journal~", "user-1000@c.journal", "system.journal"):
        (files.directory / name).write_bytes(b"no journal")
    archive_sync = ArchiveSync(files)
    for _ in range(3):
        archive_sync.run()
    assert (archive_sync.active, archive_sync.archived, archive_sync.problem) == (b"", set(), "")


def test_a_directory_that_is_not_there_yet_is_no_problem(tmp_path: Path) -> None:
    archive_sync = ArchiveSync(JournalFiles(tmp_path / "none", tmp_path / "run"))
    archive_sync.run()
    assert archive_sync.problem == ""


def test_a_journal_in_memory_is_reported(files: JournalFiles) -> None:
    Journal(files)
    archive_sync = ArchiveSync(files)
    files.volatile.touch()
    archive_sync.run()
    text = "the journal does not store payloads on the disk: it is"
    assert archive_sync.volatile == f"{text} {files.volatile}"
    assert archive_sync.active == b""
    files.volatile.unlink()
    archive_sync.run()
    assert archive_sync.volatile == archive_sync.problem == ""
    assert archive_sync.active


@needs_memory_file_system
def test_a_directory_in_memory_is_reported() -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as name:
        files = JournalFiles(Path(name), Path(name) / "volatile")
        Journal(files)
        archive_sync = ArchiveSync(files)
        archive_sync.run()
    text = "the journal does not store payloads on the disk: it is"
    assert archive_sync.volatile == f"{text} {name}, in memory (tmpfs)"
    assert archive_sync.active == b""


def test_a_link_is_not_followed(files: JournalFiles) -> None:
    path = files.directory / "system@a.journal"
    path.symlink_to("/dev/zero")
    archive_sync = ArchiveSync(files)
    archive_sync.run()
    assert archive_sync.problem == f"{path}: Too many levels of symbolic links"


def test_after_a_failed_fsync_nothing_is_safe_any_more(files: JournalFiles) -> None:
    journal, watched = Journal(files), Watched(files)
    watched.look(read=10, times=2)
    fifo = files.directory / "system@0.journal"
    os.mkfifo(fifo)  # fsync(2) fails
    watched.look()
    fifo.unlink()
    journal.rotate()
    assert watched.look(times=5) == 0
    assert watched.archives._archive_sync.problem == f"{fifo}: Invalid argument"
