"""A journal whose files kill the processes that read them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.journal.reader import NotReadableError
from ackd.journal.recovery import Entry
from ackd.service.safety import note_reading_ended, read_or_give_up

ENTRIES: list[Entry] = [{"MESSAGE": b"one"}, {"MESSAGE": b"two"}]
# Reads a page that a mapped file does not have, as libsystemd does when the disk can't read it.
KILLED = """
import mmap, os, sys
from ackd.service.safety import read_or_give_up
def read(count):
    yield {}
    file = os.memfd_create("journal")
    os.ftruncate(file, mmap.PAGESIZE)
    pages = mmap.mmap(file, mmap.PAGESIZE)
    os.ftruncate(file, 0)
    yield {"MESSAGE": pages[:1]}
list(read_or_give_up(read, {"RUNTIME_DIRECTORY": sys.argv[1]}, 1))
"""


@pytest.fixture
def environ(tmp_path: Path) -> dict[str, str]:
    return {"RUNTIME_DIRECTORY": str(tmp_path)}


def entries(_count: int) -> Iterator[Entry]:
    yield from ENTRIES


def be_killed(directory: Path) -> None:
    process = subprocess.run([sys.executable, "-c", KILLED, str(directory)], check=False)
    assert process.returncode == -signal.SIGBUS


def test_after_three_killed_processes_the_journal_is_not_read(
    environ: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(3):
        be_killed(tmp_path)
    with pytest.raises(NotReadableError, match="3 processes were killed while they read"):
        next(read_or_give_up(entries, environ, 2))
    assert list(read_or_give_up(entries, environ, 2)) == ENTRIES  # after the next unclean end


def test_a_process_that_reads_the_journal_counts_no_earlier_process(
    environ: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(2):
        be_killed(tmp_path)
    assert list(read_or_give_up(entries, environ, 2)) == ENTRIES
    assert os.listdir(tmp_path) == []


def test_a_process_that_finds_all_before_the_end_is_not_counted(
    environ: dict[str, str], tmp_path: Path
) -> None:
    for _ in range(5):
        reading = read_or_give_up(entries, environ, 2)
        assert next(reading) == ENTRIES[0]
        del reading
    assert os.listdir(tmp_path) == []


def test_a_process_that_ends_while_it_reads_is_not_counted(
    environ: dict[str, str], tmp_path: Path
) -> None:
    reading = read_or_give_up(entries, environ, 2)
    next(reading)
    note_reading_ended(environ)
    assert os.listdir(tmp_path) == []


def test_without_a_runtime_directory_the_journal_is_read() -> None:
    assert list(read_or_give_up(entries, {}, 2)) == ENTRIES
