"""journald's files: where they are, what their headers say, and which of them are on the disk.

The format is documented at https://systemd.io/JOURNAL_FILE_FORMAT/. While journald writes a file, a
power cut can cost all of it: journald makes a file longer by mapping a header with the new size,
and if the header reaches the disk before the size does, all readers refuse the file. journald never
writes a file again that it has archived, and after fsync(2) all of it outlives a power cut.
"""

import os
import struct
from dataclasses import dataclass, replace
from enum import IntEnum
from pathlib import Path

_JOURNALS, _RUNTIME_JOURNALS = "var/log/journal", "run/log/journal"
_SIGNATURE = b"LPKSHHRH"
# signature, state, id of the file; then from byte 88 the sizes of header and arena
_HEADER = struct.Struct("<8s8xB7x16s48xQQ")
# Users with files of their own: uid_for_system_journal, src/basic/uid-alloc-range.c.
_REGULAR_USERS = range(1000, 61184)


class FileState(IntEnum):
    """What journald does with a file."""

    OFFLINE = 0
    ONLINE = 1
    ARCHIVED = 2


@dataclass(frozen=True, slots=True)
class FileHeader:
    """The header of a journal file; `file_id` stays the same when the file is renamed or copied."""

    state: FileState
    file_id: bytes


def read_header(descriptor: int) -> FileHeader | None:
    """Return the header of an open file; None if journald has not finished it, or if it is damaged.

    Raises OSError.
    """
    data = os.pread(descriptor, _HEADER.size, 0)
    if len(data) < _HEADER.size:
        return None
    signature, state, file_id, header_size, arena_size = _HEADER.unpack(data)
    whole = header_size + arena_size <= os.fstat(descriptor).st_size
    if signature != _SIGNATURE or state not in list(FileState) or not whole:
        return None
    return FileHeader(FileState(state), file_id)


@dataclass(frozen=True, slots=True)
class JournalFiles:
    """The files of one journald that can have ackd's records.

    `directory` has those on the disk. There journald writes the file `active`, and the names of
    archived files begin with `archived`. As long as journald stores records in memory, it writes
    the file `volatile`, a path.
    """

    directory: Path
    volatile: Path
    active: str = "system.journal"
    archived: str = "system@"


def journal_files(journald: str, user: int, root: Path = Path("/")) -> JournalFiles:
    """Return the files of a journald: `journald`, or `journald@NAME` for a namespace.

    `user` is the user of the process whose records are looked for. Raises OSError if the machine
    has no id, from which journald names the directory.
    """
    machine = (root / "etc/machine-id").read_text().strip()
    _, _, namespace = journald.partition("@")
    name = f"{machine}.{namespace}" if namespace else machine
    files = JournalFiles(
        root / _JOURNALS / name, root / _RUNTIME_JOURNALS / name / "system.journal"
    )
    # Only the system's journald has files for each user, SplitMode= in journald.conf(5).
    if user not in _REGULAR_USERS or namespace:
        return files
    return replace(files, active=f"user-{user}.journal", archived=f"user-{user}@")
