"""Records in a segment: what is read, and what is not taken for a record."""

from zlib import crc32

import pytest

from ackd.log.format import (
    FRAME,
    HEADER_SIZE,
    Header,
    Span,
    VersionError,
    later_record,
    read_header,
    record_end,
    spans,
)

HEADER = Header(salt=0xFFFF_FFF0, epoch=3, first=2**40, keep=7, checked=True)


def frame(number: int, record: bytes, salt: int = HEADER.salt) -> bytes:
    checksum = crc32(record, salt + number & 0xFFFF_FFFF)
    data = FRAME.pack(len(record), checksum, number) + record
    return data + bytes(-len(data) % 8)


def view_of(*frames: bytes | bytearray) -> memoryview:
    return memoryview(HEADER.pack() + b"".join(frames) + bytes(64))


def test_a_header() -> None:
    assert read_header(HEADER.pack()) == HEADER
    assert len(HEADER.pack()) == HEADER_SIZE
    assert read_header(HEADER.pack()[:-1]) is None
    assert read_header(bytes(100)) is None


@pytest.mark.parametrize("byte", [0, 7, 12, 16, 24, 32, 40, HEADER_SIZE - 1])
def test_a_damaged_header_is_none(byte: int) -> None:
    data = bytearray(HEADER.pack())
    data[byte] ^= 4
    assert read_header(bytes(data)) is None


def test_another_version() -> None:
    data = bytearray(HEADER.pack())
    data[8] = 200
    with pytest.raises(VersionError) as error:
        read_header(bytes(data))
    assert error.value.version == 200


def test_records_follow_each_other() -> None:
    frames = [frame(HEADER.first + n, b"x" * (n + 1)) for n in range(20)]
    assert list(spans(view_of(*frames), HEADER)) == [Span(HEADER.first, HEADER.first + 20)]


def test_a_record_of_an_earlier_use_is_none() -> None:
    # It has the next number: it belongs to a commit that a power cut has undone.
    old = frame(HEADER.first + 1, b"old", salt=5)
    assert list(spans(view_of(frame(HEADER.first, b"new"), old), HEADER)) == [
        Span(HEADER.first, HEADER.first + 1)
    ]
    assert list(spans(view_of(old), HEADER)) == []


def test_a_record_with_an_old_number_is_none() -> None:
    frames = [frame(HEADER.first + n, b"x") for n in (0, 1, 1)]
    assert list(spans(view_of(*frames), HEADER)) == [Span(HEADER.first, HEADER.first + 2)]


def test_a_later_record_follows_a_torn_one() -> None:
    torn = bytearray(frame(HEADER.first + 1, b"torn" * 10))
    torn[-1] ^= 1
    view = view_of(frame(HEADER.first, b"x"), torn, frame(HEADER.first + 2, b"y"))
    assert list(spans(view, HEADER)) == [
        Span(HEADER.first, HEADER.first + 1),
        Span(HEADER.first + 2, HEADER.first + 3),
    ]


@pytest.mark.parametrize("salt", [0, 1, HEADER.salt ^ 1])
def test_a_payload_that_looks_like_a_record_is_none(salt: int) -> None:
    forged = frame(HEADER.first + 5, b"forged", salt)
    torn = bytearray(frame(HEADER.first, forged * 3))
    torn[4] ^= 1
    view = view_of(torn)
    assert later_record(view, HEADER_SIZE, HEADER, HEADER.first) is None


def test_a_record_without_bytes_is_none() -> None:
    assert record_end(view_of(frame(HEADER.first, b"")), HEADER_SIZE, HEADER, HEADER.first) == 0


def test_a_length_beyond_the_segment_is_none() -> None:
    view = view_of(FRAME.pack(2**32 - 1, 0, HEADER.first))
    assert record_end(view, HEADER_SIZE, HEADER, HEADER.first) == 0
