"""Behind load balancers that send a PROXY header in front of what their clients send."""

import signal
from contextlib import ExitStack

import pytest

from ackd.protocol import EXPECTS_PROXY_HEADER, NO_PROXY_PROTOCOL, STOPPING, rejection_line
from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.process.service.test_daemon import payload_entry, run_ackd
from tests.process.service.test_foreign_clients import records_until_stop
from tests.support.daemon_process import Daemon
from tests.support.peer import ACK, GREETING, Peer
from tests.support.proxy_headers import (
    LOCAL,
    NOOP,
    PROXY,
    TLS_NAME,
    TLS_VERSION,
    UNSPECIFIED,
    binary,
    field,
    line,
    proxied,
    tls_field,
    with_checksum,
)

BALANCER = "127.0.0.2"
SETTINGS = f"proxy_from: {BALANCER}\n"
HEADERS = {
    "v1": line("192.0.2.7"),
    "v2": with_checksum(proxied("192.0.2.7", field(NOOP, bytes(300)))),
}
OWN = {
    "LOCAL": binary(LOCAL, UNSPECIFIED, field(NOOP, bytes(12))),
    "UNKNOWN": b"PROXY UNKNOWN\r\n",
    "UNSPEC": binary(PROXY, UNSPECIFIED),
}


def through(ackd: Daemon, header: bytes = b"") -> Peer:
    """Return a connection from the balancer's address, on which this header was sent."""
    peer = Peer(ackd.port, source=BALANCER)
    peer.send(header)
    return peer


def port_of(peer: Peer) -> int:
    """Return the port of the balancer's end."""
    return int(peer.socket.getsockname()[1])


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_records_name_the_client_and_the_balancer(start: StartDaemon, header: bytes) -> None:
    ackd = start(SETTINGS)
    with through(ackd, header) as peer:
        peer.expect(GREETING)
        peer.send(b"hello\n")
        peer.expect(ACK)
        proxy = b"%s:%d" % (BALANCER.encode(), port_of(peer))
        connected = ackd.journal.next(Kind.CONNECTED)
        entry = ackd.journal.next(Kind.PAYLOAD)
    del entry["ACKD_CONNECTION"]
    assert entry == payload_entry(
        ackd,
        51000,
        ACKD_PEER=b"192.0.2.7",
        ACKD_PROXY=proxy,
        ACKD_BYTES=b"5",
        MESSAGE=b"Buffer: hello",
    )
    assert connected["MESSAGE"] == b"socket connected: 192.0.2.7 port 51000"
    for record in (connected, ackd.journal.next(Kind.CLOSED)):
        assert (record["ACKD_PEER"], record["ACKD_PROXY"]) == (b"192.0.2.7", proxy)


def test_records_name_what_the_balancer_knows_of_the_clients_tls(start: StartDaemon) -> None:
    ackd = start(SETTINGS)
    tls = tls_field(3, 0, field(TLS_VERSION, b"TLSv1.3"), field(TLS_NAME, b"client.example"))
    with through(ackd, proxied("2001:db8::7", tls) + b"hello\n") as peer:
        peer.expect(GREETING + ACK)
    entry = ackd.journal.next(Kind.PAYLOAD)
    assert entry["ACKD_PEER"] == b"2001:db8::7"
    assert entry["ACKD_TLS_NAME"] == b"client.example"
    assert entry["ACKD_TLS_VERSION"] == b"TLSv1.3"


