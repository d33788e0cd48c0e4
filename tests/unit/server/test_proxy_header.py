"""Headers of the PROXY protocol, byte by byte."""

from ipaddress import ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.protocol import EXPECTS_PROXY_HEADER
from ackd.records import LONGEST_FACT
from ackd.server.proxy_header import ProxyHeader, ProxyHeaderError, header_length, parse_header
from tests.support.proxy_headers import (
    CRC32C,
    LOCAL,
    NOOP,
    PROXY,
    SIGNATURE,
    TCP4,
    TCP6,
    TLS,
    TLS_CIPHER,
    TLS_NAME,
    TLS_VERSION,
    UDP4,
    UDP6,
    UNIX,
    UNSPECIFIED,
    addresses,
    binary,
    crc32c,
    field,
    line,
    proxied,
    tls_field,
    with_checksum,
)

V4, V6 = addresses("192.0.2.7"), addresses("2001:db8::7")
UNKNOWN = ProxyHeader()
CLIENT_4, CLIENT_6 = ProxyHeader("192.0.2.7", 51000), ProxyHeader("2001:db8::7", 51000)
# What HAProxy 3.0 sends with its check: a LOCAL header with a field of 12 bytes.
CHECK = binary(LOCAL, UNSPECIFIED, field(NOOP, bytes(12)))

GOOD = {
    line("192.0.2.7"): CLIENT_4,
    line("192.0.2.7", 0): ProxyHeader("192.0.2.7", 0),
    line("192.0.2.7", 65535): ProxyHeader("192.0.2.7", 65535),
    line("2001:db8::7"): CLIENT_6,
    line("2001:DB8:0:0:0:0:0:7"): CLIENT_6,
    line("::ffff:192.0.2.7"): CLIENT_4,
    line("::ffff:c000:207"): CLIENT_4,
    b"PROXY UNKNOWN\r\n": UNKNOWN,
    b"PROXY UNKNOWN " + b"f" * 91 + b"\r\n": UNKNOWN,
    b"PROXY UNKNOWN ffff::1 \r \0 65535\r\n": UNKNOWN,
    proxied("192.0.2.7"): CLIENT_4,
    proxied("2001:db8::7"): CLIENT_6,
    proxied("::ffff:192.0.2.7"): CLIENT_4,
    proxied("192.0.2.7", field(NOOP, b""), field(0xEE, b"x" * 300)): CLIENT_4,
    with_checksum(proxied("192.0.2.7", field(NOOP, b"\0"))): CLIENT_4,
    with_checksum(proxied("2001:db8::7")): CLIENT_6,
    binary(LOCAL, UNSPECIFIED): UNKNOWN,
    CHECK: UNKNOWN,
    binary(LOCAL, TCP4, V4): UNKNOWN,
    binary(LOCAL, 0xFF, b"any bytes"): UNKNOWN,
    binary(PROXY, UNSPECIFIED): UNKNOWN,
    binary(PROXY, UNSPECIFIED, b"any bytes"): UNKNOWN,
    binary(PROXY, UDP4, V4): UNKNOWN,
    binary(PROXY, UDP6, V6): UNKNOWN,
    binary(PROXY, UNIX, bytes(216)): UNKNOWN,
    binary(PROXY, UNIX + 1, bytes(216)): UNKNOWN,
    binary(PROXY, 0x10, V4): UNKNOWN,
}


@pytest.mark.parametrize("header", GOOD, ids=repr)
def test_a_header_says_who_the_client_is(header: bytes) -> None:
    assert header_length(header) == len(header)
    assert header_length(header + b"\r\nhello\n") == len(header)
    assert parse_header(header) == GOOD[header]


@pytest.mark.parametrize("header", GOOD, ids=repr)
def test_no_part_of_a_header_is_taken_for_a_whole_one(header: bytes) -> None:
    for end in range(1, len(header)):
        length = header_length(header[:end])
        assert length in (None, len(header))
        assert length is None or header.startswith(SIGNATURE)


