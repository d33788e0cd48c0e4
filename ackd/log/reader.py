"""Follows the records of a log, in order."""

from typing import Protocol

from ackd.log.format import FRAME_SIZE, HEADER_SIZE, later_record, padded, record_end
from ackd.log.storage import Segment


class Source(Protocol):
    """A log, as its readers see it."""

    synced: int

    def segment_of(self, number: int) -> Segment | None:
        """Return the segment with a record, or else the first segment with a later one."""

    def load(self, segment: Segment) -> memoryview:
        """Return a segment's bytes. Raises OSError."""


class Reader:
    """Returns records one after the other; `number` is the number of the next one.

    Gaps, and records that the log does not have any more, are skipped.
    """

    __slots__ = ("_end", "_segment", "_source", "_start", "_view", "number")

    def __init__(self, source: Source, start: int) -> None:
        self.number = start
        self._source = source
        self._segment: Segment | None = None
        self._view = memoryview(b"")
        self._start = self._end = 0  # of the record, in the segment

    def peek(self, stop: int | None = None) -> bytes | None:
        """Return the next record before number `stop`, by default before `synced`; None at the end.

        Raises OSError if the log can't be read.
        """
        if stop is None:
            stop = self._source.synced
        if self.number >= stop:
            return None
        segment = self._segment
        if not self._end and segment and self.number < segment.end:
            self._end = record_end(self._view, self._start, segment.header, self.number)
        if not self._end and not self._find(stop):
            return None
        return bytes(self._view[self._start + FRAME_SIZE : self._end])

    def advance(self) -> None:
        """Go on to the record after the one that `peek` has returned."""
        self._start = padded(self._end)
        self._end = 0
        self.number += 1

    def _find(self, stop: int) -> bool:
        """Find the next record; return whether there is one before number `stop`."""
        while self.number < stop:
            segment = self._segment
            if not segment or self.number >= segment.end:
                segment = self._source.segment_of(self.number)
                if not segment:
                    return False
                if segment is not self._segment:
                    self._enter(segment)
            if self._look(segment):
                return self.number < stop
            self.number = segment.end  # the segment has no more records
        return False

    def _enter(self, segment: Segment) -> None:
        self._view = self._source.load(segment)
        self._segment = segment
        wanted, self.number = self.number, segment.header.first
        self._start, self._end = HEADER_SIZE, 0
        while self._look(segment) and self.number < wanted:
            self.advance()
        self.number = max(self.number, wanted)

    def _look(self, segment: Segment) -> bool:
        """Find the next record of the segment; return whether there is one."""
        if not self._end:
            self._end = record_end(self._view, self._start, segment.header, self.number)
        if not self._end:
            later = later_record(self._view, self._start, segment.header, self.number)
            if later:
                self._start, self.number = later
                self._end = record_end(self._view, self._start, segment.header, self.number)
        return bool(self._end) and self.number < segment.end
