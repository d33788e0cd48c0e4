"""Reads payloads out of the journal, as ackd has recorded them."""

import argparse
import glob
import os
import select
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from ackd.ctl.journal.since import since
from ackd.journal.entry import payloads_of
from ackd.printable import printable
from ackd.records import Kind

# Any process can write an entry like ackd's, but journald alone adds the fields that begin with an
# underscore, systemd.journal-fields(7).
_UNIT, _NAMESPACE, _BOOT, _USER = "_SYSTEMD_UNIT", "_NAMESPACE", "_BOOT_ID", "_UID"
_UNITS = ("ackd.service", "ackd@*.service")
# DynamicUser= gives each of these users to one unit at a time, https://systemd.io/UIDS-GIDS/.
_DYNAMIC_USERS = range(61184, 65520)
_FIELDS = (
    *("MESSAGE", "ACKD_PEER", "ACKD_PEER_PORT", "ACKD_LISTENER", "ACKD_CONNECTION"),
    *("ACKD_SEQUENCE", "ACKD_COUNT", "ACKD_REPEATED", "ACKD_UNTERMINATED"),
    *(_UNIT, _NAMESPACE, _BOOT, _USER),
)
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
_MACHINE = Path("/etc/machine-id")
_REMEDY = "be root, or join the group systemd-journal and log in again"
_ALL_NAMESPACES = 1 << 5  # SD_JOURNAL_ALL_NAMESPACES, for which python-systemd has no name


class NotReadableError(Exception):
    """The journal can't be read; the text says why, and what the user can do."""


class Doubt(Enum):
    """Why a record is not believed."""

    OTHER_UNIT = "not believed: another unit than ackd's has written them"
    NO_UNIT = "not believed: their process had no unit, or had ended before journald read them"


@dataclass(frozen=True, slots=True)
class RecordedPayload:
    """A payload in the journal of a namespace, or in the system's journal if `journal` is "".

    `time` is when journald got the record. `repeated` says that ackd has recorded the payload again
    because journald may have lost the first record, `unterminated` that the client's close has
    ended the payload, not LF: it may be only the beginning of one. `doubt` is None for a record
    that is believed.
    """

    time: datetime
    peer: str
    port: int
    listener: str
    connection: str
    sequence: int
    payload: bytes
    repeated: bool
    unterminated: bool
    journal: str
    doubt: Doubt | None