@pytest.mark.parametrize("header", OWN.values(), ids=OWN.keys())
def test_the_balancer_itself_is_the_client_if_the_header_names_no_other(
    start: StartDaemon, header: bytes
) -> None:
    ackd = start(SETTINGS)
    with through(ackd, header + b"hello\n") as peer:
        peer.expect(GREETING + ACK)
        port = port_of(peer)
    entry = ackd.journal.next(Kind.PAYLOAD)
    assert (entry["ACKD_PEER"], entry["ACKD_PEER_PORT"]) == (BALANCER.encode(), b"%d" % port)
    assert "ACKD_PROXY" not in entry


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_a_header_may_come_byte_by_byte_and_nothing_is_said_before_its_end(
    start: StartDaemon, header: bytes
) -> None:
    ackd = start(SETTINGS)
    with ackd.peer() as other, through(ackd) as peer:
        for at in range(len(header)):
            assert not peer.readable()
            peer.send(header[at : at + 1])
            other.send(b"x\n")
            other.expect(ACK)  # so ackd has gone on
        peer.expect(GREETING)
        peer.send(b"hello\n")
        peer.expect(ACK)


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
def test_no_byte_behind_the_header_is_lost(start: StartDaemon, header: bytes) -> None:
    ackd = start(SETTINGS)
    payloads = [b"x" * size for size in (0, 1, 300, 5000)]
    with through(ackd, header + b"\n".join(payloads) + b"\n") as peer:
        peer.expect(GREETING + ACK * 4)
    assert ackd.journal.payloads(4) == payloads


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"hello\n", EXPECTS_PROXY_HEADER),
        (b"\x16\x03\x01\x02\0\x01", EXPECTS_PROXY_HEADER),
        (b"PROXY TCP4 192.0.2.7\r\nhello\n", "wrong PROXY header: PROXY TCP4 192.0.2.7"),
        (b"PROXY \x1b[2J\n", "wrong PROXY header: PROXY \\x1b[2J"),
        (HEADERS["v2"][:-1] + b"?hello\n", "wrong PROXY header: its checksum is wrong"),
    ],
    ids=["none", "TLS", "v1", "hostile", "v2"],
)
def test_a_connection_without_a_right_header_ends(
    start: StartDaemon, sent: bytes, reason: str
) -> None:
    ackd = start(SETTINGS)
    with through(ackd, sent) as peer:
        peer.expect(rejection_line(reason))
        peer.expect_end()
    rejected = ackd.journal.next(Kind.REJECTED)
    assert rejected["MESSAGE"].endswith(b": " + reason.encode())
    assert rejected["ACKD_PEER"] == BALANCER.encode()
    for _ in range(3):
        with through(ackd, sent) as peer:
            peer.expect(rejection_line(reason))
    ((limited, left_out),) = records_until_stop(ackd)
    assert limited is Kind.LIMITED
    assert left_out == b"left out about 127.0.0.2: turned away: 3, beyond 1 a minute"


def test_a_header_that_is_cut_off_ends_the_connection(start: StartDaemon) -> None:
    ackd = start(SETTINGS)
    with through(ackd, HEADERS["v2"][:100]) as peer:
        peer.half_close()
        peer.expect(rejection_line("wrong PROXY header: it is cut off"))
        peer.expect_end()


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"", EXPECTS_PROXY_HEADER),
        (b"PROXY ", "wrong PROXY header: it is not whole after 1 s"),
        (HEADERS["v2"][:-1], "wrong PROXY header: it is not whole after 1 s"),
    ],
    ids=["none", "half", "half of v2"],
)
def test_a_header_that_is_late_ends_the_connection(
    start: StartDaemon, sent: bytes, reason: str
) -> None:
    ackd = start(SETTINGS + "handshake_timeout: 1\n")
    with through(ackd, sent) as peer:
        peer.expect(rejection_line(reason))
        peer.expect_end()
    assert ackd.journal.next(Kind.REJECTED)["MESSAGE"].endswith(b": " + reason.encode())


def test_other_addresses_can_not_send_a_header_and_need_none(start: StartDaemon) -> None:
    ackd = start(SETTINGS)
    with ackd.peer() as peer:
        peer.send(HEADERS["v1"])
        peer.expect(rejection_line(NO_PROXY_PROTOCOL))
    assert ackd.journal.next(Kind.REJECTED)["ACKD_PEER"] == b"127.0.0.1"


def test_a_second_header_is_not_taken_for_a_payload(start: StartDaemon) -> None:
    ackd = start(SETTINGS)
    with through(ackd, HEADERS["v1"] + HEADERS["v2"]) as peer:
        peer.expect(GREETING + rejection_line(NO_PROXY_PROTOCOL))


# Health checks


@pytest.mark.parametrize(
    "header", [b"", *OWN.values(), *HEADERS.values()], ids=["none", *OWN, *HEADERS]
)
@pytest.mark.parametrize("way", ["connects", "resets", "reads the greeting", "is slow"])
def test_a_health_check_leaves_no_record(start: StartDaemon, header: bytes, way: str) -> None:
    ackd = start(SETTINGS)
    peer = through(ackd, header)
    if way == "reads the greeting" and header:
        peer.expect(GREETING)
    if way == "is slow":
        ackd.peer().socket.close()  # so ackd has accepted the balancer's connection before
        peer.half_close()
    if way == "connects":
        peer.socket.close()
    else:
        peer.reset()
    for _ in range(3):  # each needs a round: so ackd has done with the balancer's connection
        with ackd.peer() as other:
            other.half_close()
            other.expect_end()
    assert records_until_stop(ackd) == []


