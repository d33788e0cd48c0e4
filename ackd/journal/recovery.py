"""After an unclean end: records of the log that the journal does not have are recorded again.

The journal may lack any record that was not `safe` when the power failed, or not `read` when the
process ended. Each of them is looked for in the journal. A record is there only if the journal has
all of its fields: after a power cut an entry can lack some of them.

The journal can have entries of other processes that look like ackd's. They do not count: each entry
has the user that the kernel reports for its sender. A process of ackd's own user could change the
log itself as well.
"""

import logging
from array import array
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from math import inf
from threading import Thread
from time import monotonic
from typing import Any, Protocol

from ackd.journal.entry import fields_of
from ackd.journal.reader import NotReadableError
from ackd.records import Kind

log = logging.getLogger("ackd")

# Seconds that a round of the loop may take for this.
_SLICE = 0.005
# Seconds between two looks at the thread, or at a sink that is full.
_WAIT = 0.01
# Records between two looks at the clock.
_OFTEN = 64
# A repeated record has this field, and the first record does not.
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

    read: int
    appended: int

    def reader(self, start: int, /) -> LogReader:
        """Return a reader of the records from number `start` on."""

    def set_recovered(self) -> None:
        """Note that all records of before are recovered."""


class Repeating(Protocol):
    """The recorder, as far as it matters here."""

    @property
    def log(self) -> RecoveredLog:
        """The log."""

    def hold(self) -> None:
        """Send no records from the log until `release`."""

    def repeat(self, number: int, record: bytes, /) -> bool:
        """Send the record with this number again, marked; return whether the sink has taken it."""

    def release(self, number: int, /) -> None:
        """Send the records from `number` on."""


class Fingerprints:
    """Counts 64-bit numbers in little more than 8 bytes for each."""

    def __init__(self) -> None:
        self.count = 0
        self._buckets: dict[int, array[int]] = defaultdict(partial(array, "q"))

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


def _fingerprint_of(record: bytes) -> int:
    try:
        return fingerprint(fields_of(record))
    except ValueError:  # ackd recorded elsewhere then, in another form
        return hash(record)


def _counts(name: str) -> bool:
    return name == "MESSAGE" or (name.startswith("ACKD_") and name != _MARK) or name == "MESSAGE_ID"


class Recovery:
    """A timer that has the missing records recorded again, in slices: the loop serves clients.

    Until it is `done`, no other record of the log is sent, so that all come in order. `progress`
    says how far it is, and `repeated` how many records were missing. If the journal can't be read,
    all records count as missing: a record that is repeated, and marked as such, is better than one
    that is missing.

    The loop reads the log, because the loop also writes it. A thread reads the journal: libsystemd
    waits for the disk, and lets other threads run meanwhile.
    """

    def __init__(self, recorder: Repeating, read_journal: Callable[[int], Iterable[Entry]]) -> None:
        """Recover what is in the log now.

        `read_journal` returns at least so many of the last entries, of those that count. It raises
        NotReadableError.
        """
        self.deadline = 0.0
        self.scheduled = inf
        self.done = False
        self.repeated = 0
        self._recorder = recorder
        self._read_journal = read_journal
        self._first, self._end = recorder.log.read, recorder.log.appended
        self._wanted = Fingerprints()
        self._thread = Thread(target=self._search, daemon=True)
        self._stage, self._count = "reading the log", 0
        self._problem = ""
        self._waits = False
        self._steps = self._run()
        recorder.hold()

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
        else:
            self.deadline = monotonic() + (_WAIT if self._waits else 0)

    def advance(self, seconds: float) -> bool:
        """Go on for so many seconds at most; return whether it is done."""
        end = monotonic() + seconds
        for waits in self._steps:
            if waits or monotonic() >= end:
                self._waits = waits
                return False
        return True

    def _run(self) -> Iterator[bool]:
        """Do everything in small steps; yield whether to wait before the next step."""
        yield from self._read_log()
        self._stage, self._count = "reading the journal", 0
        self._thread.start()
        while self._thread.is_alive():
            yield True
        self._stage, self._count = "comparing", 0
        if self._wanted.count:
            yield from self._repeat_missing()
        self._finish()

    def _read_log(self) -> Iterator[bool]:
        for _, _, wanted in self._fingerprints():
            self._wanted.add(wanted)
            if self._is_time():
                yield False

    def _search(self) -> None:
        """Remove from the wanted records those that the journal has; this runs in the thread."""
        try:
            for entry in self._read_journal(self._wanted.count):
                self._wanted.remove(fingerprint(entry))
                self._count += 1
                if not self._wanted.count:
                    return
        except NotReadableError as error:
            self._problem = f"records are repeated that may not be lost: {error}"

    def _repeat_missing(self) -> Iterator[bool]:
        for number, record, wanted in self._fingerprints():
            if self._wanted.remove(wanted):
                while not self._recorder.repeat(number, record):
                    yield True
                self.repeated += 1
            if self._is_time():
                yield False

    def _is_time(self) -> bool:
        """Count a record; return whether the time of the slice may be over."""
        self._count += 1
        return self._count % _OFTEN == 0

    def _fingerprints(self) -> Iterator[tuple[int, bytes, int]]:
        """Yield the number of each record, the record, and its fingerprint."""
        reader = self._recorder.log.reader(self._first)
        try:
            while (record := reader.peek(self._end)) is not None:
                yield reader.number, record, _fingerprint_of(record)
                reader.advance()
        except OSError as error:
            self._problem = f"records of the log are lost, it can't be read: {error.strerror}"

    def _finish(self) -> None:
        self.done = True
        self._recorder.log.set_recovered()
        self._recorder.release(self._end)
        if self._problem:
            log.error("%s", self._problem)
        text = "an unclean end: of %d records in the log, the journal lacked %d, which are repeated"
        level = logging.WARNING if self.repeated else logging.INFO
        total = self._end - self._first
        log.log(level, text, total, self.repeated, extra={"kind": Kind.REPEATED})
