"""The payloads of a run: what is sent is known again, and told from what was altered."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.ctl.runs.payloads import Part, Run, parse

RUN = Run("1a2b3c4d")


def test_a_payload_says_its_run_its_number_and_a_checksum() -> None:
    assert RUN.payload(17) == b"ackctl run=1a2b3c4d number=17 crc32=ef223ec7"
    assert parse(RUN.payload(17)) == Part("1a2b3c4d", 17)


def test_the_last_one_says_how_many_there_were() -> None:
    assert RUN.end(100) == b"ackctl run=1a2b3c4d end=100 crc32=0b7a47bb"
    assert parse(RUN.end(100)) == Part("1a2b3c4d", 100, end=True)


def test_a_run_has_a_name_of_its_own_unless_one_is_given() -> None:
    name = Run().name
    assert len(bytes.fromhex(name)) == 4
    assert Run().name != name
    assert Run("link-7").name == "link-7"


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "ü", "a=b", "x" * 65])
def test_not_everything_is_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="is not 1 to 64 letters"):
        Run(name)


@pytest.mark.parametrize("size", [*range(42, 60), 1400, 131072])
def test_it_is_as_long_as_it_is_asked_to_be_and_printable(size: int) -> None:
    payload = RUN.payload(17, size)
    assert len(payload) == max(size, len(RUN.payload(17)))
    assert payload.decode("ascii").isprintable()
    assert parse(payload) == Part("1a2b3c4d", 17)


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"ackctl", b"number=1", b"crc32=25c0f4a1 is it"]
)
def test_what_is_sent_otherwise_is_of_no_run(payload: bytes) -> None:
    assert parse(payload) is None


SENT = RUN.payload(17)
ALTERED = {
    "its end is cut off": (SENT[:-1], "1a2b3c4d", 17),
    "its beginning is cut off": (SENT[10:], "", 17),
    "both": (SENT[3:-3], "1a2b3c4d", 17),
    "one lost its line end": (SENT + SENT, "1a2b3c4d", 17),
    "another number": (SENT.replace(b"17", b"18"), "1a2b3c4d", 18),
    "another run": (SENT.replace(b"1a2b", b"1a2c"), "1a2c3c4d", 17),
    "in capitals": (SENT.upper().replace(b"ACKCTL RUN", b"ackctl run"), "1A2B3C4D", 0),
    "a bit of the checksum": (SENT[:-1] + b"8", "1a2b3c4d", 17),
    "no UTF-8": (SENT.replace(b"number", b"numb\xff\xfe"), "1a2b3c4d", 0),
    "a CR": (SENT + b"\r", "1a2b3c4d", 17),
}


@pytest.mark.parametrize(("payload", "run", "number"), ALTERED.values(), ids=ALTERED.keys())
def test_an_altered_one_is_known_and_read_as_far_as_legible(
    payload: bytes, run: str, number: int
) -> None:
    assert parse(payload) == Part(run, number, altered=True)


@settings(deadline=None)
@given(position=st.integers(0), bit=st.integers(0, 7), size=st.integers(0, 200))
def test_no_flipped_bit_goes_unnoticed(position: int, bit: int, size: int) -> None:
    payload = bytearray(RUN.payload(17, size))
    payload[position % len(payload)] ^= 1 << bit
    part = parse(bytes(payload))
    assert part
    assert part.altered


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_nothing_that_comes_breaks_it(payload: bytes) -> None:
    part = parse(payload)
    assert not part or part.altered