def test_debug_records_health_checks(start: StartDaemon) -> None:
    ackd = start(SETTINGS + "debug: true\n")
    through(ackd).socket.close()
    assert ackd.journal.next(Kind.CONNECTED)["ACKD_PEER"] == BALANCER.encode()
    assert ackd.journal.next(Kind.CLOSED)["ACKD_REASON"] == b"the client closed it"


# Limits


def test_allow_is_about_the_client(start: StartDaemon) -> None:
    ackd = start(SETTINGS + "allow: 192.0.2.0/24\n")
    with through(ackd, line("192.0.2.7")) as peer:
        peer.expect(GREETING)
    with through(ackd, line("198.51.100.1") + b"hello\n") as peer:
        peer.expect(b"not connect: 198.51.100.1 is not allowed here\n")
        peer.expect_end()
        proxy = b"%s:%d" % (BALANCER.encode(), port_of(peer))
    with through(ackd, OWN["LOCAL"]) as peer:
        peer.expect(b"not connect: 127.0.0.2 is not allowed here\n")
    rejected = ackd.journal.next(Kind.REJECTED)
    assert (rejected["ACKD_PEER"], rejected["ACKD_PROXY"]) == (b"198.51.100.1", proxy)


def test_the_limit_of_one_client_is_about_the_client(start: StartDaemon) -> None:
    ackd = start(SETTINGS + "max_connections_per_client: 2\n")
    with ExitStack() as stay:
        for _ in range(5):
            stay.enter_context(through(ackd))  # whose client is not known yet
        for client in ("192.0.2.7", "192.0.2.8", "2001:db8::1", "192.0.2.7", "2001:db8::2"):
            peer = stay.enter_context(through(ackd, line(client)))
            peer.expect(GREETING)
        with through(ackd, line("2001:db8::3")) as peer:
            peer.expect(b"not connect: too many connections from 2001:db8::/64, the limit is 2\n")


def test_arrivals_count_for_the_limit_of_all_connections(start: StartDaemon) -> None:
    ackd = start(SETTINGS + "max_connections: 2\n")
    with through(ackd, b"PROXY ") as half, through(ackd):
        for source in ("127.0.0.1", BALANCER):
            with Peer(ackd.port, source=source) as third:
                third.expect(b"not connect: too many connections, the limit is 2\n")
        half.send(b"UNKNOWN\r\n")
        half.expect(GREETING)


# Changes


def test_a_reload_changes_which_addresses_send_headers(start: StartDaemon) -> None:
    ackd = start()
    ackd.configure(SETTINGS + "handshake_timeout: 1000\n")
    with Peer(ackd.port, source=BALANCER) as before:
        before.expect(GREETING)
        assert run_ackd("--reload", str(ackd.process.pid)) == (0, "", "")
        with through(ackd, HEADERS["v1"]) as peer, through(ackd, b"PROXY ") as half:
            peer.expect(GREETING)
            ackd.configure("")
            assert run_ackd("--reload", str(ackd.process.pid)) == (0, "", "")
            with Peer(ackd.port, source=BALANCER) as after:
                after.expect(GREETING)
            half.send(b"UNKNOWN\r\n")
            half.expect(GREETING)
        before.send(b"hello\n")
        before.expect(ACK)


def test_a_restart_waits_a_moment_for_headers_and_then_rejects(start: StartDaemon) -> None:
    ackd = start(SETTINGS, managed=True)
    with through(ackd, b"PROXY ") as half, through(ackd, b"PROXY ") as soon, ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
        ackd.signal(signal.SIGSTOP)
        ackd.signal(signal.SIGUSR2)
        soon.send(b"UNKNOWN\r\n")
        ackd.signal(signal.SIGCONT)
        soon.expect(GREETING)
        half.expect(rejection_line(STOPPING))
        half.expect_end()
        ackd.manager.wait_for("BARRIER=1")
        assert ackd.wait() == 0
    assert b"clients handed over" in ackd.journal.next(Kind.STOPPED)["MESSAGE"]


def test_a_stop_rejects_connections_whose_header_is_not_whole(start: StartDaemon) -> None:
    ackd = start(SETTINGS)
    with through(ackd, b"PROXY ") as half, ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
        ackd.signal(signal.SIGTERM)
        half.expect(rejection_line(STOPPING))
        half.expect_end()
    assert ackd.wait() == 0
