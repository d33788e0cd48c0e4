"""Commits fail: the disk is full, or fdatasync(2) reports an error. Later ones succeed."""

import errno
import os
import resource
import shutil
import subprocess
from pathlib import Path
from subprocess import Popen

import pytest

from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from tests.support.obstacle import needs_namespaces
from tests.unit.log.log_process import SIZE, obey, record_of, started

# Records of this test have 1 to 3,000 bytes: about 1.3 MB.
MANY = 1000


def tell(process: Popen[str], line: str | int) -> str:
    """Send the process a line, and return its answer."""
    assert process.stdin
    assert process.stdout
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline().strip()


def end(process: Popen[str]) -> None:
    assert process.stdin
    process.stdin.close()
    assert process.wait() == 0


def contents(path: Path) -> list[bytes]:
    """Return what the next process finds."""
    log = Log(FileStorage(Directory(str(path)), SIZE))
    assert log.gaps == ()
    found = list(log.records(log.safe, log.appended))
    log.close(clean=True)
    return found


def test_a_file_that_may_not_grow(tmp_path: Path) -> None:
    with started(obey, str(tmp_path)) as process:
        assert tell(process, 10) == "0 10 10"
        # Two files are there; no other one can have the size of a segment.
        _, hard = resource.prlimit(process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (FileStorage.segment_size - 8, hard))
        synced = 10
        while (answer := tell(process, MANY)) == f"0 {synced + MANY} {synced + MANY}":
            synced += MANY
        assert answer == f"{errno.EFBIG} {synced} {synced}"
        assert tell(process, 1) == f"{errno.EFBIG} {synced} {synced}"
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (hard, hard))
        assert tell(process, 1) == f"0 {synced + 1} {synced + 1}"
        assert tell(process, "check") == "True"
        end(process)
    assert contents(tmp_path) == [record_of(number) for number in range(synced + 1)]


@needs_namespaces
def test_a_full_disk(tmp_path: Path) -> None:
    mount = 'mount -t tmpfs -o size=11m tmpfs "$0" && exec "$@"'
    before = ("unshare", "--mount", "sh", "-c", mount, str(tmp_path))
    with started(obey, str(tmp_path), before) as process:
        synced = 0
        while (answer := tell(process, MANY)) == f"0 {synced + MANY} {synced + MANY}":
            synced += MANY
        assert synced > 4 * MANY
        assert answer == f"{errno.ENOSPC} {synced} {synced}"
        assert tell(process, 1) == f"{errno.ENOSPC} {synced} {synced}"
        assert tell(process, "check") == "True"
        assert tell(process, "free") == "freed"
        for _ in range(20):
            synced += MANY
            assert tell(process, MANY) == f"0 {synced} {synced}"
            assert tell(process, "check") == "True"
            assert tell(process, "free") == "freed"
        end(process)


READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@needs_namespaces
@pytest.mark.parametrize("exists", [False, True])
def test_a_read_only_disk(tmp_path: Path, exists: bool) -> None:
    if exists:
        Log(FileStorage(Directory(str(tmp_path)), SIZE)).close(clean=True)
    before = ("unshare", "--mount", "sh", "-c", READ_ONLY, str(tmp_path))
    with started(obey, str(tmp_path), before) as process:
        assert process.communicate()[0] == f"{tmp_path}: Read-only file system\n"
        assert process.returncode == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("mode", [0o700, 0o755])
def test_a_directory_of_another_user(tmp_path: Path, mode: int) -> None:
    directory = tmp_path / "log"
    directory.mkdir(mode)
    os.chown(directory, 65534, 65534)
    # Without these two root is a user like any other, capabilities(7).
    before = ("setpriv", "--bounding-set=-dac_override,-dac_read_search")
    with started(obey, str(directory), before) as process:
        assert process.communicate()[0] == f"{directory}: Permission denied\n"
        assert process.returncode == 1


@pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")
def test_a_failed_fdatasync(tmp_path: Path) -> None:
    library = tmp_path / "fail.so"
    source = Path(__file__).with_name("fail_fdatasync.c")
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    path = tmp_path / "log"
    path.mkdir()
    fail = tmp_path / "fail"
    environment = {"LD_PRELOAD": str(library), "ACKD_FAIL": str(fail)}
    with started(obey, str(path), **environment) as process:
        assert tell(process, 10) == "0 10 10"
        synced = 10
        for failures in (1, 3):
            fail.touch()
            for _ in range(failures):
                assert tell(process, MANY) == f"{errno.EIO} {synced} {synced}"
            fail.unlink()
            assert tell(process, 5) == f"0 {synced + 5} {synced + 5}"
            synced += 5
            assert tell(process, "check") == "True"
        end(process)
    assert contents(path) == [record_of(number) for number in range(synced)]