WRONG_LINES = [
    b"PROXY \r\n",
    b"PROXY TCP4\r\n",
    b"PROXY UNKNOWN\n",
    b"PROXY UNKNOWNS\r\n",
    b"PROXY unknown\r\n",
    b"PROXY TCP5 192.0.2.7 127.0.0.1 1 2\r\n",
    b"PROXY UDP4 192.0.2.7 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\n",
    b"PROXY TCP4  192.0.2.7 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2 \r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2\r\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 1\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 1 2 3\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 01 2\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 1 65536\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 99999 2\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.1 -1 2\r\n",
    b"PROXY TCP4 192.0.2.07 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.256 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 192.0.2.7 127.0.0.256 1 2\r\n",
    b"PROXY TCP4 2001:db8::7 ::1 1 2\r\n",
    b"PROXY TCP6 192.0.2.7 127.0.0.1 1 2\r\n",
    b"PROXY TCP6 2001:db8::7 127.0.0.1 1 2\r\n",
    b"PROXY TCP6 2001::db8::7 ::1 1 2\r\n",
    b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    b"PROXY TCP4 \xd9\xa1.0.2.7 127.0.0.1 1 2\r\n",
    b"PROXY TCP4 evil\x1b[2J 127.0.0.1 1 2\r\n",
]


@pytest.mark.parametrize("wrong", WRONG_LINES, ids=repr)
def test_a_line_that_is_not_exactly_right_is_wrong(wrong: bytes) -> None:
    assert header_length(wrong) == len(wrong)
    with pytest.raises(ProxyHeaderError, match=r"^wrong PROXY header: PROXY ") as caught:
        parse_header(wrong)
    assert caught.value.reason.isprintable()


TOO_SHORT = "it is too short for its addresses"
CUT_OFF = "its last field is cut off"
CHECKSUM = "its checksum is wrong"
checked = with_checksum(proxied("192.0.2.7", field(NOOP, b"\0")))
WRONG_BINARY = {
    binary(0x11, TCP4, V4): "its version is 1, only 1 and 2 are known",
    binary(0x30, TCP4, V4): "its version is 3, only 1 and 2 are known",
    binary(0x22, TCP4, V4): "it has the unknown command 2",
    binary(PROXY, 0x41, V4): "it has the unknown protocol 0x41",
    binary(PROXY, 0x13, V4): "it has the unknown protocol 0x13",
    binary(PROXY, 0x03, V4): "it has the unknown protocol 0x03",
    binary(PROXY, TCP4): TOO_SHORT,
    binary(PROXY, TCP4, V4[:-1]): TOO_SHORT,
    binary(PROXY, TCP6, V6[:-1]): TOO_SHORT,
    binary(PROXY, UNIX, bytes(215)): TOO_SHORT,
    proxied("192.0.2.7", b"\x04"): CUT_OFF,
    proxied("192.0.2.7", b"\x04\0"): CUT_OFF,
    proxied("192.0.2.7", b"\x04\0\1"): CUT_OFF,
    proxied("192.0.2.7", field(NOOP, b"x")[:-1]): CUT_OFF,
    proxied("192.0.2.7", field(TLS, b"\1\0\0\0")): "its field about TLS is cut off",
    proxied("192.0.2.7", tls_field(1, 0, b"\x21\0\3TL")): CUT_OFF,
    proxied("192.0.2.7", field(CRC32C, b"")): CHECKSUM,
    proxied("192.0.2.7", field(CRC32C, bytes(4))): CHECKSUM,
    checked[:-1] + bytes((checked[-1] ^ 1,)): CHECKSUM,
    checked.replace(bytes((192, 0, 2, 7)), bytes((192, 0, 2, 8))): CHECKSUM,
}


@pytest.mark.parametrize("wrong", WRONG_BINARY, ids=repr)
def test_a_binary_header_that_is_not_exactly_right_is_wrong(wrong: bytes) -> None:
    assert header_length(wrong) == len(wrong)
    with pytest.raises(ProxyHeaderError) as caught:
        parse_header(wrong)
    assert caught.value.reason == f"wrong PROXY header: {WRONG_BINARY[wrong]}"


