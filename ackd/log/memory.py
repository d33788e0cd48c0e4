"""The log in memory: a file in a file system that is in memory, or one without a name."""

import mmap
import os
from collections.abc import Iterator
from heapq import heappop, heappush

from ackd.log.control import CONTROL_SIZE, ControlBlock
from ackd.log.format import HEADER_SIZE, Header, VersionError, read_header
from ackd.log.storage import Found, LogError, Part, Segment

_PLACE = "the log in memory"
_SEGMENT_SIZE = 256 * 1024
_SEGMENTS = 64
_SIZE = mmap.PAGESIZE + _SEGMENTS * _SEGMENT_SIZE
# Bytes of the file that its creator allocates: the control block and the segments that are in use
# while journald reads what it is sent.
FIRST_SEGMENTS = mmap.PAGESIZE + 4 * _SEGMENT_SIZE
_NO_BOOT = bytes(16)  # memory never outlives the boot


class MemoryStorage:
    """Segments in a mapped file, whose first page has the control block.

    The free slot with the lowest number is used next, so that few pages are ever touched.
    """

    place = _PLACE
    segment_size = _SEGMENT_SIZE
    limit = _SEGMENTS
    durable = False

    def __init__(self, descriptor: int | None = None) -> None:
        """Continue with the log in a file, or begin one in an empty file, or in one without a name.

        Raises LogError, and closes the descriptor then.
        """
        if descriptor is None:
            descriptor = os.memfd_create("ackd-log")  # memfd_create(2): it ends with this process
        self.descriptor = descriptor
        self._view = _mapped(descriptor)
        try:
            self._control = ControlBlock(self._view[:CONTROL_SIZE])
            self._headers = [read_header(self._header(slot)) for slot in range(_SEGMENTS)]
        except VersionError as error:
            os.close(descriptor)
            raise LogError(_PLACE, str(error)) from error
        self.found = Found.NEW
        if self._control.valid:
            self.found = Found.CLEAN if self._control.clean else Found.SAME_BOOT
        self._control.mark(clean=False, boot=_NO_BOOT)
        self.cursors = self._control.cursors
        self._free = [slot for slot, header in enumerate(self._headers) if not header]
        self._allocated: set[int] = set()  # slots whose pages this process has allocated
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)

    def stored(self) -> Iterator[Segment]:
        """Yield the segments of the process before, in any order."""
        for slot, header in enumerate(self._headers):
            if header:
                yield Segment(header, self._place(slot), header.first, HEADER_SIZE, slot=slot)

    def begin(self, header: Header) -> Segment:
        """Return a new segment in the free slot with the lowest number. Raises OSError.

        Its pages are allocated first: where there is no room, to write to a page of a mapping would
        end the process with SIGBUS, mmap(2).
        """
        slot = self._free[0]
        if slot not in self._allocated:
            os.posix_fallocate(self.descriptor, _start(slot), _SEGMENT_SIZE)
            self._allocated.add(slot)
        heappop(self._free)
        view = self._place(slot)
        view[:HEADER_SIZE] = header.pack()
        return Segment(header, view, header.first, HEADER_SIZE, slot=slot)

    def load(self, segment: Segment) -> memoryview:
        """Return a segment's bytes."""
        return self._place(segment.slot)

    def free(self, segment: Segment) -> None:
        """Let other segments use this one's slot."""
        heappush(self._free, segment.slot)

    def commit(self, parts: list[Part]) -> None:
        """Do nothing: memory needs no commit."""

    @property
    def descriptors(self) -> list[int]:
        """All open descriptors."""
        return [self.descriptor, self._event]

    def fileno(self) -> int:
        """Return a descriptor that is never readable."""
        return self._event

    def collect(self) -> None:
        """Do nothing: memory needs no commit."""

    def set_recovered(self) -> None:
        """Do nothing: memory does not outlive the boot."""

    def close(self, clean: bool) -> None:
        """Close the descriptors; for a `clean` end the next process finds Found.CLEAN."""
        self._control.mark(clean, _NO_BOOT)
        os.close(self._event)
        os.close(self.descriptor)

    def _place(self, slot: int) -> memoryview:
        return self._view[_start(slot) : _start(slot + 1)]

    def _header(self, slot: int) -> bytes:
        # To read a page of the mapping would allocate it.
        return os.pread(self.descriptor, HEADER_SIZE, _start(slot))


def _start(slot: int) -> int:
    return mmap.PAGESIZE + slot * _SEGMENT_SIZE


def _mapped(descriptor: int) -> memoryview:
    """Return the bytes of a log's file, or of a new file. Raises LogError if it is not a log."""
    try:
        if os.fstat(descriptor).st_size in (0, FIRST_SEGMENTS):
            os.ftruncate(descriptor, _SIZE)
        if os.fstat(descriptor).st_size == _SIZE:
            return memoryview(mmap.mmap(descriptor, _SIZE))
        problem = f"it does not have {_SIZE} bytes"
    except OSError as error:  # beyond RLIMIT_FSIZE, for example
        problem = f"{error.strerror}"
    os.close(descriptor)
    raise LogError(_PLACE, problem)
