"""The headers of journal files, and where the files of a journald are."""

import os
import struct
from pathlib import Path

import pytest

from ackd.journal.files import FileHeader, FileState, JournalFiles, journal_files, read_header

SIGNATURE = b"LPKSHHRH"
HEADER_SIZE, ARENA_SIZE = 272, 4096
FILE_ID = bytes(range(16))


def header(state: int, signature: bytes = SIGNATURE) -> bytes:
    """Return the beginning of a file, https://systemd.io/JOURNAL_FILE_FORMAT/."""
    ids = FILE_ID + b"m" * 16 + b"b" * 16 + b"s" * 16
    return struct.pack("<8sIIB7x64sQQ", signature, 2, 0, state, ids, HEADER_SIZE, ARENA_SIZE).ljust(
        HEADER_SIZE, b"\0"
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "system.journal"


def read(path: Path) -> FileHeader | None:
    with path.open("rb") as file:
        return read_header(file.fileno())


def write(path: Path, data: bytes, size: int = HEADER_SIZE + ARENA_SIZE) -> None:
    path.write_bytes(data)
    os.truncate(path, size)


@pytest.mark.parametrize("state", list(FileState))
def test_a_header_has_the_state_and_the_id_of_the_file(path: Path, state: FileState) -> None:
    write(path, header(state))
    assert read(path) == FileHeader(state, FILE_ID)


@pytest.mark.parametrize(
    ("data", "size"),
    [
        (b"", 0),  # journald has just created it
        (header(2), 100),  # the header is cut
        (header(2), HEADER_SIZE + ARENA_SIZE - 1),  # the header has reached the disk first
        (header(2, b"LPKSHHRX"), HEADER_SIZE + ARENA_SIZE),
        (header(3), HEADER_SIZE + ARENA_SIZE),  # no state of today
    ],
)
def test_a_file_that_readers_refuse_has_no_header(path: Path, data: bytes, size: int) -> None:
    write(path, data, size)
    assert read(path) is None


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/machine-id").write_text("0123456789abcdef0123456789abcdef\n")
    return tmp_path


DYNAMIC_USER = 61184


def test_the_directory_of_the_systems_journal_has_the_machines_id(root: Path) -> None:
    name = "0123456789abcdef0123456789abcdef"
    assert journal_files("journald", DYNAMIC_USER, root) == JournalFiles(
        root / "var/log/journal" / name, root / "run/log/journal" / name / "system.journal"
    )


def test_the_directory_of_a_namespace_has_its_name(root: Path) -> None:
    files = journal_files("journald@ackd", DYNAMIC_USER, root)
    assert files.directory.name == "0123456789abcdef0123456789abcdef.ackd"
    assert files.volatile.parent.name == files.directory.name


@pytest.mark.parametrize(
    ("user", "journald", "name"),
    [
        (0, "journald", "system"),
        (999, "journald", "system"),
        (1000, "journald", "user-1000"),
        (DYNAMIC_USER, "journald", "system"),
        (65534, "journald", "system"),
        (1000, "journald@ackd", "system"),
    ],
)
def test_only_ordinary_users_have_files_of_their_own(
    root: Path, user: int, journald: str, name: str
) -> None:
    files = journal_files(journald, user, root)
    assert (files.active, files.archived) == (f"{name}.journal", f"{name}@")


def test_a_machine_without_an_id_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        journal_files("journald", 0, tmp_path)
