"""Which records are believed: those that ackd's own units have written."""

from collections.abc import Callable, Mapping
from enum import Enum
from fnmatch import fnmatchcase
from typing import Any

from ackd.journal.reader import BOOT, INVOCATION, MACHINE, UNIT, USER, next_entry
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
    OTHER_MACHINE = "not believed: they name a machine for which another certificate speaks"


# So many writers are remembered: a client of a collector can invent any number of them.
_WRITERS = 10_000


class Belief:
    """Decides whether the records in some journals are believed.

    `open_reader` opens the journals: it returns a Reader of all their entries. `unit` is a pattern,
    as in glob(7), for the units that are believed; "" stands for ackd's own units, "*" for every
    process. `is_of_another` says of a machine's id whether the certificate of another node speaks
    for this machine.
    """

    def __init__(
        self,
        open_reader: Callable[[], Any],
        unit: str,
        is_of_another: Callable[[bytes], bool] | None = None,
    ) -> None:
        self._open_reader = open_reader
        self._patterns = (unit,) if unit else _UNITS
        self._every_process = self._matches(b"")
        self._is_of_another = is_of_another
        self._doubts: dict[tuple[bytes, ...], Doubt | None] = {}  # by what is known of the writer
        self._first_users: dict[tuple[bytes, ...], bytes] = {}

    def doubt(self, fields: Mapping[str, bytes]) -> Doubt | None:
        """Return why the record with these fields is not believed; None if it is believed.

        Raises ValueError if the record has no user, which journald gives to each record.
        """
        if self._every_process:
            return None
        get = fields.get
        writer = get(BOOT, b""), get(UNIT, b""), get(INVOCATION, b""), get(USER, b"")
        if self._is_of_another and self._is_of_another(get(MACHINE, b"")):
            return Doubt.OTHER_MACHINE
        if writer not in self._doubts:
            if len(self._doubts) > _WRITERS:
                self._doubts.clear()
                self._first_users.clear()
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
        with self._open_reader() as reader:
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
        first: dict[int, bytes] = {}
        with self._open_reader() as reader:
            for user in reader.query_unique(USER):
                if int(user) not in _DYNAMIC_USERS:
                    continue
                reader.flush_matches()
                reader.add_match(**{**fields, **_OF_ACKD, USER: user})
                reader.seek_head()
                if next_entry(reader):
                    first[reader._get_monotonic().timestamp] = user
        return first[min(first)] if first else b""
