"""The log: all records that ackd has taken over, in order, until the journal keeps them."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple, TypeAlias
from zlib import crc32

from ackd.log.format import FRAME, FRAME_SIZE, HEADER_SIZE, MASK, Header, new_salt
from ackd.log.reader import Reader
from ackd.log.recovery import recover
from ackd.log.storage import READ, SAFE, SENT, Found, LogError, Part, Segment, Storage

_pack_frame = FRAME.pack_into
# The number of a record that has been sent, and its bytes.
SentRecord: TypeAlias = tuple[int, int]


class Outlet(NamedTuple):
    """What takes records on their way into the log: `send` takes a record, or raises an OSError.

    `note_refused` is called with this error, and `note_sent` with each record that was sent and is
    in the log.
    """

    send: Callable[[bytes], object]
    note_sent: Callable[[SentRecord], object]
    note_refused: Callable[[OSError], object]


class Log:
    """Records with numbers from 0, and cursors: the cursor N stands for all records before N.

    - `appended`: they are in the log.
    - `synced`: they outlive what the storage outlives. In memory this is always `appended`.
    - `sent`: the sink has taken them.
    - `read`: journald has certainly stored them.
    - `safe`: they will outlive a power cut in the journal. In memory this is always `read`.

    safe <= read <= sent <= appended, and synced <= appended. Other objects only read them.

    If the log is `durable`, it is in files, and its records outlive the power after a commit. It
    keeps the records from `safe` on then, and those from `read` on if it is in memory. `found`
    describes the log at its opening, and `gaps` are the records that could not be read then. It is
    `full` from a record for which it has no room until it has a free segment again.
    """

    __slots__ = (
        *("appended", "committing", "durable", "found", "full", "gaps"),
        *("read", "safe", "sent", "synced"),
        *("_cursors", "_epoch", "_salt", "_segment", "_segments", "_size"),
        *("_storage", "_target", "_unsynced", "_used", "_view"),
    )

    def __init__(self, storage: Storage) -> None:
        """Find the records that the storage has. Raises LogError."""
        self._storage = storage
        self.durable = storage.durable
        self._cursors = storage.cursors
        sent, read, safe = self._cursors
        keep = safe if self.durable else read
        torn = storage.found is Found.OTHER_BOOT
        try:
            recovered = recover(storage.stored(), storage.load, keep, torn)
        except OSError as error:
            storage.close(clean=False)
            raise LogError(storage.place, f"{error.strerror}", error.errno) from error
        for segment in recovered.free:
            storage.free(segment)
        self.found = storage.found
        self.gaps = tuple(recovered.gaps)
        self.appended = self.synced = recovered.end
        self.committing = self.full = False
        # No record is appended to another process's segment: the first record begins a new one.
        self._segment: Segment | None = None
        self._view = memoryview(b"")
        self._size = self._used = self._salt = 0
        self._segments = deque(recovered.segments)  # all others, the oldest first
        self._unsynced: list[Segment] = []  # those of them that the next commit must write
        self._epoch = recovered.epoch
        self._target = 0  # what `synced` becomes when the commit has ended
        # The cursors in files can be those of an earlier time after an unclean end. After a power
        # cut the journal can lack any record that is not safe.
        keep = recovered.keep
        if self.durable and self.found is not Found.CLEAN:
            sent = read = keep if self.found is Found.OTHER_BOOT else read
        self.set_sent(min(max(sent, read, keep), recovered.end))
        self.set_read(min(max(read, keep), recovered.end))
        self.set_safe(keep)

    def append(self, record: bytes) -> bool:
        """Append one record, as `extend` does; return whether there is room for it."""
        return bool(self.extend((record,)))

    def extend(self, records: Iterable[bytes], outlet: Outlet | None = None) -> int:
        """Append records of at least one byte each while there is room; return how many.

        An `outlet` sends each record before it is appended. If it refuses one, this ends: the
        records before are appended. Raises ValueError for a record that is larger than any segment.
        """
        first = number = self.appended
        send, note_sent, note_refused = outlet or (None, None, None)
        try:
            for record in records:
                length = len(record)
                full = self._used + FRAME_SIZE + length > self._size
                if full and not self._begin_segment(length):
                    break
                if send:
                    send(record)
                frame = self._used
                data = frame + FRAME_SIZE
                end = data + length
                following = number + 1
                checksum = self._salt + number & MASK
                # The frame comes last: a process that is killed leaves no frame without its data.
                self._view[data:end] = record
                if self.durable:
                    checksum = crc32(record, checksum)
                else:
                    self.synced = following
                _pack_frame(self._view, frame, length, checksum, number)
                self._used = end + 7 & ~7
                self.appended = following
                if note_sent:
                    self.sent = self._cursors[SENT] = following
                    note_sent((number, length))
                number = following
        except OSError as error:
            if not note_refused:
                raise
            note_refused(error)
        return number - first

    def records(self, start: int, end: int) -> Iterator[bytes]:
        """Yield the records from number `start` to the one before `end`, but for gaps.

        Raises OSError if the log can't be read.
        """
        reader = Reader(self, start)
        while (record := reader.peek(min(end, self.appended))) is not None:
            yield record
            reader.advance()

    def reader(self, start: int) -> Reader:
        """Return a reader of the records from number `start` on, up to `synced` at any time."""
        return Reader(self, start)

    def set_sent(self, number: int) -> None:
        """Move the cursor `sent`; it goes back when records must be sent again."""
        self.sent = self._cursors[SENT] = number

    def set_read(self, number: int) -> None:
        """Move the cursor `read` forward."""
        self.read = self._cursors[READ] = number
        if not self.durable:
            self.set_safe(number)

    def set_safe(self, number: int) -> None:
        """Move the cursor `safe` forward, and free the segments that are not needed any more."""
        self.safe = self._cursors[SAFE] = number
        while self._segments and self._segments[0].end <= number:
            self._storage.free(self._segments.popleft())
            self.full = False

    @property
    def place(self) -> str:
        """Where the log is, as text."""
        return self._storage.place

    @property
    def longest(self) -> int:
        """The bytes that a record can have."""
        return self._storage.segment_size - HEADER_SIZE - FRAME_SIZE

    @property
    def room(self) -> int:
        """The bytes that further records can take, each with FRAME_SIZE bytes more."""
        free = self._storage.limit - self._segments_in_use
        return free * (self._storage.segment_size - HEADER_SIZE) + self._size - self._used

    @property
    def size(self) -> int:
        """The bytes of the segments that are in use."""
        return self._segments_in_use * self._storage.segment_size

    # Commits

    def commit(self) -> None:
        """Begin to write all that is appended, unless a commit runs. Never blocks."""
        if self.committing or not self.durable:
            return
        self._note_end()
        segments = [*self._unsynced, self._segment] if self._segment else self._unsynced
        parts = [
            Part(segment, segment.written, segment.view[segment.written : segment.used])
            for segment in segments
            if segment.view and segment.written < segment.used
        ]
        for part in parts:
            part.segment.written = part.segment.used
        self._target = self.appended
        self.committing = bool(parts)
        self._storage.commit(parts)

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a commit has ended."""
        return self._storage.fileno()

    @property
    def descriptors(self) -> list[int]:
        """The descriptors that must stay open when the process goes into the background."""
        return self._storage.descriptors

    @property
    def unsynced(self) -> int:
        """The bytes of the full segments that have records which are not synced."""
        return len(self._unsynced) * self._storage.segment_size

    def collect(self) -> OSError | None:
        """Take the result of the commit that has ended.

        After an error the records from `synced` on are given up: they are not in the log any more.
        """
        error = self._storage.collect()
        self.committing = False
        if error:
            self._give_up()
            return error
        self.synced = self._target
        while self._unsynced and self._unsynced[0].end <= self.synced:
            self._unsynced.pop(0).view = None
        return None

    def set_recovered(self) -> None:
        """Note that the earlier records have been recovered, after an unclean end.

        Until then the next process finds the same as this one.
        """
        self._storage.set_recovered()

    def close(self, clean: bool) -> None:
        """Close the storage; for a `clean` end the next process finds Found.CLEAN."""
        self._storage.close(clean)

    def segment_of(self, number: int) -> Segment | None:
        """Return the segment that has a record, or else the first that has later ones."""
        self._note_end()
        if self._segment and number >= self._segment.header.first:
            return self._segment
        return next((each for each in self._segments if number < each.end), self._segment)

    def load(self, segment: Segment) -> memoryview:
        """Return a segment's bytes. Raises OSError."""
        return segment.view or self._storage.load(segment)

    # Segments

    @property
    def _segments_in_use(self) -> int:
        return len(self._segments) + (self._segment is not None)

    def _note_end(self) -> None:
        """Note in the segment what `append` has changed."""
        if self._segment:
            self._segment.end, self._segment.used = self.appended, self._used

    def _begin_segment(self, length: int) -> bool:
        """Begin a segment for a record; return False if no segment is free."""
        if length > self.longest:
            raise ValueError(f"a record of {length} bytes is larger than a segment of the log")
        if self._segments_in_use >= self._storage.limit:
            self.full = True
            return False
        self._end_segment()
        header = Header(new_salt(), self._epoch, self.appended, self.safe, self.durable)
        try:
            self._segment = self._storage.begin(header)
        except OSError:  # no room for the segment; an earlier segment can make room
            self.full = bool(self._segments)
            return False
        self.full = False
        self._view = self.load(self._segment)
        self._epoch += 1
        self._salt = header.salt
        self._used, self._size = HEADER_SIZE, self._storage.segment_size
        return True

    def _end_segment(self) -> None:
        """Append no more to the segment; the next record begins another one."""
        if self._segment:
            self._note_end()
            self._segments.append(self._segment)
            if self.durable:
                self._unsynced.append(self._segment)
        self._segment = None
        self._size = self._used = 0
        self.set_safe(self.safe)

    def _give_up(self) -> None:
        """Give up the records from `synced` on."""
        self._end_segment()
        self._unsynced.clear()
        self.appended = self.synced
        while self._segments and self._segments[-1].end > self.synced:
            segment = self._segments[-1]
            segment.spoiled = True
            segment.end = self.synced
            if segment.header.first < self.synced:
                break
            self._storage.free(self._segments.pop())
            self.full = False
        self.set_safe(self.safe)
