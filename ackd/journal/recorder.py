"""Where records go: one order for payloads and notes, and nothing taken that was not taken."""

import logging
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

from ackd.config import Recording
from ackd.records import Kind, Origin, Priority, Record

# How many records one connection may have written before the others have their turn: one read can
# hold 65,536 empty payloads.
TURN = 256
# How many payloads may be acknowledged in one turn if that takes fewer records than payloads: the
# acks are held as long as the client does not read them. And the bytes that these share at most.
BATCH, BATCH_BYTES = 1024, 128 * 1024
# Notes that may wait for a journal that takes none; about 300 bytes each.
BACKLOG = 4096
# Characters of a log line: one that no datagram can hold would be first in the backlog for ever.
_LONGEST_LINE = 8192


class Sink(Protocol):
    """Takes whole records or says that it can't. Never blocks."""

    reachable: bool
    why: str

    @property
    def capacity(self) -> int:
        """The bytes that one record may have."""

    def connect(self) -> bool:
        """Try to reach the other end again."""

    def put(self, record: bytes, /) -> bool:
        """Say whether the record was taken."""

    def doubtful(self) -> list[bytes]:
        """Return records that were taken and may be lost, once, for them to be repeated."""

    def fileno(self) -> int:
        """Return what to watch for room, as long as `reachable`."""

    def close(self) -> None:
        """Give the descriptor back."""


class Format(Protocol):
    """Turns records into bytes for a sink."""

    def origin(self, origin: Origin, /) -> bytes:
        """Return what all payloads of one connection share, to be passed to `payload`."""

    def payload(self, origin: bytes, sequence: int, payload: bytes, /) -> bytes:
        """Return the record of one payload."""

    def batches(
        self, origin: bytes, sequence: int, payloads: list[bytes], room: int, /
    ) -> Iterator[tuple[int, bytes]]:
        """Yield records that share payloads out among them, and how many of them each has.

        A record that has more than one payload has no more than `room` bytes.
        """

    def record(self, record: Record, /) -> bytes:
        """Return any other record."""

    def longest(self, payload: int, /) -> int:
        """Return the bytes that the record of a payload of so many bytes has at most."""


class Recorder:
    """Hands records to a sink, in order.

    `blocked` is True from the first record that was not taken until `resume` succeeds. Notes that
    were not taken wait in a bounded backlog, before any later payload; payloads never do: they are
    not taken, and stay with their connection.
    """

    def __init__(self, sink: Sink, form: Format) -> None:
        self.sink = sink
        self.recording = Recording.EACH
        self.blocked = not sink.reachable
        self._room = min(BATCH_BYTES, sink.capacity)
        self._format = form
        self._backlog: deque[bytes] = deque()
        self._left_out = 0

    @property
    def holds_up(self) -> bool:
        """Whether payloads must wait."""
        return self.blocked and self.recording is not Recording.NONE

    def origin(self, origin: Origin) -> bytes:
        """Return the connection's part of its payload records, made once."""
        return self._format.origin(origin)

    def longest(self, payload: int) -> int:
        """Return the bytes that the record of a payload of so many bytes has at most."""
        return self._format.longest(payload)

    def write(self, origin: bytes, sequence: int, payloads: list[bytes]) -> int:
        """Record payloads, the first as number `sequence`; return how many may be acknowledged."""
        if self.recording is Recording.NONE:
            return min(len(payloads), BATCH)
        if self.blocked:
            return 0
        if self.recording is Recording.BATCH and len(payloads) > 1:
            return self._write_batches(origin, sequence, payloads[:BATCH])
        put, form = self.sink.put, self._format.payload
        turn = payloads[:TURN]
        for taken, payload in enumerate(turn):
            if not put(form(origin, sequence + taken, payload)):
                self.blocked = True
                return taken
        return len(turn)

    def _write_batches(self, origin: bytes, sequence: int, payloads: list[bytes]) -> int:
        """Record payloads that came together in as few records as can be."""
        batches = self._format.batches(origin, sequence, payloads, self._room)
        taken = 0
        for count, record in islice(batches, TURN):
            if not self.sink.put(record):
                self.blocked = True
                break
            taken += count
        return taken

    def note(self, record: Record) -> None:
        """Record anything else, now or when the sink takes records again."""
        self._put_note(self._format.record(record))

    def resume(self) -> bool:
        """Try again what was not taken; say whether payloads may follow."""
        if not self.sink.reachable:
            self._repeat()
            if not self.sink.connect():
                return False
        while self._backlog:
            if not self.sink.put(self._backlog[0]):
                return False
            self._backlog.popleft()
        self.blocked = False
        self._tell_left_out()
        return not self.blocked

    def repeat(self) -> None:
        """Record once more, before anything else, what the sink may have lost."""
        self._repeat()
        self.resume()

    def mark(self) -> None:
        """Put an empty datagram behind all others: who reads it has dealt with those."""
        if not self.blocked:
            self.blocked = not self.sink.put(b"")

    def take_backlog(self) -> tuple[bytes, ...]:
        """Return the notes that were not taken, for a successor, and forget them."""
        notes = tuple(self._backlog)
        if self._left_out:
            notes += (self._format.record(self._what_was_left_out()),)
        self._backlog.clear()
        return notes

    def restore_backlog(self, notes: Iterable[bytes]) -> None:
        """Record the notes that a predecessor could not."""
        self._backlog.extend(notes)
        if self._backlog:
            self.blocked = True
            self.resume()

    def close(self) -> None:
        """Try the backlog one last time and give the sink's descriptor back."""
        self.resume()
        self.sink.close()

    def _repeat(self) -> None:
        records = self.sink.doubtful()
        if records:
            self.blocked = True
            self._backlog.extendleft(reversed(records))
            message = f"journald has ended; records repeated that may be lost: {len(records)}"
            self.note(Record(Kind.REPEATED, Priority.WARNING, message))

    def _put_note(self, data: bytes) -> None:
        if self.blocked or not self.sink.put(data):
            self.blocked = True
            self._keep(data)

    def _keep(self, data: bytes) -> None:
        if len(self._backlog) < BACKLOG:
            self._backlog.append(data)
        else:
            self._left_out += 1

    def _tell_left_out(self) -> None:
        if self._left_out:
            self.note(self._what_was_left_out())

    def _what_was_left_out(self) -> Record:
        message = f"left out {self._left_out} records about connections: the journal was full"
        self._left_out = 0
        return Record(Kind.LEFT_OUT, Priority.WARNING, message)


_PRIORITIES = (
    (logging.CRITICAL, Priority.CRITICAL),
    (logging.ERROR, Priority.ERROR),
    (logging.WARNING, Priority.WARNING),
    (logging.INFO, Priority.INFO),
)


class RecordHandler(logging.Handler):
    """Sends the program's own log lines the way of all records.

    `extra={"kind": Kind.X}` in a logging call gives the line its MESSAGE_ID.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        """Note one log line."""
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), Priority.DEBUG)
        kind = getattr(record, "kind", Kind.LOG)
        self._recorder.note(Record(kind, priority, self.format(record)[:_LONGEST_LINE]))
