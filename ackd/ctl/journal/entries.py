"""Payloads out of the journal, as ackd has recorded them."""

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

# Any process may write an entry like ackd's, but not the fields that begin with an underscore:
# those journald adds, systemd.journal-fields(7).
_UNIT, _NAMESPACE, _BOOT, _USER = "_SYSTEMD_UNIT", "_NAMESPACE", "_BOOT_ID", "_UID"
_UNITS = ("ackd.service", "ackd@*.service")
# DynamicUser= gives one of these to one unit at a time, https://systemd.io/UIDS-GIDS/.
_DYNAMIC_USERS = range(61184, 65520)
_FIELDS = (
    *("MESSAGE", "ACKD_PEER", "ACKD_PEER_PORT", "ACKD_LISTENER", "ACKD_CONNECTION"),
    *("ACKD_SEQUENCE", "ACKD_COUNT", "ACKD_REPEATED", _UNIT, _NAMESPACE, _BOOT, _USER),
)
_JOURNALS = (Path("/var/log/journal"), Path("/run/log/journal"))
_MACHINE = Path("/etc/machine-id")
_REMEDY = "be root, or join the group systemd-journal and log in again"
_ALL_NAMESPACES = 1 << 5  # SD_JOURNAL_ALL_NAMESPACES, which python-systemd has no name for


class NotReadableError(Exception):
    """The journal can't be read; the text says why, and what to do."""


class Doubt(Enum):
    """Why a record is not believed."""

    OTHER_UNIT = "not believed: another unit than ackd's has written them"
    NO_UNIT = "not believed: their process had no unit, or had ended before journald read them"


@dataclass(frozen=True, slots=True)
class Recorded:
    """A payload in a journal: that of a namespace or, where it is "", the system's.

    `time` is when that journal got it; `repeated` if ackd has recorded it once more, since journald
    may have lost it; `doubt` is None if it is to be believed.
    """

    time: datetime
    peer: str
    port: int
    listener: str
    connection: str
    sequence: int
    payload: bytes
    repeated: bool
    journal: str
    doubt: Doubt | None


class Entries:
    """The payloads in all journals of this host, or in that of one namespace; oldest first.

    `unit` is a pattern, as in glob(7), for the units that are believed; "" is ackd's own. `since`
    is in seconds since the epoch. Raises NotReadableError where python-systemd finds nothing, and
    says nothing.
    """

    def __init__(self, namespace: str = "", unit: str = "", since: float = 0) -> None:
        self._units = (unit,) if unit else _UNITS
        self._namespace = namespace
        self._since = since
        self._cursor = ""
        self._users: dict[tuple[bytes, bytes], bool] = {}  # of a boot: whether ackd's
        self._open()

    def __iter__(self) -> Iterator[Recorded]:
        """Yield those that are there, and have not been yielded yet; raises NotReadableError."""
        while entry := self._step(1):
            yield from self._payloads(entry)

    def last(self, count: int, wanted: Callable[[Recorded], bool]) -> list[Recorded]:
        """Return the last `count` of those that are wanted; to iterate goes on behind them."""
        self._reader.seek_tail()
        newest = entry = self._step(-1)
        found: list[Recorded] = []
        while entry and entry["__REALTIME_TIMESTAMP"].timestamp() >= self._since:
            found.extend(filter(wanted, reversed(self._payloads(entry))))
            if len(found) >= count:
                break
            entry = self._step(-1)
        self._seek(newest["__CURSOR"] if newest else "")
        return found[count - 1 :: -1] if count else []

    def wait(self, seconds: float = 1.0) -> None:
        """Return when there may be more, or after so many seconds."""
        # Not Reader.wait(), during which Ctrl-C has to wait as well.
        poll = select.poll()
        poll.register(self._reader, self._reader.get_events())
        poll.poll(seconds * 1000)
        self._reader.process()
        if _directories(self._namespace) != self._directories:
            self._open()

    def _open(self) -> None:
        """Open the journals there are: libsystemd notices no namespace that comes later."""
        self._directories = _directories(self._namespace)
        self._reader = _opened(self._namespace, MESSAGE_ID=Kind.PAYLOAD.value)
        self._seek(self._cursor)

    def _seek(self, cursor: str) -> None:
        """Go on behind an entry or, without one, where the time begins."""
        if cursor:
            self._reader.seek_cursor(cursor)
            self._step(1)
        else:
            self._reader.seek_realtime(self._since)

    def _step(self, skip: int) -> Any:
        entry = _next(self._reader, skip)
        self._cursor = entry.get("__CURSOR", self._cursor)
        return entry

    def _payloads(self, entry: Mapping[str, Any]) -> list[Recorded]:
        """Return the payloads of an entry; none if it is not as ackd makes them."""
        # A field that is there twice is a list, which ackd makes none of.
        fields = {name: entry[name] for name in _FIELDS if isinstance(entry.get(name), bytes)}
        try:
            doubt = self._doubt(fields)
            return [
                Recorded(
                    entry["__REALTIME_TIMESTAMP"],
                    printable(fields["ACKD_PEER"]),
                    int(fields["ACKD_PEER_PORT"]),
                    printable(fields["ACKD_LISTENER"]),
                    printable(fields["ACKD_CONNECTION"]),
                    sequence,
                    payload,
                    "ACKD_REPEATED" in fields,
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
        """Say whether a unit that is believed has had this user, a dynamic one, in this boot.

        journald looks up a process's unit when it first reads from it; the user comes along with
        what it reads. So there is no unit if both ackd and journald have ended before that. Any
        other user may be that of further processes, which could forge such a record by ending.
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
    """Add what says where in the journal is looked, and who is believed."""
    option = parser.add_argument
    option("--since", metavar="T", type=since, default=0.0, help="only from this time on")
    option("--namespace", metavar="N", default="", help="only the journal of this namespace")
    option("--unit", metavar="U", default="", help="whose records to believe: a unit, or a pattern")


def _opened(namespace: str, **matches: str | bytes) -> Any:
    """Return a systemd.journal.Reader of all entries with these fields."""
    try:
        from systemd import journal  # not before here: a client's host need not have it
    except ImportError:
        raise NotReadableError("reading the journal takes python3-systemd: install it") from None
    _check(namespace)
    flags = journal.LOCAL_ONLY | (0 if namespace else _ALL_NAMESPACES)
    converters = dict.fromkeys(_FIELDS, bytes)
    try:
        reader = journal.Reader(flags, converters=converters, namespace=namespace or None)
    except OSError as error:
        raise _not_readable(error) from error
    reader.fileno()  # from here on it notices what is new
    reader.data_threshold = 0  # or a payload of more than 64 KiB may be cut
    reader.add_match(**matches)
    return reader


def _next(reader: Any, skip: int = 1) -> Any:
    try:
        return reader.get_next(skip)
    except OSError as error:
        raise _not_readable(error) from error


def _directories(namespace: str) -> list[Path]:
    """Return where the journals are; raises NotReadableError."""
    try:
        machine = _MACHINE.read_text().strip()
    except OSError as error:
        raise _not_readable(error) from error
    name = f"{machine}.{glob.escape(namespace)}" if namespace else f"{machine}*"
    parents = [path for path in _JOURNALS if path.is_dir()]
    return parents + [path for parent in parents for path in parent.glob(name)]


def _check(namespace: str) -> None:
    """Raise NotReadableError unless there is a journal, and all of it may be read.

    libsystemd goes on without those files that it may not read.
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
