"""The log in memory: a file in the runtime directory, which outlives ackd however it ends."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ackd.log.log import Log
from ackd.service import memory_log
from tests.support.obstacle import needs_namespaces
from tests.support.project import PROJECT


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": f"{tmp_path}:{tmp_path}/second"}


def opened(environ: dict[str, str]) -> Log:
    """Return the log; an earlier one must be of use."""
    log, outlives_ackd, problem = memory_log.open_log(environ)
    assert (outlives_ackd, problem) == ("RUNTIME_DIRECTORY" in environ, "")
    return log


def test_a_process_that_does_not_close_its_log_leaves_it_whole(environ: dict[str, str]) -> None:
    killed = opened(environ)
    for record in (b"one", b"two" * 50_000, b"three"):
        assert killed.append(record)
    killed.set_sent(1)
    log = opened(environ)
    assert (log.read, log.sent, log.appended) == (0, 1, 3)
    assert list(log.records(0, 3)) == [b"one", b"two" * 50_000, b"three"]
    log.close(clean=True)
    killed.close(clean=True)


def test_only_its_user_can_read_the_log_and_it_takes_little_room(
    environ: dict[str, str], tmp_path: Path
) -> None:
    opened(environ).close(clean=True)
    (path,) = tmp_path.iterdir()
    status = path.stat()
    assert status.st_blocks * 512 < status.st_size / 10
    assert status.st_mode & 0o777 == 0o600


def test_a_removed_log_is_new(environ: dict[str, str], tmp_path: Path) -> None:
    log = opened(environ)
    assert log.append(b"one")
    log.close(clean=True)
    memory_log.remove(environ)
    memory_log.remove(environ)
    assert list(tmp_path.iterdir()) == []
    log = opened(environ)
    assert log.appended == 0
    log.close(clean=True)


def test_without_a_runtime_directory_the_log_ends_with_the_process() -> None:
    log = opened({})
    assert log.append(b"one")
    log.close(clean=True)
    memory_log.remove({})


def test_a_file_that_is_no_log_is_replaced(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "log").write_bytes(b"something else")
    log, outlives_ackd, problem = memory_log.open_log(environ)
    assert outlives_ackd
    assert problem.startswith(f"{tmp_path}/log: the log in memory: it does not have ")
    assert log.append(b"one")
    log.close(clean=True)
    log = opened(environ)
    assert log.appended == 1
    log.close(clean=True)


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (os.mkfifo, "it is not a file of ackd's user"),
        (os.mkdir, "Is a directory"),
        (lambda path: os.symlink("other", path), "Too many levels of symbolic links"),
    ],
)
def test_what_is_no_file_of_ackd_is_left_alone(
    environ: dict[str, str], tmp_path: Path, make: Callable[[Path], None], problem: str
) -> None:
    make(tmp_path / "log")
    log, outlives_ackd, found = memory_log.open_log(environ)
    assert (outlives_ackd, found) == (False, f"{tmp_path}/log: {problem}")
    assert log.append(b"one")
    log.close(clean=True)
    assert [path.name for path in tmp_path.iterdir()] == ["log"]


# Append to a log in a directory of $1 bytes until it takes no more, and print how it went.
_FILL = """
import os
from ackd.service import memory_log
log, outlives_ackd, problem = memory_log.open_log(os.environ)
while log.append(bytes(1000)):
    pass
print(log.appended > 15_000, outlives_ackd, problem)
"""
_MOUNT = 'mount -t tmpfs -o size="$1" tmpfs "$RUNTIME_DIRECTORY" && exec "$2" -c "$3"'


@needs_namespaces
@pytest.mark.parametrize(
    ("size", "takes_all", "problem"),
    [("20m", True, ""), ("2m", False, ""), ("512k", True, "/log: No space left on device")],
)
def test_a_full_directory_costs_only_room(
    tmp_path: Path, size: str, takes_all: bool, problem: str
) -> None:
    command = ("unshare", "--mount", "sh", "-c", _MOUNT, "sh", size, sys.executable, _FILL)
    environ = {**os.environ, "RUNTIME_DIRECTORY": str(tmp_path), "PYTHONPATH": str(PROJECT)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    shown = f"{tmp_path}{problem}" if problem else ""
    assert (done.returncode, done.stdout) == (0, f"{takes_all} {not problem} {shown}\n")
