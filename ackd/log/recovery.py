"""Finds the records of a log that another process has written."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from math import inf

from ackd.log.format import runs
from ackd.log.storage import Gap, Segment


@dataclass(slots=True)
class Recovered:
    """What a log has: segments with records that are still needed, oldest first.

    `end` is the number after the last record. `free` are the other segments.
    """

    keep: int
    end: int
    epoch: int = 0
    segments: list[Segment] = field(default_factory=list)
    free: list[Segment] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)


def recover(
    stored: Iterable[Segment], load: Callable[[Segment], memoryview], keep: int
) -> Recovered:
    """Find all records from number `keep` on, and set the segments' `end` and `used`.

    Records of a failed commit are not found: the segment that was begun after the failure has the
    same first number as they. Raises OSError.
    """
    segments = sorted(stored, key=lambda segment: segment.header.epoch)
    keep = max([keep, *(segment.header.keep for segment in segments)])
    result = Recovered(keep, keep)
    for position, segment in enumerate(segments):
        later = (after.header.first for after in segments[position + 1 :])
        _find_records(segment, load(segment), min(later, default=inf), result)
        result.epoch = segment.header.epoch + 1
    return result


def _find_records(segment: Segment, view: memoryview, cut: float, result: Recovered) -> None:
    segment.end = segment.header.first
    for run in runs(view, segment.header):
        end = min(run.end, cut)
        if run.first < end and end > result.keep:
            if run.first > result.end:
                result.gaps.append(Gap(result.end, run.first))
            segment.end = result.end = int(end)
    (result.segments if segment.end > result.keep else result.free).append(segment)
