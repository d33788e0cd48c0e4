"""The log on the disk: what is carried from the log of the other `durability`, and to it."""

from pathlib import Path

import pytest

from ackd.config import Config, Durability, Recording
from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.service.disk_log import (
    DiskLogError,
    carry,
    check_lasting,
    fits,
    forget,
    open_left,
    open_log,
)

SIZE = 1 << 24


def in_memory(*records: bytes) -> Log:
    log = Log(MemoryStorage())
    for record in records:
        assert log.append(record)
    return log


def on_disk(path: Path) -> Log:
    return Log(FileStorage(Directory(str(path)), SIZE))


def config(path: Path, durability: Durability) -> Config:
    return Config(durability=durability, wal_directory=str(path))


def left_records(log: Log) -> list[bytes]:
    """Return what the journal may not have."""
    return list(log.records(log.read, log.appended))


def test_records_in_memory_are_carried_to_the_disk_and_stay_there(tmp_path: Path) -> None:
    memory = in_memory(b"read", b"sent", b"new", b"newer")
    memory.set_sent(2)
    memory.set_read(1)
    disk = on_disk(tmp_path)
    carry(memory, disk)
    assert left_records(disk) == [b"sent", b"new", b"newer"]
    assert (disk.sent, disk.synced) == (1, 3)
    disk.close(clean=True)
    again = on_disk(tmp_path)
    assert left_records(again) == [b"sent", b"new", b"newer"]
    again.close(clean=True)


def test_records_on_the_disk_are_carried_to_memory_and_forgotten(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    carry(in_memory(b"one", b"two", b"three"), disk)
    disk.set_sent(2)
    disk.close(clean=True)
    left = open_left(config(tmp_path, Durability.JOURNAL), {})
    assert left
    memory = in_memory()
    carry(left, memory)
    assert left_records(memory) == [b"one", b"two", b"three"]
    assert memory.sent == 2
    forget(left)
    assert open_left(config(tmp_path, Durability.JOURNAL), {}) is None


def test_what_is_sent_does_not_count_as_sent_behind_records_that_are_not(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    carry(in_memory(b"not sent"), disk)
    memory = in_memory(b"sent")
    memory.set_sent(1)
    carry(memory, disk)
    assert (disk.sent, disk.appended) == (0, 2)
    disk.close(clean=True)


def test_more_than_memory_can_take_does_not_fit(tmp_path: Path) -> None:
    disk, memory = on_disk(tmp_path), in_memory()
    assert disk.append(b"x" * 200_000)
    assert fits(disk, memory)
    while disk.append(b"x" * 200_000):
        pass
    assert not fits(disk, memory)
    disk.close(clean=True)


def test_a_full_log_on_the_disk_can_not_take_over_what_is_in_memory(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    while disk.append(b"x" * 200_000):
        pass
    with pytest.raises(DiskLogError, match="make wal_size larger"):
        carry(in_memory(b"x" * 200_000), disk)
    disk.close(clean=True)


def test_without_records_in_the_journal_a_needed_log_is_an_error(tmp_path: Path) -> None:
    disk = on_disk(tmp_path)
    carry(in_memory(b"one"), disk)
    disk.close(clean=True)
    without = Config(wal_directory=str(tmp_path), wal_size=SIZE, record=Recording.NONE)
    with pytest.raises(DiskLogError, match="write record: each until it has them"):
        open_left(without, {})


def test_a_directory_without_a_log_has_nothing_left(tmp_path: Path) -> None:
    assert open_left(config(tmp_path, Durability.JOURNAL), {}) is None
    assert open_left(config(tmp_path / "absent", Durability.JOURNAL), {}) is None
    assert open_left(Config(), {}) is None


def test_the_log_of_another_ackd_is_not_what_this_one_has_left(tmp_path: Path) -> None:
    other = on_disk(tmp_path)
    assert open_left(config(tmp_path, Durability.JOURNAL), {}) is None
    other.close(clean=True)


def test_the_directory_is_the_configured_one_or_that_of_the_service(tmp_path: Path) -> None:
    configured, state = tmp_path / "configured", tmp_path / "state"
    configured.mkdir()
    state.mkdir()
    environ = {"STATE_DIRECTORY": f"{state}:/another"}
    open_log(config(configured, Durability.DISK), environ).close(clean=True)
    assert (configured / "control").exists()
    open_log(Config(durability=Durability.DISK), environ).close(clean=True)
    assert (state / "control").exists()


def test_only_with_a_log_on_the_disk_its_settings_need_a_restart() -> None:
    journal, disk = Config(), Config(durability=Durability.DISK)
    check_lasting(journal, Config(wal_size=SIZE, wal_directory="/srv"))
    check_lasting(disk, Config(durability=Durability.DISK, port=1))
    check_lasting(journal, Config(record=Recording.NONE))
    with pytest.raises(DiskLogError, match="record: none needs a restart"):
        check_lasting(journal, Config(record=Recording.NONE), in_use=True)
    with pytest.raises(DiskLogError, match="durability: a change needs a restart"):
        check_lasting(journal, disk)
