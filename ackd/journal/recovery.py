"""After a power cut: which records of the log the journal does not have.

journald has the records before the log's cursor `safe` for certain, and may have lost any of the
others. Each record from there on is looked for in the journal. A record is there only if the
journal has all of its fields: after a power cut an entry can lack some of them.

The journal can have entries of other processes that look like ackd's, and they do not count: each
entry has the user that the kernel reports for its sender. A process of ackd's own user could change
the log itself as well.
"""

import logging
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from math import inf
from threading import Thread
from time import monotonic
from typing import Any, Protocol

from ackd.journal.entry import fields_of
from ackd.journal.reader import NotReadableError
from ackd.loop import Loop

log = logging.getLogger("ackd")

# Seconds that a round of the loop may take for this.
_SLICE = 0.005
# Seconds between two looks at the thread.
_WAIT = 0.05
# Records between two looks at the clock.
_OFTEN = 64
# Entries in a row that are not looked for: older ones are not either. Between the log's records
# there can be repeated ones.
_ENOUGH = 100_000
# Fields that only one of two records of the same thing has.
_MARK = "ACKD_REPEATED"

# Fields of an entry, in bytes; a field that is there several times is a list.
Entry = Mapping[str, Any]


class LogReader(Protocol):
    """Reads a log's records, in order."""

    number: int

    def peek(self, stop: int | None = None, /) -> bytes | None:
        """Return the next record before number `stop`; None at the end. Raises OSError."""

    def advance(self) -> None:
        """Go on to the next record."""


class RecoveredLog(Protocol):
    """The log, as far as it matters here."""

    safe: int
    appended: int

    def reader(self, start: int, /) -> LogReader:
        """Return a reader of the records from number `start` on."""


class Fingerprints:
    """Counts 64-bit numbers in little more than 8 bytes for each."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets = [array("q") for _ in range(1 << 16)]

    def add(self, fingerprint: int) -> None:
        """Add a number, which may be there already."""
        self._buckets[fingerprint & 0xFFFF].append(fingerprint)
        self.count += 1

    def remove(self, fingerprint: int) -> bool:
        """Remove a number once; return whether it was there."""
        try:
            self._buckets[fingerprint & 0xFFFF].remove(fingerprint)
        except ValueError:
            return False
        self.count -= 1
        return True


def fingerprint(entry: Entry) -> int:
    """Return a number that only records with the same fields have, in this process.

    Hashes have a random key in each process: a client can't choose payloads with equal hashes. The
    fields that journald adds, and those that a unit's LogExtraFields= adds, do not count.
    """
    try:
        return hash(frozenset([item for item in entry.items() if _counts(item[0])]))
    except TypeError:  # a list: ackd has no field several times
        return 0


def _counts(name: str) -> bool:
    return name == "MESSAGE" or (name.startswith("ACKD_") and name != _MARK) or name == "MESSAGE_ID"


class Recovery:
    """A timer that finds the missing records in slices, while the loop serves clients.

    When it has `done` that, `missing` has the numbers of the records that the journal lacks, as
    ranges in ascending order, and `on_done` is called. `progress` says how far it is. If the
    journal can't be read, all records from `safe` on count as missing: a record that is repeated,
    and marked as such, is better than one that is missing.

    The log is read by the loop, which also writes it. The journal is read by a thread: libsystemd
    waits for the disk, and lets other threads run meanwhile.
    """

    def __init__(
        self,
        recovered: RecoveredLog,
        read_journal: Callable[[], Iterable[Entry]],
        on_done: Callable[[], None] = lambda: None,
    ) -> None:
        """Take a function that returns the entries that count, newest first.

        It raises NotReadableError.
        """
        self.deadline = 0.0
        self.scheduled = inf
        self.done = False
        self.missing: list[range] = []
        self._log = recovered
        self._read_journal = read_journal
        self._on_done = on_done
        self._first, self._end = recovered.safe, recovered.appended
        self._wanted = Fingerprints()
        self._thread = Thread(target=self._search, daemon=True)
        self._stage, self._count = "reading the log", 0
        self._problem = ""
        self._steps = self._run()

    def watch(self, loop: Loop) -> None:
        """Begin, in the loop."""
        loop.timers.watch(self)

    @property
    def progress(self) -> str:
        """How far the recovery is, as text; empty when it is done."""
        if self.done:
            return ""
        total = self._end - self._first
        text = "looking for %d records in the journal after an unclean end: %s, %d"
        return text % (total, self._stage, self._count)

    def on_deadline(self) -> None:
        """Go on for a few milliseconds."""
        if self.advance(_SLICE):
            self.deadline = inf
            self._on_done()
        else:
            self.deadline = monotonic() + (_WAIT if self._thread.is_alive() else 0)

    def advance(self, seconds: float) -> bool:
        """Go on for so many seconds at most; return whether it is done."""
        end = monotonic() + seconds
        for busy in self._steps:
            if not busy or monotonic() >= end:
                return False
        self.done = True
        return True

    def _run(self) -> Iterator[bool]:
        """Do everything in small steps; yield False when the next step must wait."""
        for _, wanted in self._fingerprints():
            self._wanted.add(wanted)
            if self._is_time():
                yield True
        self._stage, self._count = "reading the journal", 0
        self._thread.start()
        while self._thread.is_alive():
            yield False
        self._stage, self._count = "comparing", 0
        if self._wanted.count:
            for number, wanted in self._fingerprints():
                if self._wanted.remove(wanted):
                    self._add(number)
                if self._is_time():
                    yield True
        self._report()

    def _search(self) -> None:
        """Remove from the wanted records those that the journal has; this runs in the thread."""
        strays = 0
        try:
            for entry in self._read_journal():
                if not self._wanted.count or strays == _ENOUGH:
                    return
                strays = 0 if self._wanted.remove(fingerprint(entry)) else strays + 1
                self._count += 1
        except NotReadableError as error:
            self._problem = str(error)

    def _is_time(self) -> bool:
        """Count a record; return whether the time of the slice may be over."""
        self._count += 1
        return self._count % _OFTEN == 0

    def _add(self, number: int) -> None:
        if self.missing and self.missing[-1].stop == number:
            self.missing[-1] = range(self.missing[-1].start, number + 1)
        else:
            self.missing.append(range(number, number + 1))

    def _fingerprints(self) -> Iterator[tuple[int, int]]:
        """Yield the number and the fingerprint of each record."""
        reader = self._log.reader(self._first)
        while record := reader.peek(self._end):
            yield reader.number, fingerprint(fields_of(record))
            reader.advance()

    def _report(self) -> None:
        count = sum(map(len, self.missing))
        if self._problem:
            log.error("records are repeated that may not be lost: %s", self._problem)
        text = "compared the log with the journal: records that the journal did not have: %d"
        log.log(logging.WARNING if count else logging.INFO, text, count)
