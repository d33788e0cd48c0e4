"""The recorder: it writes payloads and notes to the log and a sink, in order."""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Protocol

from ackd.config import Recording
from ackd.log.log import Log, Outlet, SentRecord
from ackd.log.memory import MemoryStorage
from ackd.log.reader import Reader
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
# Bytes of the log that may be in memory and not on the disk, but for the segment that fills now.
_MOST_UNSYNCED = 8 * 1024 * 1024
# Notes that may wait while the sink takes no records; each has about 300 bytes.
MAX_NOTES = 4096


def _ignore(_sent: SentRecord) -> None:
    return


class Sink(Protocol):
    """Takes whole records, or refuses them. Never blocks.

    By default a sink stores what it takes: only journald shows which records it has stored. `name`
    says in messages what the sink is. A sink that is `gone` can never be reached again. `obstacle`
    says why the sink would take payloads and not store them; empty if it stores them, or if
    unknown. `confirms` is whether the sink itself moves the log's cursor `read`. While a sink
    `holds`, it takes no records for a moment, and resumes by itself.
    """

    name: str = "the journal"
    gone: bool = False
    obstacle: str = ""
    confirms: bool = False
    holds: bool = False
    reachable: bool
    why: str

    @property
    def capacity(self) -> int:
        """The bytes that one record may have."""

    @property
    def journald(self) -> str:
        """The name of the journald that stores the records; empty if it is unknown."""
        return ""

    @property
    def unit(self) -> str:
        """The unit to which the records belong; empty if it is unknown."""
        return ""

    def connect(self) -> bool:
        """Try to reach the other end again; return whether it can be reached."""

    def put(self, record: bytes, /) -> bool:
        """Return whether the record was taken: it is the record of the log's number `sent`."""

    # The parts of `put` in a sink that confirms records. The log calls them for each new record.

    @property
    def send(self) -> Callable[[bytes], object]:
        """What takes a record, or raises OSError."""
        return self.put

    @property
    def note_sent(self) -> Callable[[SentRecord], object]:
        """What notes that a record was taken."""
        return _ignore

    def note_refused(self, _error: OSError, /) -> bool:
        """Note why a record was not taken; return False."""
        return False

    def marked(self, record: bytes, /) -> bytes:
        """Return a record that is put again; a mark says so where a record can have marks."""
        return record

    def put_lost(self) -> bool:
        """Put the records again that the other end may have lost; return whether none is left."""
        return True

    def fileno(self) -> int:
        """Return the descriptor that becomes writable when there is room, while `reachable`."""

    def close(self) -> None:
        """Close the descriptor."""

    def inspect(self) -> None:
        """Find out whether the other end stores payloads; `obstacle` has the result."""
        return

    def watch(self, loop: Loop, recorder: "Recorder", /) -> None:
        """Watch in the loop whether the other end loses records, to put them again.

        A sink that confirms records sets `recorder.look`.
        """
        return

    def settle(self) -> None:
        """Have the other end show soon that it has stored everything."""
        return


