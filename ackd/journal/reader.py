"""Opens the journals of this host with python-systemd, and says why if that is not possible."""

import glob
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from ackd.records import Kind

# Any process can write an entry like ackd's, but journald alone adds the fields that begin with an
# underscore, systemd.journal-fields(7).
UNIT, NAMESPACE, BOOT, USER = "_SYSTEMD_UNIT", "_NAMESPACE", "_BOOT_ID", "_UID"
INVOCATION, MACHINE, HOSTNAME = "_SYSTEMD_INVOCATION_ID", "_MACHINE_ID", "_HOSTNAME"
# When journald got the record; a member of the entries here, in microseconds since the epoch.
TIME = "__REALTIME_TIMESTAMP"
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
_MACHINE = Path("/etc/machine-id")
_REMEDY = "be root, or join the group systemd-journal and log in again"
# More than a file of 128 MiB has, SystemMaxFileSize= in journald.conf(5).
_ENTRIES_OF_A_FILE = 300_000
_ALL_NAMESPACES = 1 << 5  # SD_JOURNAL_ALL_NAMESPACES, for which python-systemd has no name


class NotReadableError(Exception):
    """The journal can't be read; the text says why, and what the user can do."""


def open_journals(namespace: str, matches: Mapping[str, str | bytes]) -> Any:
    """Return a systemd.journal.Reader of all entries with these fields; raises NotReadableError.

    Its query_unique() returns bytes.
    """
    journal = _library()
    _check(namespace)
    flags = journal.LOCAL_ONLY | (0 if namespace else _ALL_NAMESPACES)
    try:
        reader = _reader(matches, flags=flags, namespace=namespace or None)
    except OSError as error:
        raise not_readable(error) from error
    reader.fileno()  # from now on the reader notices new entries and new files
    return reader


def open_files(paths: Iterable[Path], matches: Mapping[str, str | bytes]) -> Any:
    """Return a Reader of all entries with these fields in some files; raises OSError.

    It notices new entries in these files.
    """
    return _reader(matches, files=[str(path) for path in paths])


def _reader(matches: Mapping[str, str | bytes], **place: Any) -> Any:
    reader = _library().Reader(converters=dict.fromkeys((UNIT, USER, MACHINE), bytes), **place)
    reader.data_threshold = 0  # otherwise a payload of more than 64 KiB may be cut
    reader.add_match(**matches)
    return reader


def _library() -> Any:
    try:
        from systemd import journal  # only here: a client's host may not have it
    except ImportError:
        raise NotReadableError("reading the journal takes python3-systemd: install it") from None
    return journal


def last_entries(user: int, unit: str, count: int) -> Iterator[Mapping[str, Any]]:
    """Yield the fields of at least the last `count` entries of ackd in all journals of this host.

    A value is bytes, or a list of bytes if an entry has the field more than once. Only entries are
    yielded that a process of `user` has sent: the kernel gives journald the sender's user. With a
    `unit`, only those of this unit. Raises NotReadableError.

    A file has an index for each value of a field, and a power cut can damage each of them: then
    later entries are found from the end, and not from the beginning. Users look for entries by the
    kind and by the unit, from the beginning on. So an entry is yielded only if it is found so, from
    a place that is earlier than the last file.
    """
    # Without the fields from which `ackctl verify` knows the writer, it believes no entry.
    needed = {USER, BOOT, UNIT, INVOCATION} if unit else {USER, BOOT}
    reader = open_journals("", {"SYSLOG_IDENTIFIER": "ackd", USER: str(user)})
    for kind in Kind:
        reader.add_match(MESSAGE_ID=kind.value)  # any of them
    if unit:
        reader.add_match(**{UNIT: unit})
    reader.seek_tail()
    try:
        if reader._previous(count + _ENTRIES_OF_A_FILE):
            reader.seek_realtime(reader._get_realtime())
        while reader._next():
            entry = reader._get_all()
            if needed <= entry.keys():
                yield entry
    except OSError as error:
        raise not_readable(error) from error


def next_entry(reader: Any, skip: int = 1) -> dict[str, Any]:
    """Return the `skip`-th entry from here, {} if there is none; raises NotReadableError.

    A value is bytes, or a list of bytes if the entry has the field more than once. TIME is an int.
    """
    try:
        if not reader._next(skip):
            return {}
        # get_next() would also convert each value, which takes four times as long.
        entry: dict[str, Any] = reader._get_all()
        entry[TIME] = reader._get_realtime()
    except OSError as error:
        raise not_readable(error) from error
    return entry


def cursor_of(reader: Any) -> str:
    """Return the cursor of the entry here; "" if there is none, or if its file is gone."""
    try:
        cursor: str = reader._get_cursor()
    except OSError:
        return ""
    return cursor


def directories(namespace: str) -> list[Path]:
    """Return the directories of the journals; raises NotReadableError."""
    try:
        machine = _MACHINE.read_text().strip()
    except OSError as error:
        raise not_readable(error) from error
    name = f"{machine}.{glob.escape(namespace)}" if namespace else f"{machine}*"
    parents = [path for path in _JOURNALS if path.is_dir()]
    return parents + [path for parent in parents for path in parent.glob(name)]


def _check(namespace: str) -> None:
    """Raise NotReadableError unless there is a journal and the user may read all of it.

    libsystemd would leave out the files that the user may not read.
    """
    found = directories(namespace)
    files = [path for parent in found for path in parent.glob("system*.journal")]
    for path in (*found, *files):
        if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            raise NotReadableError(f"no right to read {path}: {_REMEDY}")
    if not files:
        whose = f"of a namespace {namespace!r} " if namespace else ""
        raise NotReadableError(f"there is no journal {whose}on this host")


def not_readable(error: OSError) -> NotReadableError:
    """Return the error that says so of an error of the system."""
    what = f"{error.filename}: " if error.filename else ""
    return NotReadableError(f"the journal can't be read: {what}{error.strerror}")