class Entries:
    """The payloads in all journals of this host, or in the journal of one namespace, oldest first.

    `unit` is a pattern, as in glob(7), for the units that are believed; "" stands for ackd's own
    units. `since` is in seconds since the epoch. Raises NotReadableError also where python-systemd
    would find no entries and report nothing.
    """

    def __init__(self, namespace: str = "", unit: str = "", since: float = 0) -> None:
        self._units = (unit,) if unit else _UNITS
        self._namespace = namespace
        self._since = since
        self._cursor = ""
        self._users: dict[tuple[bytes, bytes], bool] = {}  # by boot and user: whether ackd's
        self._open()

    def __iter__(self) -> Iterator[RecordedPayload]:
        """Yield the payloads that have not been yielded yet; raises NotReadableError."""
        while entry := self._step(1):
            yield from self._payloads(entry)

    def last(self, count: int, wanted: Callable[[RecordedPayload], bool]) -> list[RecordedPayload]:
        """Return the last `count` wanted payloads; an iteration then begins after the last one."""
        self._reader.seek_tail()
        newest = entry = self._step(-1)
        found: list[RecordedPayload] = []
        while entry and entry["__REALTIME_TIMESTAMP"].timestamp() >= self._since:
            found.extend(filter(wanted, reversed(self._payloads(entry))))
            if len(found) >= count:
                break
            entry = self._step(-1)
        self._seek(newest["__CURSOR"] if newest else "")
        return found[count - 1 :: -1] if count else []

    def wait(self, seconds: float = 1.0) -> None:
        """Wait until there may be more payloads, or for so many seconds."""
        # Ctrl-C does not end Reader.wait().
        poll = select.poll()
        poll.register(self._reader, self._reader.get_events())
        poll.poll(seconds * 1000)
        self._reader.process()
        if _directories(self._namespace) != self._directories:
            self._open()

    def _open(self) -> None:
        """Open the journals; libsystemd does not notice a namespace that is created later."""
        self._directories = _directories(self._namespace)
        self._reader = _opened(self._namespace, MESSAGE_ID=Kind.PAYLOAD.value)
        self._seek(self._cursor)

    def _seek(self, cursor: str) -> None:
        """Go on after the entry with this cursor or, if that is "", at the time `since`."""
        if cursor:
            self._reader.seek_cursor(cursor)
            self._step(1)
        else:
            self._reader.seek_realtime(self._since)

    def _step(self, skip: int) -> Any:
        entry = _next(self._reader, skip)
        self._cursor = entry.get("__CURSOR", self._cursor)
        return entry

    def _payloads(self, entry: Mapping[str, Any]) -> list[RecordedPayload]:
        """Return the payloads of an entry; [] if the entry is not one that ackd writes."""
        # A field that an entry has twice is a list; ackd writes each field once.
        fields = {name: entry[name] for name in _FIELDS if isinstance(entry.get(name), bytes)}
        try:
            doubt = self._doubt(fields)
            return [
                RecordedPayload(
                    entry["__REALTIME_TIMESTAMP"],
                    printable(fields["ACKD_PEER"]),
                    int(fields["ACKD_PEER_PORT"]),
                    printable(fields["ACKD_LISTENER"]),
                    printable(fields["ACKD_CONNECTION"]),
                    sequence,
                    payload,
                    "ACKD_REPEATED" in fields,
                    "ACKD_UNTERMINATED" in fields,
                    printable(fields.get(_NAMESPACE, b"")),
                    doubt,
                )
                for sequence, payload in payloads_of(fields)
            ]
        except (KeyError, ValueError):
            return []

    def _doubt(self, fields: Mapping[str, bytes]) -> Doubt | None:
        unit = fields.get(_UNIT, b"")
        if self._believes(unit):
            return None
        if unit:
            return Doubt.OTHER_UNIT
        return None if self._is_ackds(fields[_BOOT], fields[_USER]) else Doubt.NO_UNIT

    def _believes(self, unit: bytes) -> bool:
        return any(fnmatchcase(printable(unit), pattern) for pattern in self._units)

    def _is_ackds(self, boot: bytes, user: bytes) -> bool:
        """Return whether a unit that is believed had this dynamic user in this boot.

        The kernel sends the user along with each record. journald looks up the unit when it first
        reads a record of a process; if the process has ended by then, the record has no unit. That
        can happen to ackd, but any other process can hide its unit in this way. No process can hide
        its user, and no other unit has a dynamic user of ackd's.
        """
        if int(user) not in _DYNAMIC_USERS:
            return False
        if (boot, user) not in self._users:
            matches = {_BOOT: boot, _USER: user, "SYSLOG_IDENTIFIER": b"ackd"}
            with _opened(self._namespace, **matches) as reader:
                units = (entry.get(_UNIT, b"") for entry in iter(lambda: _next(reader), {}))
                self._users[boot, user] = any(map(self._believes, units))
        return self._users[boot, user]


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the part of the journal to be read, and for the units to be believed."""
    option = parser.add_argument
    option("--since", metavar="T", type=since, default=0.0, help="only from this time on")
    option("--namespace", metavar="N", default="", help="only the journal of this namespace")
    option("--unit", metavar="U", default="", help="whose records to believe: a unit, or a pattern")


def _opened(namespace: str, **matches: str | bytes) -> Any:
    """Return a systemd.journal.Reader of all entries with these fields."""
    try:
        from systemd import journal  # only here: a client's host may not have it
    except ImportError:
        raise NotReadableError("reading the journal takes python3-systemd: install it") from None
    _check(namespace)
    flags = journal.LOCAL_ONLY | (0 if namespace else _ALL_NAMESPACES)
    converters = dict.fromkeys(_FIELDS, bytes)
    try:
        reader = journal.Reader(flags, converters=converters, namespace=namespace or None)
    except OSError as error:
        raise _not_readable(error) from error
    reader.fileno()  # from now on the reader notices new entries
    reader.data_threshold = 0  # otherwise a payload of more than 64 KiB may be cut
    reader.add_match(**matches)
    return reader


def _next(reader: Any, skip: int = 1) -> Any:
    try:
        return reader.get_next(skip)
    except OSError as error:
        raise _not_readable(error) from error


def _directories(namespace: str) -> list[Path]:
    """Return the directories of the journals; raises NotReadableError."""
    try:
        machine = _MACHINE.read_text().strip()
    except OSError as error:
        raise _not_readable(error) from error
    name = f"{machine}.{glob.escape(namespace)}" if namespace else f"{machine}*"
    parents = [path for path in _JOURNALS if path.is_dir()]
    return parents + [path for parent in parents for path in parent.glob(name)]


def _check(namespace: str) -> None:
    """Raise NotReadableError unless there is a journal and the user may read all of it.

    libsystemd would leave out the files that the user may not read.
    """
    directories = _directories(namespace)
    files = [path for parent in directories for path in parent.glob("system*.journal")]
    for path in (*directories, *files):
        if not os.access(path, os.R_OK | (os.X_OK if path.is_dir() else 0)):
            raise NotReadableError(f"no right to read {path}: {_REMEDY}")
    if not files:
        whose = f"of a namespace {namespace!r} " if namespace else ""
        raise NotReadableError(f"there is no journal {whose}on this host")


def _not_readable(error: OSError) -> NotReadableError:
    what = f"{error.filename}: " if error.filename else ""
    return NotReadableError(f"the journal can't be read: {what}{error.strerror}")
