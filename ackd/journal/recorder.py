"""The recorder: it writes payloads and notes to a sink in order, and counts the taken payloads."""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Protocol

from ackd.config import Recording
from ackd.loop import Loop
from ackd.records import Kind, Origin, Priority, Record

# Each payload needs these members, and Python 3.11 looks the members of an Enum up slowly.
_NONE, _BATCH = Recording.NONE, Recording.BATCH
# Records that one connection may have written in its turn: one read can hold 65,536 empty payloads.
TURN_RECORDS = 256
# Payloads that may be acknowledged in one turn, if several share a record or need none. This bounds
# the memory for acks that the client does not read.
TURN_PAYLOADS = 1024
# Bytes of a record that several payloads share, at most.
_SHARED_BYTES = 128 * 1024
# Notes that may wait while the sink takes no records; each has about 300 bytes.
MAX_NOTES = 4096


class Sink(Protocol):
    """Takes whole records, or refuses them. Never blocks.

    By default a sink is not watched: only journald shows which records it has stored. `name` says
    in messages what the sink is. A sink that is `gone` can never be reached again. `obstacle` says
    why the sink would take payloads and not store them; empty if it stores them, or if unknown.
    """

    name: str = "the journal"
    gone: bool = False
    obstacle: str = ""
    reachable: bool
    why: str

    @property
    def capacity(self) -> int:
        """The bytes that one record may have."""

    def connect(self) -> bool:
        """Try to reach the other end again; return whether it can be reached."""

    def put(self, record: bytes, /) -> bool:
        """Return whether the record was taken."""

    def fileno(self) -> int:
        """Return the descriptor that becomes writable when there is room, while `reachable`."""

    def close(self) -> None:
        """Close the descriptor."""

    def inspect(self) -> None:
        """Find out whether the other end stores payloads; `obstacle` has the result."""
        return

    def watch(self, loop: Loop, recorder: "Recorder", /) -> None:
        """Watch in the loop whether the other end loses records; have it record them again."""
        return

    def look(self) -> None:
        """Note which records the other end has stored; called at the end of each round."""
        return


class Format(Protocol):
    """Turns records into bytes for a sink."""

    def prefix(self, origin: Origin, /) -> bytes:
        """Return the bytes that the records of all payloads of one connection share."""

    def unterminated(self, prefix: bytes, /) -> bytes:
        """Return the prefix for a last line that the client's close has ended, not LF."""

    def payload(self, prefix: bytes, sequence: int, payload: bytes, /) -> bytes:
        """Return the record of one payload."""

    def batches(
        self, prefix: bytes, sequence: int, payloads: list[bytes], room: int, /
    ) -> Iterator[tuple[int, bytes]]:
        """Yield records of one or more payloads, each with the number of its payloads.

        A record of more than one payload has at most `room` bytes.
        """

    def record(self, record: Record, /) -> bytes:
        """Return any other record."""

    def longest(self, payload: int, /) -> int:
        """Return the most bytes that the record of a payload of `payload` bytes can have."""


class Recorder:
    """Writes records to a sink, in order.

    `blocked` is True from the first record that the sink refuses until `resume` succeeds. Notes,
    which are all records but payloads, then wait in a bounded backlog. Later payloads are recorded
    after the backlog. Payloads never wait here: a refused payload stays with its connection.
    """

    def __init__(self, sink: Sink, form: Format) -> None:
        self.sink = sink
        self.recording = Recording.EACH
        self.blocked = not sink.reachable
        self._room = min(_SHARED_BYTES, sink.capacity)
        self._format = form
        self._backlog: deque[bytes] = deque()
        self._left_out = 0

    @property
    def must_wait(self) -> bool:
        """Whether payloads must wait."""
        return self.blocked and self.recording is not _NONE

    @property
    def obstacle(self) -> str:
        """Why payloads must be refused, as text; empty if they need not be."""
        return "" if self.recording is _NONE else self.sink.obstacle

    def watch(self, loop: Loop) -> None:
        """From now on record again all records that the sink has taken and may have lost."""
        self.sink.watch(loop, self)

    def prefix(self, origin: Origin) -> bytes:
        """Return the bytes that a connection's payload records share, for `write`."""
        return self._format.prefix(origin)

    def unterminated(self, prefix: bytes) -> bytes:
        """Return the prefix for a last line that the client's close has ended, not LF."""
        return self._format.unterminated(prefix)

    def longest(self, payload: int) -> int:
        """Return the most bytes that the record of a payload of `payload` bytes can have."""
        return self._format.longest(payload)

    def write(self, prefix: bytes, sequence: int, payloads: list[bytes]) -> int:
        """Record payloads, the first as number `sequence`; return how many may be acknowledged."""
        if self.recording is _NONE:
            return min(len(payloads), TURN_PAYLOADS)
        if self.blocked:
            return 0
        if self.recording is _BATCH and len(payloads) > 1:
            return self._write_batches(prefix, sequence, payloads[:TURN_PAYLOADS])
        put, form = self.sink.put, self._format.payload
        turn = payloads[:TURN_RECORDS]
        for taken, payload in enumerate(turn):
            if not put(form(prefix, sequence + taken, payload)):
                self.blocked = True
                return taken
        return len(turn)

    def note(self, record: Record) -> None:
        """Record anything but a payload, now or when the sink takes records again."""
        data = self._format.record(record)
        if self.blocked or not self.sink.put(data):
            self.blocked = True
            self._keep(data)

    def put_first(self, records: Iterable[bytes]) -> None:
        """Let the next `resume` write these records first; they are in the sink's own form."""
        self.blocked = True
        self._backlog.extendleft(reversed(list(records)))

    def resume(self) -> bool:
        """Write the backlog; return whether payloads may be written now."""
        if not self.sink.reachable and not self.sink.connect():
            return False
        while self._backlog:
            if not self.sink.put(self._backlog[0]):
                return False
            self._backlog.popleft()
        self.blocked = False
        self._report_left_out()
        return not self.blocked

    def take_backlog(self) -> tuple[bytes, ...]:
        """Return the backlog for the next process, and empty it."""
        notes = tuple(self._backlog)
        if self._left_out:
            notes += (self._format.record(self._left_out_record()),)
        self._backlog.clear()
        return notes

    def restore_backlog(self, notes: Iterable[bytes]) -> None:
        """Record the backlog of the previous process."""
        self._backlog.extend(notes)
        if self._backlog:
            self.blocked = True
            self.resume()

    def close(self) -> None:
        """Try to write the backlog a last time, and close the sink."""
        self.resume()
        self.sink.close()

    def _write_batches(self, prefix: bytes, sequence: int, payloads: list[bytes]) -> int:
        """Record payloads in as few records as possible."""
        batches = self._format.batches(prefix, sequence, payloads, self._room)
        taken = 0
        for count, record in islice(batches, TURN_RECORDS):
            if not self.sink.put(record):
                self.blocked = True
                break
            taken += count
        return taken

    def _keep(self, note: bytes) -> None:
        if len(self._backlog) < MAX_NOTES:
            self._backlog.append(note)
        else:
            self._left_out += 1

    def _report_left_out(self) -> None:
        if self._left_out:
            self.note(self._left_out_record())

    def _left_out_record(self) -> Record:
        message = f"left out {self._left_out} records about connections: the journal was full"
        self._left_out = 0
        return Record(Kind.LEFT_OUT, Priority.WARNING, message)
