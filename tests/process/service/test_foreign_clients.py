"""Balancers, TLS and HTTP clients on the port: rejected, and nothing of them is recorded."""

import http.client
import signal
import ssl
from collections.abc import Callable

import pytest

from ackd.protocol import (
    JOURNAL_UNREACHABLE,
    NO_HTTP,
    NO_PROXY_PROTOCOL,
    NO_TLS,
    rejection_line,
)
from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.daemon_process import Daemon
from tests.support.peer import ACK, Peer

PROXY_1 = b"PROXY TCP4 10.0.0.1 10.0.0.2 51000 10008\r\n"
PROXY_2 = b"\r\n\r\n\0\r\nQUIT\n" + bytes.fromhex("2111000c0a0000010a000002c7382718")
REQUEST = b"POST / HTTP/1.1\r\nHost: a\r\n\r\nwritten by a web page\n"


def records_until_stop(ackd: Daemon) -> list[tuple[Kind, bytes]]:
    """Stop ackd; return the kind and message of each record but the one of the stop."""
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
    ackd.journal.next(Kind.STOPPED)
    entries = ackd.journal.waiting()
    return [(Kind(entry["MESSAGE_ID"].decode()), entry["MESSAGE"]) for entry in entries]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (PROXY_1, NO_PROXY_PROTOCOL),
        (PROXY_1 + b"hello\n", NO_PROXY_PROTOCOL),
        (PROXY_2, NO_PROXY_PROTOCOL),
        (PROXY_2 + b"hello\n", NO_PROXY_PROTOCOL),
        (REQUEST, NO_HTTP),
        (b"GET /" + b"a" * 300_000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", NO_HTTP),
    ],
    ids=["v1", "v1 and a payload", "v2", "v2 and a payload", "HTTP", "a long request"],
)
def test_it_is_told_why_and_nothing_is_recorded(
    start: StartDaemon, sent: bytes, reason: str
) -> None:
    ackd = start("max_payload: 16\n" if len(sent) < 1000 else "")
    with ackd.peer() as peer:
        port = peer.socket.getsockname()[1]
        peer.send(sent)
        refusal = b"not received: longer than 65536 bytes\n" if len(sent) > 1000 else b""
        peer.expect(refusal + rejection_line(reason))
        peer.expect_end()
    rejected = ackd.journal.next(Kind.REJECTED)
    assert rejected["MESSAGE"].startswith(b"turned away")
    assert reason.encode() in rejected["MESSAGE"]
    assert rejected["ACKD_PEER"] == b"127.0.0.1"
    assert rejected["ACKD_PEER_PORT"] == b"%d" % port
    ackd.signal(signal.SIGUSR1)
    counters = ackd.journal.next(Kind.COUNTERS)
    assert (counters["ACKD_TURNED_AWAY"], counters["ACKD_ACKNOWLEDGED"]) == (b"1", b"0")
    assert records_until_stop(ackd) == []


def handshake(ackd: Daemon) -> None:
    context = ssl.create_default_context()
    with ackd.peer() as peer, pytest.raises(OSError):
        context.wrap_socket(peer.socket, server_hostname="localhost")


def request(ackd: Daemon) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", ackd.port)
    connection.request("POST", "/", b"written by a web page\n")
    with pytest.raises(http.client.BadStatusLine):
        connection.getresponse()
    connection.close()


@pytest.mark.parametrize(
    ("connect", "reason"), [(handshake, NO_TLS), (request, NO_HTTP)], ids=["TLS", "HTTP"]
)
def test_many_connections_of_a_real_client_leave_one_line(
    start: StartDaemon, connect: Callable[[Daemon], None], reason: str
) -> None:
    ackd = start()
    for _ in range(10):
        connect(ackd)
    (rejected, _), (limited, left_out) = records_until_stop(ackd)
    assert (rejected, limited) == (Kind.REJECTED, Kind.LIMITED)
    assert left_out == b"left out about 127.0.0.1: turned away: 9, beyond 1 a minute"


def test_the_first_bytes_may_come_in_pieces(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as whole, ackd.peer() as pieces:
        for at in range(len(PROXY_1)):
            pieces.send(PROXY_1[at : at + 1])
            whole.send(b"x\n")
            whole.expect(ACK)  # so the piece before has been read
        pieces.expect(rejection_line(NO_PROXY_PROTOCOL))
        pieces.expect_end()
    assert ackd.journal.next(Kind.REJECTED)
    connected = [kind for kind, _ in records_until_stop(ackd) if kind is Kind.CONNECTED]
    assert len(connected) == 1  # `whole`


@pytest.mark.parametrize(
    "payloads",
    [
        [b"PROXY"],
        [b"GET well soon"],
        [b"", b"", b"\0", b"QUIT"],
        [b"\x16\x03"],
        [b"hello", PROXY_1[:-2], b"GET / HTTP/1.1", b"\x16\x03\x01"],
    ],
    ids=repr,
)
def test_what_only_begins_alike_is_acknowledged_at_once(
    start: StartDaemon, payloads: list[bytes]
) -> None:
    ackd = start()
    with ackd.peer() as peer:
        for payload in payloads:
            peer.send(payload + b"\r\n")
            peer.expect(ACK)
    assert ackd.journal.payloads(len(payloads)) == payloads
    assert ackd.journal.next(Kind.CONNECTED)
    assert ackd.journal.next(Kind.CLOSED)


def test_an_unfinished_first_line_is_a_payload_at_the_end(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"GET / HTTP/1.1")
        peer.half_close()
        peer.expect(ACK)
        peer.expect_end()
    assert ackd.journal.payloads(1) == [b"GET / HTTP/1.1"]
    assert ackd.journal.next(Kind.CONNECTED)


def test_a_client_that_leaves_in_its_first_line_leaves_its_two_records(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"GET ")
        peer.reset()
    assert ackd.journal.next(Kind.CONNECTED)
    assert ackd.journal.next(Kind.CLOSED)["ACKD_BYTES"] == b"4"


def test_a_foreign_client_is_rejected_where_no_greeting_is_sent(start: StartDaemon) -> None:
    ackd = start("greeting: ''\n")
    with Peer(ackd.port) as peer:
        peer.send(PROXY_2)
        peer.expect(rejection_line(NO_PROXY_PROTOCOL))
        peer.expect_end()


def test_a_foreign_client_is_rejected_after_it_has_waited_for_the_journal(
    start: StartDaemon,
) -> None:
    ackd = start("journal_wait: 0.1\n")
    with ackd.peer() as first, ackd.peer() as peer:
        ackd.journal.close()
        first.send(b"hello\n")
        first.expect(b"not received: the journal can't be reached\n")
        peer.send(REQUEST)
        peer.expect(rejection_line(NO_HTTP))
        peer.expect_end()
    with Peer(ackd.port) as other:
        other.expect(rejection_line(JOURNAL_UNREACHABLE))
