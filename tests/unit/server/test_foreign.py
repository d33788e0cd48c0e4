"""Clients of other protocols: recognised by their first bytes, however these are cut."""

import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackd.journal.datagram import DatagramSocket
from ackd.journal.entry import JournalFormat
from ackd.journal.recorder import Recorder
from ackd.protocol import (
    NO_HTTP,
    NO_PROXY_PROTOCOL,
    NO_TLS,
    rejection_line,
)
from ackd.server.connection import Wait
from ackd.server.foreign import ForeignClientError, examine
from tests.support.log_daemon import LogDaemon
from tests.support.single_connection import connection_of, shared_with

PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n"
FOREIGN = {
    b"PROXY TCP4 10.0.0.1 10.0.0.2 51000 10008\r\n": NO_PROXY_PROTOCOL,
    b"PROXY TCP6 2001:db8::1 ::ffff:10.0.0.2 51000 10008\r\n": NO_PROXY_PROTOCOL,
    b"PROXY UNKNOWN\r\n": NO_PROXY_PROTOCOL,
    b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n": NO_PROXY_PROTOCOL,
    PROXY_2: NO_PROXY_PROTOCOL,
    PROXY_2 + bytes.fromhex("2111000c0a0000010a000002c7382718"): NO_PROXY_PROTOCOL,
    PROXY_2 + bytes.fromhex("20000000"): NO_PROXY_PROTOCOL,
    bytes.fromhex("16030101fc010001f80303"): NO_TLS,
    bytes.fromhex("16030000350100003103000a"): NO_TLS,
    bytes.fromhex("1603010a0a01000a060303"): NO_TLS,
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n": NO_HTTP,
    b"GET / HTTP/1.0\n\n": NO_HTTP,
    b"POST http://a:10008/?q=1 HTTP/1.1\r\n": NO_HTTP,
    b"OPTIONS * HTTP/1.1\r\n": NO_HTTP,
    b"CONNECT a.example:10008 HTTP/1.1\r\n": NO_HTTP,
    b"CONNECT [::1]:10008 HTTP/1.1\r\n": NO_HTTP,
    b"M-SEARCH * HTTP/1.1\r\n": NO_HTTP,
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": NO_HTTP,
    b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n": NO_HTTP,
}
ORDINARY = [
    b"hello\n",
    b"\n",
    b"\r\n\r\n\0\r\n\0",
    b"\r\n\r\n\0\r\nQUIT\r\n",
    b"\0\n",
    b"PROXY\n",
    b"PROXY TCP4 is what it speaks\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 51000\r\n",
    b"PROXY UNKNOWN\n",
    b"proxy tcp4 10.0.0.1 10.0.0.2 51000 10008\r\n",
    b"PROXY TCP4 10.0.0.1 10.0.0.2 51000 10008 and " + b"x" * 200 + b"\r\n",
    b"\x16\n",
    b"\x16\x03\n",
    b"\x16\x03\x05",
    b"\x17\x03\x03\0\x10",
    b"GET well soon\n",
    b"GET /index.html\r\n",
    b"GET / HTTP\n",
    b"GET / HTTP/1.1 is how it begins\n",
    b"GET /a b HTTP/1.1\n",
    b"I like HTTP/1.1\n",
    b"hello\nGET / HTTP/1.1\r\n",
    b"GET " + b"x" * 9000 + b"\n",
    "Grüße /a HTTP/1.1\r\n".encode(),
]


def reason(*chunks: bytes) -> str:
    """Return why a connection that begins with these chunks is foreign, "" if it is not."""
    kept: bytes | None = b""
    try:
        for chunk in chunks:
            if kept is None:
                break
            kept = examine(kept + chunk)
            assert kept is None or len(kept) <= 4096
    except ForeignClientError as error:
        return error.reason
    return ""


def in_pairs(data: bytes) -> list[bytes]:
    return [data[at : at + 2] for at in range(0, len(data), 2)]


@pytest.mark.parametrize(("data", "why"), FOREIGN.items(), ids=[str(d[:20]) for d in FOREIGN])
def test_another_protocol_is_recognised(data: bytes, why: str) -> None:
    assert reason(data) == why
    assert reason(data + b"more\n") == why
    assert reason(*in_pairs(data)) == why


@pytest.mark.parametrize("data", ORDINARY, ids=[str(data[:40]) for data in ORDINARY])
def test_a_payload_that_only_begins_alike_is_a_payload(data: bytes) -> None:
    assert reason(data) == ""
    assert reason(*in_pairs(data)) == ""


@pytest.mark.parametrize("data", [line for line in ORDINARY if not PROXY_2.startswith(line[:1])])
def test_the_first_line_decides(data: bytes) -> None:
    assert data[-1:] != b"\n" or examine(data) is None


@given(
    st.sampled_from([*FOREIGN, *ORDINARY]).filter(lambda data: len(data) < 1000),
    st.lists(st.integers(1, 30), min_size=1),
)
def test_it_does_not_matter_how_the_bytes_are_cut(data: bytes, sizes: list[int]) -> None:
    chunks: list[bytes] = []
    rest = data
    while rest:
        size = sizes[len(chunks) % len(sizes)]
        chunks.append(rest[:size])
        rest = rest[size:]
    assert reason(*chunks) == reason(data)


@given(st.binary(max_size=300))
def test_any_bytes_are_decided_and_few_are_kept(data: bytes) -> None:
    whole = reason(data)
    assert reason(*in_pairs(data)) == whole


def test_the_first_bytes_may_come_before_and_after_a_restart(tmp_path: Path) -> None:
    logd = LogDaemon(tmp_path / "log")
    recorder = Recorder(DatagramSocket(str(tmp_path / "log")), JournalFormat())
    shared = shared_with(recorder)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.setblocking(False)
        before, after = connection_of(theirs, shared), connection_of(theirs, shared)
        ours.send(b"GET / HT")
        before.on_readable()
        after.restore(before.snapshot())
        ours.send(b"TP/1.1\r\nHost: a\r\n\r\n")
        after.on_readable()
        assert ours.recv(100) == rejection_line(NO_HTTP)
        assert ours.recv(100) == b""
        assert after.wait is Wait.LINGER
    (rejected,) = logd.read_all()
    assert b"turned away" in rejected
    recorder.close()
    logd.close()