@pytest.mark.parametrize(
    ("beginning", "reason"),
    [
        (b"h", EXPECTS_PROXY_HEADER),
        (b"PROXY\n", EXPECTS_PROXY_HEADER),
        (b"proxy TCP4", EXPECTS_PROXY_HEADER),
        (b"\r\n\r\n\r", EXPECTS_PROXY_HEADER),
        (b"\x16\x03\x01", EXPECTS_PROXY_HEADER),
        (b"PROXY " + b"x" * 101, "wrong PROXY header: the line has no end in 107 bytes"),
        (b"PROXY " + b"x" * 101 + b"\n", "wrong PROXY header: the line has no end in 107 bytes"),
        (
            SIGNATURE + bytes((PROXY, TCP4)) + b"\x0f\xf1",
            "wrong PROXY header: it has 4097 bytes, 4096 are allowed",
        ),
    ],
    ids=repr,
)
def test_bytes_that_can_not_become_a_header_are_known_at_once(
    beginning: bytes, reason: str
) -> None:
    with pytest.raises(ProxyHeaderError) as caught:
        header_length(beginning)
    assert caught.value.reason == reason


TEXTS = (field(TLS_VERSION, b"TLSv1.3"), field(TLS_NAME, b"client.example"))
VERSION, NAME = ("ACKD_TLS_VERSION", "TLSv1.3"), ("ACKD_TLS_NAME", "client.example")


@pytest.mark.parametrize(
    ("tls", "facts"),
    [
        (tls_field(1, 1), ()),
        (tls_field(1, 1, *TEXTS), (VERSION,)),
        (tls_field(1, 0, *TEXTS), (VERSION,)),
        (tls_field(3, 0, *TEXTS), (VERSION, NAME)),
        (tls_field(5, 0, *TEXTS), (VERSION, NAME)),
        (tls_field(3, 20, *TEXTS), (VERSION,)),
        (tls_field(3, 1 << 24, *TEXTS), (VERSION,)),
        (tls_field(1, 0, field(TLS_CIPHER, b"AES")), (("ACKD_TLS_CIPHER", "AES"),)),
        (
            tls_field(3, 0, field(TLS_NAME, b"a\nB=\0\xff")),
            (("ACKD_TLS_NAME", "a\\nB=\\x00\\xff"),),
        ),
        (tls_field(3, 0, field(TLS_NAME, b"x" * LONGEST_FACT)), (("ACKD_TLS_NAME", "x" * 256),)),
        (tls_field(3, 0, field(TLS_NAME, b"x" * (LONGEST_FACT + 1)), TEXTS[0]), (VERSION,)),
        (tls_field(3, 0, field(0x28, b"DER"), field(0x99, b"")), ()),
    ],
    ids=range(12),
)
def test_a_balancer_says_what_it_knows_of_its_clients_tls(
    tls: bytes, facts: tuple[tuple[str, str], ...]
) -> None:
    client = ProxyHeader("192.0.2.7", 51000, facts)
    assert parse_header(with_checksum(proxied("192.0.2.7", tls))) == client
    assert parse_header(binary(PROXY, UNIX, bytes(216) + tls)) == ProxyHeader(facts=facts)


def test_the_checksum_is_the_standard_one() -> None:
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32/ISCSI


@settings(deadline=None)
@given(st.binary(max_size=60), st.sampled_from(sorted(GOOD)), st.integers(0, 60))
def test_any_bytes_are_a_header_or_not(noise: bytes, header: bytes, at: int) -> None:
    for data in (noise, SIGNATURE + noise, b"PROXY " + noise, header[:at] + noise + header[at:]):
        if not data:
            continue
        try:
            length = header_length(data)
            if length is None or length > len(data):
                continue
            found = parse_header(data[:length])
        except ProxyHeaderError:
            continue
        assert found == UNKNOWN or str(ip_address(found.address)) == found.address
        assert 0 <= found.port <= 65535


@settings(deadline=None)
@given(st.ip_addresses(), st.integers(0, 65535))
def test_any_client_is_found(client: object, port: int) -> None:
    address = ip_address(str(client))
    mapped = address.ipv4_mapped if address.version == 6 else None
    expected = ProxyHeader(str(mapped or address), port)
    assert parse_header(line(str(client), port)) == expected
    assert parse_header(with_checksum(proxied(str(client), port=port))) == expected
