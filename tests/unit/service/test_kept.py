"""The log of a stopped ackd, in the runtime directory until the next start."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.service import kept


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": f"{tmp_path}:{tmp_path}/second"}


@contextmanager
def log_in(descriptor: int | None) -> Iterator[tuple[Log, int]]:
    """Open a log; yield it, and a descriptor of it that stays open when the log is closed."""
    storage = MemoryStorage(descriptor)
    copy = os.dup(storage.descriptor)
    yield Log(storage), copy
    os.close(copy)


def keep(environ: dict[str, str], *records: bytes) -> None:
    with log_in(None) as (log, descriptor):
        for record in records:
            assert log.append(record)
        log.set_sent(1)
        log.close(clean=True)
        kept.keep(descriptor, environ)


def test_a_kept_log_is_found_with_its_cursors(environ: dict[str, str]) -> None:
    keep(environ, b"one", b"two" * 50_000, b"three")
    with log_in(kept.load(environ)) as (log, _):
        assert (log.read, log.sent, log.appended) == (0, 1, 3)
        assert list(log.records(0, 3)) == [b"one", b"two" * 50_000, b"three"]
        log.close(clean=True)


def test_a_kept_log_takes_little_room_and_only_its_user_can_read_it(
    environ: dict[str, str], tmp_path: Path
) -> None:
    keep(environ, b"one")
    (path,) = tmp_path.iterdir()
    status = path.stat()
    assert status.st_blocks * 512 < status.st_size / 100
    assert status.st_mode & 0o777 == 0o600


def test_a_kept_log_is_there_until_it_is_removed(environ: dict[str, str], tmp_path: Path) -> None:
    keep(environ, b"one")
    for _ in range(2):
        descriptor = kept.load(environ)
        assert descriptor is not None
        os.close(descriptor)
    kept.remove(environ)
    kept.remove(environ)
    assert kept.load(environ) is None
    assert list(tmp_path.iterdir()) == []


def test_a_later_log_replaces_an_earlier_one(environ: dict[str, str]) -> None:
    keep(environ, b"one", b"two", b"three")
    keep(environ, b"four")
    with log_in(kept.load(environ)) as (log, _):
        assert list(log.records(0, log.appended)) == [b"four"]
        log.close(clean=True)


def test_without_a_runtime_directory_nothing_is_kept() -> None:
    with pytest.raises(FileNotFoundError):
        keep({}, b"one")
    assert kept.load({}) is None
    kept.remove({})


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir])
def test_only_a_regular_file_is_taken_for_a_kept_log(
    environ: dict[str, str], tmp_path: Path, make: Callable[[Path], None]
) -> None:
    make(tmp_path / "log")
    assert kept.load(environ) is None


def test_a_link_is_not_followed(environ: dict[str, str], tmp_path: Path) -> None:
    keep(environ, b"one")
    (tmp_path / "log").rename(tmp_path / "other")
    (tmp_path / "log").symlink_to("other")
    with pytest.raises(OSError, match="symbolic links"):
        kept.load(environ)
