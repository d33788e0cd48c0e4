"""Finds the records of a log that another process has written."""

from collections.abc import Callable, Iterable
from math import inf

from ackd.log.format import spans
from ackd.log.storage import Gap, Segment


class Recovered:
    """What a log has: segments with records that are still needed, oldest first.

    `end` is the number after the last record. `free` are the other segments.
    """

    def __init__(self, keep: int) -> None:
        self.keep = self.end = keep
        self.epoch = 1  # of the next segment
        self.segments: list[Segment] = []
        self.free: list[Segment] = []
        self.gaps: list[Gap] = []


def recover(
    stored: Iterable[Segment], load: Callable[[Segment], memoryview], keep: int, torn: bool
) -> Recovered:
    """Find all records from number `keep` on, and set the segments' `end`.

    Records of a failed commit are not found: the segment that was begun after the failure begins
    with the number of the first of them. After a power cut any segment can be `torn`. Otherwise all
    but the last one are whole, and are not read. Raises OSError.
    """
    segments = sorted(stored, key=lambda segment: segment.header.epoch)
    keep = max([keep, *(segment.header.keep for segment in segments)])
    result = Recovered(keep)
    for position, segment in enumerate(segments):
        first = segment.header.first
        cut = min((later.header.first for later in segments[position + 1 :]), default=inf)
        if segment.header.epoch and max(first, keep) < cut:
            if torn or cut == inf:
                _find_records(segment, load(segment), cut, result)
            else:
                segment.end = result.end = int(cut)
        needed = segment.end > max(first, keep)
        (result.segments if needed else result.free).append(segment)
        result.epoch = segment.header.epoch + 1
    return result


def _find_records(segment: Segment, view: memoryview, cut: float, result: Recovered) -> None:
    """Find a segment's needed records before number `cut`, and the gaps before them."""
    for span in spans(view, segment.header):
        end = int(min(span.end, cut))
        if span.first < end and end > result.keep:
            if span.first > result.end:
                result.gaps.append(Gap(result.end, span.first))
            segment.end = result.end = end
