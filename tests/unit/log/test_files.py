"""The log in files: what a commit has written outlives the process, whatever else is damaged."""

import errno
import select
import struct
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ackd.log.disk import Directory, OpenFile
from ackd.log.files import FileStorage, this_boot
from ackd.log.format import FRAME_SIZE, HEADER_SIZE
from ackd.log.log import Log
from ackd.log.storage import Found, LogError
from tests.simulation.disk import SimulatedWorker
from tests.unit.log.log_process import SIZE, record_of, started, use_files

SEGMENT = FileStorage.segment_size


class Files:
    """A directory with logs that follow each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = self.open()

    def open(self, size: int = SIZE, boot: bytes = b"") -> Log:
        return Log(FileStorage(Directory(str(self.path)), size, boot=boot or this_boot()))

    def reopen(self, clean: bool = False, size: int = SIZE, boot: bytes = b"") -> Log:
        self.log.close(clean)
        self.log = self.open(size, boot)
        return self.log

    @property
    def segments(self) -> list[Path]:
        return sorted(self.path.glob("segment-*"))


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    files = Files(tmp_path)
    yield files
    files.log.close(clean=True)


def append(log: Log, records: int) -> None:
    for number in range(log.appended, log.appended + records):
        assert log.append(record_of(number))


def finish(log: Log) -> OSError | None:
    """Wait for the commit that runs."""
    assert log.committing
    select.select([log], [], [])
    error = log.collect()
    assert not log.committing
    assert not select.select([log], [], [], 0)[0]
    return error


def commit(log: Log) -> None:
    log.commit()
    assert finish(log) is None
    assert log.synced == log.appended


def contents(log: Log, start: int = 0) -> list[bytes]:
    return list(log.records(start, log.appended))


def records(start: int, end: int) -> list[bytes]:
    return [record_of(number) for number in range(start, end)]


def test_records_are_synced_when_their_commit_has_ended(files: Files) -> None:
    log, reader = files.log, files.log.reader(0)
    append(log, 10)
    assert (log.appended, log.synced, reader.peek()) == (10, 0, None)
    log.commit()
    append(log, 5)  # joins the next commit
    log.commit()  # one runs already
    assert finish(log) is None
    assert (log.appended, log.synced) == (15, 10)
    while (record := reader.peek()) is not None:
        assert record == record_of(reader.number)
        reader.advance()
    assert reader.number == 10
    assert contents(log) == records(0, 15)
    commit(log)
    assert reader.peek() == record_of(10)


def test_a_commit_without_records_ends_at_once(files: Files) -> None:
    files.log.commit()
    assert not files.log.committing
    append(files.log, 1)
    commit(files.log)
    files.log.commit()
    assert not files.log.committing


def test_records_are_read_from_closed_files(files: Files) -> None:
    log = files.log
    while log.size < 4 * SEGMENT:
        append(log, 100)
        commit(log)
    assert contents(log) == records(0, log.appended)
    assert list(log.records(3000, 3002)) == records(3000, 3002)
    assert contents(files.reopen()) == records(0, log.appended)


def test_a_commit_over_several_segments(files: Files) -> None:
    while files.log.size < 3 * SEGMENT:
        append(files.log, 100)
    commit(files.log)
    assert contents(files.reopen()) == records(0, files.log.appended)


def test_files_are_used_again_within_the_bound(files: Files) -> None:
    log = files.reopen(size=4 * SEGMENT)
    refused = 0
    while log.appended < 20_000:
        if not log.append(record_of(log.appended)):
            refused += 1
            commit(log)
            assert len(files.segments) <= 4
            log.set_sent(log.synced)
            log.set_read(log.synced)
            log.set_safe(log.read - 200)
    assert refused
    commit(log)
    start = log.safe
    assert contents(files.reopen(size=4 * SEGMENT), start) == records(start, 20_000)
    assert files.log.gaps == ()
    assert len(files.segments) <= 4
    assert {path.stat().st_size for path in files.segments} == {SEGMENT}


def test_a_smaller_bound_removes_files(files: Files) -> None:
    while files.log.size < 6 * SEGMENT:
        append(files.log, 500)
    commit(files.log)
    log = files.reopen(size=2 * SEGMENT)
    assert not log.append(b"no room")
    assert contents(log) == records(0, log.appended)
    log.set_sent(log.appended)
    log.set_read(log.appended)
    log.set_safe(log.appended)
    append(log, 1)
    commit(log)
    files.reopen(size=2 * SEGMENT)
    assert len(files.segments) == 2
    assert contents(files.log, log.safe) == [record_of(log.safe)]


def test_only_the_owner_can_read_the_files(files: Files) -> None:
    append(files.log, 1)
    commit(files.log)
    for path in files.path.iterdir():
        assert path.stat().st_mode & 0o777 == 0o600


# The next process


def test_a_new_log(files: Files) -> None:
    assert files.log.found is Found.NEW
    assert (files.log.appended, files.log.gaps) == (0, ())


@pytest.mark.parametrize(
    ("clean", "boot", "found", "sent", "read"),
    [
        (True, b"", Found.CLEAN, 990, 970),
        (False, b"", Found.SAME_BOOT, 970, 970),  # the cursors in the file can be old ones
        (True, b"b" * 16, Found.OTHER_BOOT, 500, 500),  # the journal may have lost the rest
        (False, b"b" * 16, Found.OTHER_BOOT, 500, 500),
    ],
)
def test_the_next_process_goes_on_at_the_cursors(
    files: Files, clean: bool, boot: bytes, found: Found, sent: int, read: int
) -> None:
    append(files.log, 1000)
    commit(files.log)
    files.log.set_sent(990)
    files.log.set_read(970)
    files.log.set_safe(500)
    log = files.reopen(clean, boot=boot)
    assert log.found is found
    assert (log.appended, log.synced) == (1000, 1000)
    assert (log.sent, log.read, log.safe) == (sent, read, 500)
    assert contents(log, 500) == records(500, 1000)
    append(log, 10)
    commit(log)
    assert contents(files.reopen(), 500) == records(500, 1010)


@pytest.mark.parametrize("found", [Found.SAME_BOOT, Found.OTHER_BOOT])
def test_each_process_finds_the_same_until_the_records_are_recovered(
    files: Files, found: Found
) -> None:
    append(files.log, 10)
    commit(files.log)
    boot = b"b" * 16 if found is Found.OTHER_BOOT else b""
    assert files.reopen(clean=False, boot=boot).found is found
    for clean in (True, False):
        log = files.reopen(clean, boot=boot)
        assert log.found is found
        assert (log.sent, log.read, log.safe) == (0, 0, 0)
    log.set_recovered()
    log.set_sent(10)
    log.set_read(8)
    log = files.reopen(clean=True, boot=boot)
    assert (log.found, log.sent, log.read, log.safe) == (Found.CLEAN, 10, 8, 0)
    assert files.reopen(clean=False, boot=boot).found is Found.SAME_BOOT


def test_a_killed_process_leaves_all_that_was_synced(files: Files) -> None:
    for lines in (1, 2, 3, 20, 60, 200, 201, 202):
        files.log.close(clean=False)
        with started(use_files, str(files.path)) as process:
            assert process.stdout
            last = max(int(line) for line, _ in zip(process.stdout, range(lines), strict=False))
        log = files.log = files.open()
        assert log.found is Found.SAME_BOOT
        assert last < log.appended
        assert log.sent <= log.appended
        assert log.gaps == ()
        assert contents(log, log.safe) == records(log.safe, log.appended)


def test_the_cursors_are_written_without_a_commit_when_all_is_read(tmp_path: Path) -> None:
    worker = SimulatedWorker()
    log = Log(FileStorage(Directory(str(tmp_path)), SIZE, worker))
    append(log, 5)
    log.commit()
    worker.work_off()
    assert log.collect() is None
    log.set_sent(5)
    log.commit()
    assert not worker.jobs
    log.set_read(5)
    log.commit()
    assert not log.committing
    assert worker.jobs
    worker.work_off()
    control = (tmp_path / "control").read_bytes()
    assert struct.pack("=QQQ", 5, 5, 0) in control
    log.commit()
    assert not worker.jobs
    log.close(clean=True)


# Errors that no disk causes


class FaultyFile(OpenFile):
    """A file whose next syncs raise the `faults`, last first."""

    def __init__(self, descriptor: int, faults: list[Exception]) -> None:
        super().__init__(descriptor)
        self._faults = faults

    def sync(self) -> None:
        if self._faults:
            raise self._faults.pop()
        super().sync()


class FaultyDirectory(Directory):
    """A directory with such files."""

    def __init__(self, path: Path) -> None:
        super().__init__(str(path))
        self.faults: list[Exception] = []

    def open(self, name: str, create: bool = False) -> FaultyFile:
        return FaultyFile(super().open(name, create).fileno(), self.faults)


@pytest.mark.parametrize("error", [MemoryError(), ValueError("a fault of ackd")])
def test_an_error_in_the_thread_is_a_failed_commit(tmp_path: Path, error: Exception) -> None:
    disk = FaultyDirectory(tmp_path)
    log = Log(FileStorage(disk, SIZE))
    append(log, 5)
    log.commit()
    assert finish(log) is None
    disk.faults.append(error)
    append(log, 2)
    log.commit()
    failure = finish(log)
    assert failure
    assert (failure.errno, failure.__cause__) == (errno.EIO, error)
    assert (log.synced, log.appended) == (5, 5)
    append(log, 2)
    log.commit()
    assert finish(log) is None
    assert contents(log, 0) == records(0, 7)
    log.close(clean=True)


def test_an_error_beside_a_commit_fails_the_next_commit(tmp_path: Path) -> None:
    disk, worker = FaultyDirectory(tmp_path), SimulatedWorker()
    log = Log(FileStorage(disk, SIZE, worker))
    disk.faults.append(ValueError("a fault of ackd"))
    worker.work_off()  # prepares the first file
    assert not disk.faults
    for succeeds in (False, True):
        append(log, 2)
        log.commit()
        worker.work_off()
        assert (log.collect() is None) is succeeds
    assert contents(log, 0) == records(0, 2)
    log.close(clean=True)


def test_a_thread_that_can_not_start_is_a_failed_commit(tmp_path: Path) -> None:
    log = Log(FileStorage(Directory(str(tmp_path)), SIZE))
    before = threading.stack_size(1 << 50)  # there is not so much address space
    append(log, 2)
    log.commit()
    failure = finish(log)
    assert failure
    assert failure.errno == errno.EAGAIN
    threading.stack_size(before)
    append(log, 2)
    log.commit()
    assert finish(log) is None
    assert contents(log, 0) == records(0, 2)
    log.close(clean=True)


# Damage


def damage(files: Files, change: Callable[[bytearray], None]) -> Log:
    """Change the bytes of the first segment between two processes."""
    files.log.close(clean=False)
    path = next(path for path in files.segments if any(path.read_bytes()[HEADER_SIZE:]))
    data = bytearray(path.read_bytes())
    change(data)
    path.write_bytes(data)
    files.log = files.open(boot=b"b" * 16)
    return files.log


def place_of(number: int) -> int:
    """Return where a record of the first segment begins."""
    sizes = (len(record_of(before)) for before in range(number))
    return HEADER_SIZE + sum(FRAME_SIZE + size + 7 & ~7 for size in sizes)


@pytest.mark.parametrize("byte", [0, 5, 9, FRAME_SIZE, FRAME_SIZE + 3])
def test_a_torn_end(files: Files, byte: int) -> None:
    append(files.log, 100)
    commit(files.log)

    def tear(data: bytearray) -> None:
        data[place_of(99) + byte] ^= 1

    log = damage(files, tear)
    assert (log.appended, log.gaps) == (99, ())
    assert contents(log) == records(0, 99)
    append(log, 5)
    commit(log)
    assert contents(files.reopen()) == records(0, 104)


@pytest.mark.parametrize("size", [1, 512, 4096])
def test_a_torn_middle(files: Files, size: int) -> None:
    append(files.log, 400)
    commit(files.log)
    start = place_of(200) + FRAME_SIZE

    def tear(data: bytearray) -> None:
        data[start : start + size] = bytes(byte ^ 0xFF for byte in data[start : start + size])

    log = damage(files, tear)
    (gap,) = log.gaps
    assert gap.first == 200
    assert place_of(gap.next - 1) < start + size <= place_of(gap.next) + 8
    assert log.appended == 400
    assert contents(log) == records(0, 200) + records(gap.next, 400)
    reader = log.reader(195)
    numbers = []
    while reader.peek() is not None:
        numbers.append(reader.number)
        reader.advance()
    assert numbers == [*range(195, 200), *range(gap.next, 400)]
    assert log.reader(201).peek() == record_of(gap.next)


def test_a_missing_segment_is_a_gap(files: Files) -> None:
    while files.log.size < 3 * SEGMENT:
        append(files.log, 100)
    commit(files.log)
    end = files.log.appended
    files.log.close(clean=False)
    files.segments[1].unlink()
    log = files.log = files.open(boot=b"b" * 16)
    (gap,) = log.gaps
    assert contents(log) == records(0, gap.first) + records(gap.next, end)
    assert log.appended == end


@pytest.mark.parametrize("data", [b"", b"x", b"x" * 1000, bytes(1000)])
def test_a_broken_control_block_stands_for_zeros(files: Files, data: bytes) -> None:
    append(files.log, 100)
    commit(files.log)
    files.log.set_sent(100)
    files.log.set_read(50)
    files.log.close(clean=True)
    (files.path / "control").write_bytes(data)
    log = files.log = files.open()
    assert log.found is Found.OTHER_BOOT
    assert (log.appended, log.sent, log.read, log.safe) == (100, 0, 0, 0)


def test_files_that_are_no_segments(files: Files) -> None:
    (files.path / "segment-000077").write_bytes(b"short")
    (files.path / "README").write_bytes(b"not of ackd")
    log = files.reopen()
    assert log.gaps == ()
    assert not (files.path / "segment-000077").exists()
    assert (files.path / "README").exists()


# What can't be used


def test_another_version(tmp_path: Path) -> None:
    files = Files(tmp_path)
    append(files.log, 1)
    commit(files.log)
    with pytest.raises(LogError, match="version 7, and this ackd reads 1") as error:
        damage(files, lambda data: struct.pack_into("=I", data, 8, 7))
    assert error.value.place == str(tmp_path)


def test_a_directory_that_another_ackd_uses(files: Files) -> None:
    with pytest.raises(LogError, match="another ackd uses this directory"):
        Directory(str(files.path))


def test_a_directory_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(LogError, match="/none: No such file or directory") as error:
        Directory(str(tmp_path / "none"))
    assert error.value.errno == 2


def test_a_file_instead_of_a_directory(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(LogError, match="Not a directory"):
        Directory(str(tmp_path / "file"))
