"""The payloads of a run: those as they were sent, and altered ones."""

import shutil
import subprocess
from base64 import b64encode
from binascii import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.ctl.runs.payloads import ReceivedPayload, Run, is_of_a_run, parse

RUN = Run("1a2b3c4d")


def test_a_payload_has_the_run_its_number_and_a_checksum() -> None:
    assert RUN.payload(17) == b"ackctl run=1a2b3c4d number=17 crc32=ef223ec7"
    assert parse(RUN.payload(17)) == ReceivedPayload("1a2b3c4d", 17)


def test_the_last_payload_has_the_number_of_payloads() -> None:
    assert RUN.end(100) == b"ackctl run=1a2b3c4d end=100 crc32=0b7a47bb"
    assert parse(RUN.end(100)) == ReceivedPayload("1a2b3c4d", 100, end=True)


def test_a_run_has_a_random_name_unless_a_name_is_given() -> None:
    name = Run().name
    assert len(bytes.fromhex(name)) == 4
    assert Run().name != name
    assert Run("link-7").name == "link-7"


@pytest.mark.parametrize("name", ["", "two words", "a\nb", "ü", "a=b", "x" * 65])
def test_invalid_names_raise_an_error(name: str) -> None:
    with pytest.raises(ValueError, match="is not 1 to 64 letters"):
        Run(name)


@pytest.mark.parametrize("size", [*range(42, 60), 1400, 131072])
def test_a_payload_has_the_size_that_is_asked_for_and_is_printable(size: int) -> None:
    payload = RUN.payload(17, size)
    assert len(payload) == max(size, len(RUN.payload(17)))
    assert payload.decode("ascii").isprintable()
    assert parse(payload) == ReceivedPayload("1a2b3c4d", 17)


@pytest.mark.parametrize(
    "payload", [b"", b"hello", b"ackctl", b"number=1", b"crc32=25c0f4a1 is it"]
)
def test_other_payloads_belong_to_no_run(payload: bytes) -> None:
    assert parse(payload) is None


SENT = RUN.payload(17)
ALTERED = {
    "the end is cut off": (SENT[:-1], "1a2b3c4d", 17),
    "the beginning is cut off": (SENT[10:], "", 17),
    "both ends are cut off": (SENT[3:-3], "1a2b3c4d", 17),
    "two payloads without a line end between them": (SENT + SENT, "1a2b3c4d", 17),
    "another number": (SENT.replace(b"17", b"18"), "1a2b3c4d", 18),
    "another run": (SENT.replace(b"1a2b", b"1a2c"), "1a2c3c4d", 17),
    "in capitals": (SENT.upper().replace(b"ACKCTL RUN", b"ackctl run"), "1A2B3C4D", 0),
    "another checksum": (SENT[:-1] + b"8", "1a2b3c4d", 17),
    "bytes that are not UTF-8": (SENT.replace(b"number", b"numb\xff\xfe"), "1a2b3c4d", 0),
    "a CR at the end": (SENT + b"\r", "1a2b3c4d", 17),
}


@pytest.mark.parametrize(("payload", "run", "number"), ALTERED.values(), ids=ALTERED.keys())
def test_an_altered_payload_is_recognized_and_read_as_far_as_possible(
    payload: bytes, run: str, number: int
) -> None:
    assert parse(payload) == ReceivedPayload(run, number, altered=True)


@pytest.mark.parametrize("body", ["number=0", "number=017", "end=00", "end=1 AA", "number=1" * 2])
def test_what_no_run_writes_is_altered_although_the_checksum_is_right(body: str) -> None:
    text = f"ackctl run=1a2b3c4d {body}".encode()
    part = parse(b"%b crc32=%08x" % (text, crc32(text)))
    assert part
    assert part.altered


def test_a_payload_that_seems_to_begin_everywhere_is_parsed_in_linear_time() -> None:
    # In quadratic time it would take minutes: the test would not end.
    assert parse(b"run=" * 250_000) is None


@settings(deadline=None)
@given(position=st.integers(0), bit=st.integers(0, 7), size=st.integers(0, 200))
def test_a_flipped_bit_is_noticed(position: int, bit: int, size: int) -> None:
    payload = bytearray(RUN.payload(17, size))
    payload[position % len(payload)] ^= 1 << bit
    part = parse(bytes(payload))
    assert part
    assert part.altered


@settings(deadline=None)
@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_can_be_parsed(payload: bytes) -> None:
    part = parse(payload)
    assert not part or part.altered


# A key

KEY = b"0123456789abcdef"
KEYED = Run("1a2b3c4d", KEY)


def test_with_a_key_a_payload_has_an_hmac() -> None:
    assert KEYED.payload(17) == b"ackctl run=1a2b3c4d number=17 hmac=fyt5/HbdySSCq1ZO"
    assert parse(KEYED.payload(17), KEY) == ReceivedPayload("1a2b3c4d", 17, keyed=True)
    assert parse(KEYED.end(9), KEY) == ReceivedPayload("1a2b3c4d", 9, end=True, keyed=True)


@pytest.mark.skipif(not shutil.which("openssl"), reason="openssl is not installed")
def test_the_hmac_is_that_of_openssl() -> None:
    command = ["openssl", "dgst", "-sha256", "-hmac", KEY.decode(), "-binary"]
    made = subprocess.run(command, input=SENT[:29], capture_output=True, check=True).stdout
    assert SENT[:29] == b"ackctl run=1a2b3c4d number=17"
    assert KEYED.payload(17)[35:] == b64encode(made[:12])


@pytest.mark.parametrize("size", [0, *range(48, 70), 1400, 131072])
def test_a_payload_with_a_key_has_the_size_that_is_asked_for(size: int) -> None:
    payload = KEYED.payload(17, size)
    assert len(payload) == max(size, len(KEYED.payload(17)))
    assert payload.decode("ascii").isprintable()
    assert parse(payload, KEY) == ReceivedPayload("1a2b3c4d", 17, keyed=True)


@pytest.mark.parametrize("key", [b"", KEY[::-1], KEY + b"\n"])
def test_a_payload_that_was_not_made_with_the_key_is_altered(key: bytes) -> None:
    received = parse(KEYED.payload(17), key)
    assert received == ReceivedPayload("1a2b3c4d", 17, altered=True, keyed=True)
    with_checksum = parse(RUN.payload(17), KEY)
    assert with_checksum == ReceivedPayload("1a2b3c4d", 17, altered=True)


@settings(deadline=None)
@given(position=st.integers(0), bit=st.integers(0, 7), size=st.integers(0, 200))
def test_a_flipped_bit_is_noticed_with_a_key(position: int, bit: int, size: int) -> None:
    payload = bytearray(KEYED.payload(17, size))
    payload[position % len(payload)] ^= 1 << bit
    part = parse(bytes(payload), KEY)
    assert part is None or part.altered


def test_the_key_is_not_shown() -> None:
    assert KEY.decode() not in repr(KEYED)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (RUN.payload(1), True),
        (RUN.end(1), True),
        (KEYED.payload(1, 200), True),
        (RUN.payload(1) + b"\r", False),
        (b"the log of ackctl run=1 crc32=00000000", False),
        (b"hello", False),
    ],
    ids=range(6),  # the padding differs in each process of the tests
)
def test_payloads_of_any_run_are_known(payload: bytes, expected: bool) -> None:
    assert is_of_a_run(payload) == expected
