"""The bytes of the log, in memory and in files alike.

A segment is a header and records one after the other. A record is a frame (length, checksum,
number), its data, and padding to a multiple of 8 bytes. Nothing marks the end of a segment: the
reader stops where no record with the next number follows.

A segment's memory or file is used again and again, and is not erased in between. Each use draws a
new salt, which is part of each checksum. So a record of an earlier use is never taken for a record
of this one; SQLite's write-ahead log does the same, https://sqlite.org/fileformat2.html#walformat.
A client can't send bytes that look like a record, because it does not know the salt.

Numbers have the byte order of the host.
"""

import os
import struct
from collections.abc import Iterator
from typing import NamedTuple
from zlib import crc32

_MAGIC = b"ackd log"
VERSION = 1
# magic, version, salt, epoch, first, keep, checked; then the checksum of these
_HEADER = struct.Struct("=8sIIQQQI")
CHECKSUM = struct.Struct("=I")
HEADER_SIZE = _HEADER.size + CHECKSUM.size
# length, checksum, number
FRAME = struct.Struct("=IIQ")
FRAME_SIZE = FRAME.size
_SMALLEST = FRAME_SIZE + 8
MASK = 0xFFFF_FFFF


def new_salt() -> int:
    """Return the salt for a new use of a segment."""
    return int.from_bytes(os.urandom(4), "little")


class VersionError(Exception):
    """The log has been written in a format that this ackd does not know."""

    def __init__(self, version: int) -> None:
        super().__init__(f"its format has version {version}, and this ackd reads {VERSION}")
        self.version = version


# Named tuples, here and below: the decorator `dataclass` would delay each start noticeably.
class Header(NamedTuple):
    """The beginning of a segment.

    `epoch` counts the segments from 1, in the order in which they were begun; a segment of epoch 0
    has no records. `first` is the number of the first record. The records before `keep` were not
    needed any more when the segment was begun. If `checked` is False, a record's checksum covers
    its number only.
    """

    salt: int
    epoch: int
    first: int
    keep: int
    checked: bool

    def pack(self) -> bytes:
        """Return the bytes of the header."""
        values = (self.salt, self.epoch, self.first, self.keep, self.checked)
        data = _HEADER.pack(_MAGIC, VERSION, *values)
        return data + CHECKSUM.pack(crc32(data))


def read_header(data: bytes | memoryview) -> Header | None:
    """Return a segment's header; None if there is no whole header.

    Raises VersionError.
    """
    if len(data) < HEADER_SIZE:
        return None
    magic, version, salt, epoch, first, keep, checked = _HEADER.unpack_from(data)
    if magic != _MAGIC or not version:  # without a version: a torn header over zeros
        return None
    if version != VERSION:
        raise VersionError(version)
    (checksum,) = CHECKSUM.unpack_from(data, _HEADER.size)
    if checksum != crc32(data[: _HEADER.size]):
        return None
    return Header(salt, epoch, first, keep, bool(checked))


def padded(size: int) -> int:
    """Return a size rounded up to a multiple of 8."""
    return size + 7 & ~7


def record_end(view: memoryview, start: int, header: Header, number: int) -> int:
    """Return where the data of record `number` end, whose frame is at `start`.

    Return 0 if no whole record with this number is there.
    """
    if start + FRAME_SIZE > len(view):
        return 0
    length, checksum, found = FRAME.unpack_from(view, start)
    end: int = start + FRAME_SIZE + length
    if found != number or not length or end > len(view):
        return 0
    right = header.salt + number & MASK
    if header.checked:
        right = crc32(view[start + FRAME_SIZE : end], right)
    return end if checksum == right else 0


def later_record(
    view: memoryview, start: int, header: Header, number: int
) -> tuple[int, int] | None:
    """Return the place and the number of the first whole record at `start` or after it.

    Its number must be greater than `number`. Before a power cut the disk may have stored any blocks
    of a commit that was not finished: whole records can follow a torn one. In memory none can.
    """
    if not header.checked:
        return None
    most = header.first + len(view) // _SMALLEST
    # The third and fourth word of a frame are the number.
    words = view[start + 8 : start + 8 + (len(view) - start - 8 & ~7)].cast("Q")
    for index, found in enumerate(words):
        if number < found <= most and record_end(view, start + 8 * index, header, found):
            return start + 8 * index, found
    return None


class Span(NamedTuple):
    """Records that follow each other without a gap, from `first` to the one before `end`."""

    first: int
    end: int


def spans(view: memoryview, header: Header) -> Iterator[Span]:
    """Yield all whole records of a segment."""
    place: tuple[int, int] | None = HEADER_SIZE, header.first
    while place:
        start, number = place
        first = number
        while end := record_end(view, start, header, number):
            start = padded(end)
            number += 1
        if number > first:
            yield Span(first, number)
        place = later_record(view, start, header, number)
