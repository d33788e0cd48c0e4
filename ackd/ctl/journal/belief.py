"""Which records are believed: those that ackd's own units have written."""

from collections.abc import Mapping
from datetime import timedelta
from enum import Enum
from fnmatch import fnmatchcase

from ackd.journal.reader import BOOT, INVOCATION, UNIT, USER, next_entry, open_journals
from ackd.printable import printable

_UNITS = ("ackd.service", "ackd@*.service")
_OF_ACKD = {"SYSLOG_IDENTIFIER": b"ackd", "_TRANSPORT": b"journal"}
# DynamicUser= gives each of these users to one unit at a time, https://systemd.io/UIDS-GIDS/.
_DYNAMIC_USERS = range(61184, 65520)


class Doubt(Enum):
    """Why a record is not believed."""

    OTHER_UNIT = "not believed: another unit than ackd's has written them"
    OTHER_USER = "not believed: another user than that of ackd's unit has written them"
    NO_UNIT = "not believed: their process had no unit, or had ended before journald read them"


class Belief:
    """Decides whether the records in the journals of `namespace` are believed.

    `unit` is a pattern, as in glob(7), for the units that are believed; "" stands for ackd's own
    units, "*" for every process.
    """

    def __init__(self, namespace: str, unit: str) -> None:
        self._namespace = namespace
        self._patterns = (unit,) if unit else _UNITS
        self._doubts: dict[tuple[bytes, ...], Doubt | None] = {}  # by what is known of the writer
        self._first_users: dict[tuple[bytes, ...], bytes] = {}

    def doubt(self, fields: Mapping[str, bytes]) -> Doubt | None:
        """Return why the record with these fields is not believed; None if it is believed.

        Raises ValueError if the record has no user, which journald gives to each record.
        """
        if self._matches(b""):  # every process
            return None
        writer = tuple(fields.get(name, b"") for name in (BOOT, UNIT, INVOCATION, USER))
        if writer not in self._doubts:
            self._doubts[writer] = self._doubt_of(*writer)
        return self._doubts[writer]

    def _doubt_of(self, boot: bytes, unit: bytes, invocation: bytes, user: bytes) -> Doubt | None:
        if not unit:
            return None if self._is_user_of_any(boot, user) else Doubt.NO_UNIT
        if not self._matches(unit):
            return Doubt.OTHER_UNIT
        return None if self._is_user_of(boot, unit, invocation, user) else Doubt.OTHER_USER

    def _matches(self, unit: bytes) -> bool:
        return any(fnmatchcase(printable(unit), pattern) for pattern in self._patterns)

    def _is_user_of(self, boot: bytes, unit: bytes, invocation: bytes, user: bytes) -> bool:
        """Return whether a record with this unit can be from a process of this unit.

        journald remembers the unit of a process by the number of the process. Another process can
        get the number of an ackd that has ended, and can end before journald looks its unit up: its
        record has ackd's unit, journald-context.c. But the kernel sends the user along with each
        record. A unit keeps its dynamic user for the whole boot. An invocation of the unit that has
        no dynamic user was started with a user that other processes may have: then nothing is known
        about this record.
        """
        if int(user) in _DYNAMIC_USERS:
            return user == self._dynamic_user({BOOT: boot, UNIT: unit})
        started = {INVOCATION: invocation} if invocation else {BOOT: boot, UNIT: unit}
        return not self._dynamic_user(started)

    def _is_user_of_any(self, boot: bytes, user: bytes) -> bool:
        """Return whether a unit that is believed had this dynamic user in this boot.

        The kernel sends the user along with each record. journald looks up the unit when it first
        reads a record of a process; if the process has ended by then, the record has no unit. That
        can happen to ackd, but any other process can hide its unit in this way. No process can hide
        its user, and no other unit has a dynamic user of ackd's.
        """
        if int(user) not in _DYNAMIC_USERS:
            return False
        with open_journals(self._namespace, {}) as reader:
            units = filter(self._matches, reader.query_unique(UNIT))
            return any(user == self._dynamic_user({BOOT: boot, UNIT: unit}) for unit in units)

    def _dynamic_user(self, fields: Mapping[str, bytes]) -> bytes:
        """Return the dynamic user of the first of ackd's records with these fields; b"" for none.

        All records with these fields are of one boot.
        """
        key = tuple(fields.values())
        if key not in self._first_users:
            self._first_users[key] = self._find_dynamic_user(fields)
        return self._first_users[key]

    def _find_dynamic_user(self, fields: Mapping[str, bytes]) -> bytes:
        first: dict[timedelta, bytes] = {}
        with open_journals(self._namespace, {}) as reader:
            for user in reader.query_unique(USER):
                if int(user) not in _DYNAMIC_USERS:
                    continue
                reader.flush_matches()
                reader.add_match(**{**fields, **_OF_ACKD, USER: user})
                reader.seek_head()
                if entry := next_entry(reader):
                    first[entry["__MONOTONIC_TIMESTAMP"].timestamp] = user
        return first[min(first)] if first else b""