class Format(Protocol):
    """Turns records into bytes for a sink."""

    def prefix(self, origin: Origin, /) -> bytes:
        """Return the bytes that the records of all payloads of one connection share."""

    def unterminated(self, prefix: bytes, /) -> bytes:
        """Return the prefix for a last line that the client's close has ended, not LF."""

    def payloads(self, prefix: bytes, sequence: int, payloads: list[bytes], /) -> Iterator[bytes]:
        """Yield one record for each payload; the first is number `sequence`."""

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
    """Writes records to the log, and from there to a sink, in order.

    Usually the sink takes each record at once. `blocked` is True from the first record that it
    refuses until `resume` succeeds. Notes, which are all records but payloads, then wait in the
    log; there is a bound to their number. Payloads do not wait in the log, unless acks wait for a
    commit of it (`acks_wait`): a refused payload stays with its connection. Payloads also wait
    while the log is `full`. The sink may have room then, so it is not `blocked`.

    With `acks_wait`, `write` and `note` only append to the log. `commit` begins to make durable
    what is appended, and `collect` takes the result. `resume` sends what is durable to the sink.
    """

    def __init__(
        self, sink: Sink, form: Format, log: Log | None = None, acks_wait: bool = False
    ) -> None:
        """Without a `log`, use a new one in memory."""
        log = log or Log(MemoryStorage())
        self.sink = sink
        self.log = log
        self.acks_wait = acks_wait
        self.recording = Recording.EACH
        self.blocked = not sink.reachable or log.sent < log.appended
        self._room = min(_SHARED_BYTES, sink.capacity)
        self._format = form
        # What takes records and returns how many: for a sink that stores what it takes, the log
        # would make nothing safer.
        self._take = log.extend if acks_wait or sink.confirms else self._put
        self._outlet = None if acks_wait else Outlet(sink.send, sink.note_sent, self._on_refused)
        # Notes which records the sink has stored; to be called at the end of each round. A sink
        # that confirms records replaces it.
        self.look: Callable[[float], None] = self._look
        self._reader: Reader | None = None  # while records wait in the log
        self._notes = 0  # that have been appended since `blocked`
        self._left_out = 0
        self.unreadable = ""  # why records that wait can't be read from the log
        self._resumptions = 0  # how often the sink has taken all that waited
        self._held = False
        self.volatile = ""  # why the journal does not outlive the power, with `acks_wait`

    @property
    def must_wait(self) -> bool:
        """Whether payloads must wait."""
        if self.recording is _NONE:
            return False
        if self.acks_wait:
            return self.full or self.log.unsynced >= _MOST_UNSYNCED
        return self.blocked or self.full

    @property
    def full(self) -> bool:
        """Whether the log has no room: the journal must store earlier records first."""
        return self.log.full

    @property
    def obstacle(self) -> str:
        """Why payloads must be refused, as text; empty if they need not be."""
        return "" if self.recording is _NONE else self.sink.obstacle or self.volatile

    @property
    def progress(self) -> tuple[int, int, int]:
        """Numbers that differ from those of before if the sink has taken or stored anything."""
        return self._resumptions, self.log.sent, self.log.read

    @property
    def unsettled(self) -> int:
        """How many records may not be stored yet where the sink stores them."""
        return self.log.appended - self.log.read

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
        """Record payloads, the first as number `sequence`; return how many were taken.

        These may be acknowledged; with `acks_wait`, once `log.synced` has reached the present
        `log.appended`.
        """
        if self.recording is _NONE:
            return min(len(payloads), TURN_PAYLOADS)
        if self.blocked and not self.acks_wait:
            return 0
        if self.recording is _BATCH and len(payloads) > 1:
            return self._write_batches(prefix, sequence, payloads[:TURN_PAYLOADS])
        turn = payloads if len(payloads) <= TURN_RECORDS else payloads[:TURN_RECORDS]
        return self._take(self._format.payloads(prefix, sequence, turn), self._outlet)

    def note(self, record: Record) -> None:
        """Record anything but a payload, now or when the sink takes records again."""
        if not self.blocked:
            self._report_left_out()
        data = self._format.record(record)
        if self.blocked or self.acks_wait or not self._take((data,), self._outlet):
            self._append_note(data)

    def append_notes(self, notes: Iterable[bytes]) -> None:
        """Record notes that a process of an earlier version has left, in the sink's own form."""
        self.blocked = True
        for note in notes:
            self._append_note(note)
        self.resume()

    def commit(self) -> None:
        """Begin to make durable what is appended, unless that is being done."""
        self.log.commit()

    def collect(self) -> OSError | None:
        """Take the result of a commit; to be called when the log's event is set."""
        return self.log.collect()

    def hold(self) -> None:
        """Send nothing from the log until `release`, but what the sink has lost."""
        self._held = True

    def repeat(self, number: int, record: bytes) -> bool:
        """Send a record of the log again, marked, while it is held; return whether it was taken."""
        if self.blocked:
            return False
        self.log.set_sent(number)
        if not self.sink.put(self.sink.marked(record)):
            self.blocked = True
            return False
        self.log.set_sent(number + 1)
        return True

    def release(self, number: int) -> None:
        """Send the records from `number` on: all before have been sent."""
        self.log.set_sent(number)
        self._held = False
        self.resume()

    def block(self) -> None:
        """Let the next `resume` put the sink's lost records before anything else."""
        self.blocked = True

    def resume(self) -> bool:
        """Send what waits in the log; return whether the sink takes more."""
        self.blocked = True
        if not self.sink.reachable and not self.sink.connect():
            return False
        try:
            self.unreadable = ""
            if not (self.sink.put_lost() and self._send_waiting()):
                return False
        except OSError as error:  # of the disk: the records stay in the log
            self.unreadable = error.strerror or str(error)
            self._reader = None
            return False
        self.blocked = False
        self._resumptions += 1
        self._notes = 0
        self._report_left_out()
        return not self.blocked

    def close(self, clean: bool = True) -> None:
        """Try a last time to send what waits, and close the sink and the log."""
        self._report_left_out()
        self.resume()
        self.sink.close()
        self.log.close(clean)

    def _look(self, _now: float) -> None:
        self.log.set_read(self.log.sent)
        self.log.set_safe(self.log.sent)

    def _put(self, records: Iterable[bytes], _outlet: Outlet | None) -> int:
        taken = 0
        for record in records:
            if not self.sink.put(record):
                self.blocked = True
                break
            taken += 1
        return taken

    def _on_refused(self, error: OSError) -> None:
        """Wait until the sink takes records again: it has refused one."""
        self.blocked = True
        self.sink.note_refused(error)

    def _write_batches(self, prefix: bytes, sequence: int, payloads: list[bytes]) -> int:
        """Record payloads in as few records as possible."""
        batches = self._format.batches(prefix, sequence, payloads, self._room)
        counts, records = zip(*islice(batches, TURN_RECORDS), strict=True)
        return sum(counts[: self._take(records, self._outlet)])

    def _send_waiting(self) -> bool:
        """Send the records of the log that have not been sent; return whether none is left.

        The sink's queue bounds how many these are in one call.
        """
        log = self.log
        if self._held or log.sent == log.synced:
            return True
        reader = self._reader = self._reader or log.reader(log.sent)
        while (record := reader.peek()) is not None:
            log.set_sent(reader.number)  # the numbers between are those of a gap
            if not self.sink.put(record):
                return False
            reader.advance()
            log.set_sent(reader.number)
        if not self.acks_wait:
            self._reader = None  # records that do not wait are not read from the log
        return True

    def _append_note(self, note: bytes) -> None:
        """Append a note that `resume` sends; while the sink takes records, nothing may wait."""
        waits = self.blocked or self.acks_wait
        if waits and self._notes < MAX_NOTES and self.log.append(note):
            self._notes += self.blocked
        else:
            self._left_out += 1

    def _report_left_out(self) -> None:
        if self._left_out and not self.full:
            message = f"left out {self._left_out} records about connections: the journal was full"
            self._left_out = self._notes = 0  # the report itself must not be left out
            self.note(Record(Kind.LEFT_OUT, Priority.WARNING, message))
