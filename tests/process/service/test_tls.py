"""ackd with TLS: real handshakes, the clients that may not come in, and what is recorded."""

import signal
import socket
import ssl
import subprocess
from collections.abc import Callable
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

from ackd.protocol import EXPECTS_TLS, NO_PROXY_PROTOCOL, STOPPING, rejection_line
from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.daemon_process import Daemon
from tests.support.journal_socket import DEADLINE
from tests.support.openssl import send_close_notify, update_keys
from tests.support.peer import ACK, GREETING, Peer
from tests.support.tls import Version, client_context

pytestmark = needs_openssl

both_versions = pytest.mark.parametrize(
    "version", [Version.TLSv1_2, Version.TLSv1_3], ids=["1.2", "1.3"]
)


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    return authority.issue("ackd", names="DNS:ackd.example.org")


@pytest.fixture
def tls(own: Issued) -> str:
    """The settings for TLS."""
    return f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n"


@pytest.fixture
def mutual(tls: str, authority: Authority) -> str:
    """The settings for TLS with certificates of clients."""
    return f"{tls}tls_client_ca: {authority.certificate}\n"


def connect(ackd: Daemon, context: ssl.SSLContext) -> ssl.SSLSocket:
    raw = socket.create_connection(("127.0.0.1", ackd.port), DEADLINE)
    try:
        return context.wrap_socket(raw, suppress_ragged_eofs=False)
    except OSError:
        raw.close()
        raise


class TlsPeer(Peer):
    """A client over TLS that has read the greeting."""

    socket: ssl.SSLSocket

    def __init__(self, ackd: Daemon, context: ssl.SSLContext) -> None:
        self.socket = connect(ackd, context)
        self.expect(GREETING)

    def end_tls(self) -> None:
        """Send close_notify; reading continues."""
        send_close_notify(self.socket)

    def end_tcp(self) -> None:
        """Shut down the sending side of TCP without close_notify; reading continues."""
        socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def expect_end(self) -> None:
        """Read close_notify, and no byte before it; an end of TCP alone raises SSLEOFError."""
        with suppress(ssl.SSLZeroReturnError):  # so it is once the client has sent its own
            assert self.socket.recv(1000) == b""


def rejected(ackd: Daemon) -> str:
    message = ackd.journal.next(Kind.REJECTED)["MESSAGE"].decode()
    assert message.startswith("turned away: 127.0.0.1 port ")
    return message.split(": ", 2)[2]


@both_versions
def test_payloads_are_recorded_with_what_tls_knows(
    start: StartDaemon, tls: str, authority: Authority, version: Version
) -> None:
    ackd = start(tls)
    with TlsPeer(ackd, client_context(authority, version=version)) as peer:
        peer.send(b"hello\nworld\n")
        peer.expect(ACK + ACK)
        cipher = peer.socket.cipher()
        peer.end_tls()
        peer.expect_end()
    assert cipher
    for kind in (Kind.CONNECTED, Kind.PAYLOAD, Kind.PAYLOAD, Kind.CLOSED):
        entry = ackd.journal.next(kind)
        assert entry["ACKD_TLS_VERSION"].decode() == version.name.replace("_", ".")
        assert entry["ACKD_TLS_CIPHER"].decode() == cipher[0]
        assert "ACKD_TLS_NAME" not in entry


@both_versions
@pytest.mark.parametrize(
    ("names", "name"),
    [
        ("DNS:sender.example.org,URI:spiffe://example.org/sender", "sender.example.org"),
        ("URI:spiffe://example.org/sender", "spiffe://example.org/sender"),
        ("email:sender@example.org,IP:192.168.150.2", "a sender"),
        ("", "a sender"),
    ],
)
def test_records_have_the_name_in_the_clients_certificate(
    start: StartDaemon, mutual: str, authority: Authority, version: Version, names: str, name: str
) -> None:
    ackd = start(mutual)
    context = client_context(authority, authority.issue("a sender", names=names), version)
    with TlsPeer(ackd, context) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
    assert ackd.journal.next(Kind.PAYLOAD)["ACKD_TLS_NAME"].decode() == name


# Which clients may come in


@both_versions
@pytest.mark.parametrize(
    ("names", "allowed"),
    [
        ("DNS:sender.example.org", True),
        ("DNS:SENDER.example.org", True),
        ("DNS:other.example.org,DNS:a.senders.example.org", True),
        ("DNS:senders.example.org", False),
        ("DNS:a.b.senders.example.org", False),
        ("URI:spiffe://example.org/sender", True),
        ("URI:spiffe://example.org/Sender", False),
        ("DNS:other.example.org", False),
    ],
)
def test_only_allowed_names_come_in(
    start: StartDaemon,
    mutual: str,
    authority: Authority,
    version: Version,
    names: str,
    allowed: bool,
) -> None:
    patterns = '["sender.example.org", "*.senders.example.org", "spiffe://example.org/sender"]'
    ackd = start(f"{mutual}tls_allow: {patterns}\n")
    context = client_context(authority, authority.issue("x", names=names), version)
    if allowed:
        with TlsPeer(ackd, context) as peer:
            peer.send(b"hello\n")
            peer.expect(ACK)
        return
    reason = f"{names.split(':', 1)[1]} is not allowed here"
    with Peer.over(connect(ackd, context)) as told:
        told.send(b"hello\n")
        told.expect(rejection_line(reason))
        assert told.socket.recv(100) == b""  # close_notify
    assert rejected(ackd) == reason
    assert all(
        entry["MESSAGE_ID"] != Kind.PAYLOAD.value.encode() for entry in ackd.journal.waiting()
    )


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"hello\n", EXPECTS_TLS),
        (b"GET / HTTP/1.1\r\nHost: a\r\n\r\n", EXPECTS_TLS),
        (b"PROXY TCP4 10.0.0.1 10.0.0.2 51000 10008\r\n", NO_PROXY_PROTOCOL),
        (b"", EXPECTS_TLS),
    ],
    ids=["payload", "HTTP", "PROXY", "nothing"],
)
def test_a_plain_client_is_told_and_nothing_of_it_is_recorded(
    start: StartDaemon, tls: str, sent: bytes, reason: str
) -> None:
    ackd = start(tls)
    with Peer(ackd.port) as peer:
        peer.send(sent)
        peer.expect(rejection_line(reason))
        peer.expect_end()
        peer.send(b"late\n")
    assert rejected(ackd) == reason
    assert nothing_else(ackd)


def test_a_health_check_leaves_no_record(start: StartDaemon, tls: str) -> None:
    ackd = start(tls)
    Peer(ackd.port).socket.close()
    Peer(ackd.port).reset()
    with Peer(ackd.port) as later:  # a client's connections have their turns in order
        later.send(b"hello\n")
        later.expect(rejection_line(EXPECTS_TLS))
    assert rejected(ackd) == EXPECTS_TLS
    assert nothing_else(ackd)


def nothing_else(ackd: Daemon) -> bool:
    """Stop ackd; return whether its other records are only about its start and its stop."""
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
    ackd.journal.next(Kind.STOPPED)
    return [Kind(entry["MESSAGE_ID"].decode()) for entry in ackd.journal.waiting()] == [Kind.LOG]


# Failures in words


def without_certificate(authority: Authority, _other: Authority) -> ssl.SSLContext:
    return client_context(authority)


def of_another_authority(authority: Authority, other: Authority) -> ssl.SSLContext:
    return client_context(authority, other.issue("a stranger"))


def expired(authority: Authority, _other: Authority) -> ssl.SSLContext:
    return client_context(authority, authority.issue("old", end="20210101000000Z"))


def not_yet_valid(authority: Authority, _other: Authority) -> ssl.SSLContext:
    return client_context(authority, authority.issue("new", begin="20980101000000Z"))


def of_a_server(authority: Authority, _other: Authority) -> ssl.SSLContext:
    return client_context(authority, authority.issue("a server", purpose="serverAuth"))


def of_an_old_version(authority: Authority, _other: Authority) -> ssl.SSLContext:
    context = client_context(authority, authority.issue("ancient"))
    context.set_ciphers("ALL:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = Version.TLSv1_1
    return context


def of_other_ciphers(authority: Authority, _other: Authority) -> ssl.SSLContext:
    context = client_context(authority, authority.issue("picky"), Version.TLSv1_2)
    context.set_ciphers("ECDHE-RSA-AES128-GCM-SHA256")  # ackd's key is not of RSA
    return context


def distrustful(_authority: Authority, other: Authority) -> ssl.SSLContext:
    return client_context(other)


@pytest.mark.parametrize(
    ("client", "reason"),
    [
        (without_certificate, "the client presents no certificate"),
        (
            of_another_authority,
            "the client's certificate is of an authority that tls_client_ca does not have",
        ),
        (expired, "the client's certificate has expired"),
        (not_yet_valid, "the client's certificate is not valid yet"),
        (of_a_server, "the client's certificate is not for clients"),
        (of_an_old_version, "the client and ackd have no version of TLS in common"),
        (of_other_ciphers, "the client and ackd have no cipher in common"),
        (distrustful, "the client rejects ackd's certificate: it does not know the authority"),
    ],
)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion.TLSv1_1 is deprecated:DeprecationWarning")
def test_a_failure_is_logged_in_words_and_once(
    start: StartDaemon,
    tmp_path: Path,
    mutual: str,
    authority: Authority,
    client: Callable[[Authority, Authority], ssl.SSLContext],
    reason: str,
) -> None:
    ackd = start(mutual)
    context = client(authority, Authority(tmp_path / "other", "Other CA"))
    for _ in range(3):
        with pytest.raises(OSError), connect(ackd, context) as sock:
            sock.recv(1)  # with TLS 1.3, a client learns only here that it is rejected
    assert rejected(ackd) == reason
    ackd.signal(signal.SIGTERM)
    limited = ackd.journal.next(Kind.LIMITED)
    assert limited["MESSAGE"] == b"left out about 127.0.0.1: turned away: 2, beyond 1 a minute"


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"\x16\x03\x01\x00\x05hello", "the client's TLS is wrong: "),
        (b"\x16\x03\x01\xff\xffhello", ("the client's TLS is wrong: ", "a record from the client")),
        (b"\x16hello\n", "the client's "),
        (b"\x16\x03\x01\x02\x00\x01", "the client has left during the TLS handshake"),
    ],
)
def test_garbage_is_logged_in_words(
    start: StartDaemon, tls: str, sent: bytes, reason: str | tuple[str, str]
) -> None:
    ackd = start(tls)
    with Peer(ackd.port) as peer:
        peer.send(sent)
        peer.half_close()
        alert = peer.read_to_loss()
        assert alert == b"" or alert[0] == 0x15
    text = rejected(ackd)
    assert text.startswith(reason)
    assert "_" not in text
    assert nothing_else(ackd)


def test_a_handshake_has_a_deadline(start: StartDaemon, tls: str) -> None:
    ackd = start(f"{tls}handshake_timeout: 1\n")
    with Peer(ackd.port) as peer:
        peer.send(b"\x16\x03\x01\x02\x00\x01")
        peer.expect_end()
    assert rejected(ackd) == "the TLS handshake takes longer than 1 s"


# The end


@both_versions
def test_a_last_line_is_a_payload_if_tls_has_ended(
    start: StartDaemon, tls: str, authority: Authority, version: Version
) -> None:
    ackd = start(tls)
    with TlsPeer(ackd, client_context(authority, version=version)) as peer:
        peer.send(b"one\ntwo")
        peer.end_tls()
        peer.expect(ACK + ACK)
        peer.expect_end()
    assert ackd.journal.payloads(2) == [b"one", b"two"]
    assert "ACKD_UNENDED" not in ackd.journal.next(Kind.CLOSED)


@both_versions
def test_a_last_line_that_may_be_cut_off_is_no_payload(
    start: StartDaemon, tls: str, authority: Authority, version: Version
) -> None:
    ackd = start(tls)
    with TlsPeer(ackd, client_context(authority, version=version)) as peer:
        peer.send(b"one\ntw")
        peer.end_tcp()
        peer.expect(ACK)
        peer.expect_end()
    assert ackd.journal.payloads(1) == [b"one"]
    assert ackd.journal.next(Kind.CLOSED)["ACKD_UNENDED"] == b"2"


def test_a_client_that_only_closes_tcp_loses_no_ack(
    start: StartDaemon, tls: str, authority: Authority
) -> None:
    ackd = start(tls)
    ackd.journal.hold()
    with TlsPeer(ackd, client_context(authority)) as peer:
        lines = [b"%d" % number for number in range(5000)]
        peer.send(b"\n".join(lines) + b"\n")
        peer.end_tcp()
        ackd.journal.go_on()
        peer.expect(ACK * len(lines))
        peer.expect_end()
    assert ackd.journal.payloads(len(lines)) == lines


def test_a_stop_acknowledges_what_has_come_and_ends_tls(
    start: StartDaemon, tls: str, authority: Authority
) -> None:
    ackd = start(tls)
    with TlsPeer(ackd, client_context(authority)) as peer:
        peer.send(b"one\n")
        ackd.signal(signal.SIGTERM)
        peer.expect(ACK)
        peer.expect_end()
    assert ackd.wait() == 0
    assert ackd.journal.payloads(1) == [b"one"]


def test_a_stop_does_not_wait_for_handshakes(
    start: StartDaemon, tls: str, authority: Authority
) -> None:
    ackd = start(tls)
    with Peer(ackd.port) as silent, Peer(ackd.port) as half:
        half.send(b"\x16\x03\x01\x02\x00\x01")
        with TlsPeer(ackd, client_context(authority)):
            pass  # ackd has read what came before this connection
        ackd.signal(signal.SIGTERM)
        silent.expect(rejection_line(STOPPING))
        half.expect_end()
    assert ackd.wait() == 0


# Settings


def test_a_reload_takes_another_certificate_into_force_and_touches_no_connection(
    start: StartDaemon, tls: str, authority: Authority, own: Issued
) -> None:
    ackd = start(tls)
    context = client_context(authority)
    with TlsPeer(ackd, context) as before:
        renewed = authority.issue("renewed", names="DNS:renewed.example.org")
        ackd.configure(
            tls.replace(str(own.certificate), str(renewed.certificate)).replace(
                str(own.key), str(renewed.key)
            )
        )
        ackd.signal(signal.SIGHUP)
        ackd.journal.next(Kind.RELOADED)
        with TlsPeer(ackd, context) as after:
            certificate = after.socket.getpeercert()
            assert certificate
            assert certificate["subjectAltName"] == (("DNS", "renewed.example.org"),)
        before.send(b"hello\n")
        before.expect(ACK)


def test_a_reload_can_switch_tls_on_and_off(
    start: StartDaemon, tls: str, authority: Authority
) -> None:
    ackd = start()
    with ackd.peer() as plain:
        ackd.configure(f"{tls}port: {ackd.port}\n")
        ackd.signal(signal.SIGHUP)
        ackd.journal.next(Kind.RELOADED)
        with TlsPeer(ackd, client_context(authority)) as over_tls:
            ackd.configure(f"port: {ackd.port}\n")
            ackd.signal(signal.SIGHUP)
            ackd.journal.next(Kind.RELOADED)
            with ackd.peer() as again:
                for peer in (plain, over_tls, again):
                    peer.send(b"hello\n")
                    peer.expect(ACK)


# Hostile clients


def test_half_handshakes_count_for_the_limits_and_disturb_nobody(
    start: StartDaemon, tls: str, authority: Authority
) -> None:
    ackd = start(f"{tls}max_connections_per_client: 100\n")
    context = client_context(authority)
    with TlsPeer(ackd, context) as before, ExitStack() as flood:
        for number in range(150):
            hostile = flood.enter_context(Peer(ackd.port, source="127.0.0.2"))
            with suppress(ConnectionError):
                hostile.send(b"\x16\x03\x01\x02\x00\x01"[: 1 + number % 6])
            before.send(b"hello\n")
            before.expect(ACK)
        with TlsPeer(ackd, context) as after:
            after.send(b"hello\n")
            after.expect(ACK)
        limit = "too many connections from 127.0.0.2, the limit is 100"
        assert ackd.journal.next(Kind.REJECTED)["MESSAGE"].decode().endswith(limit)


@pytest.mark.parametrize(
    "hello",
    [
        b"\x16\x03\x01\0\x04\x01\x02\x01\x44",  # as many bytes as OpenSSL allows
        b"\x16\x03\x01\0\x04\x01\0\x20\x01",
        b"\x16\x03\x01\x20\x01",
        b"\x16\x03\x01\0\x03\x01\0\0",
        b"\x16\x03\x01\0\0",
    ],
)
def test_a_hello_that_may_have_any_length_ends_the_connection(
    start: StartDaemon, tls: str, hello: bytes
) -> None:
    ackd = start(tls)
    with Peer(ackd.port) as hostile:
        hostile.send(hello)
        hostile.expect_end()
    assert rejected(ackd) == "the client's TLS is wrong: long hello"


def update_often(client: ssl.SSLSocket, ask: bool) -> None:
    for _ in range(20000):
        update_keys(client, ask)


@pytest.mark.parametrize("ask", [False, True])
def test_a_client_that_sends_no_payload_is_ended(
    start: StartDaemon, tls: str, authority: Authority, ask: bool
) -> None:
    ackd = start(tls)
    context = client_context(authority)
    with TlsPeer(ackd, context) as hostile, TlsPeer(ackd, context) as honest:
        hostile.send(b"one\n")
        hostile.expect(ACK)
        with pytest.raises((OSError, AssertionError)):
            update_often(hostile.socket, ask)
        honest.send(b"hello\n")
        honest.expect(ACK)
    reason = ackd.journal.next(Kind.CLOSED)["ACKD_REASON"]
    assert reason == b"lost: the client sends TLS messages without payload"


def test_a_client_that_never_reads_is_read_on(
    start: StartDaemon, tls: str, authority: Authority
) -> None:
    ackd = start(tls)
    with TlsPeer(ackd, client_context(authority)) as peer:
        lines = [b"%d" % number for number in range(30000)]
        peer.send(b"\n".join(lines) + b"\n")
        assert ackd.journal.payloads(len(lines)) == lines
        peer.expect(ACK * len(lines))


def test_openssl_as_a_client_can_not_renegotiate(start: StartDaemon, tls: str) -> None:
    ackd = start(tls)
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{ackd.port}", "-tls1_2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(b"hello\n")
        client.stdin.flush()
        # An ack in the middle of the renegotiation would end it as well.
        assert ACK in iter(client.stdout.readline, b"")
        client.stdin.write(b"R\n")
        client.stdin.flush()
        # At the end of its input, openssl would end without waiting for the answer.
        output = client.stdout.read()
    assert b"no renegotiation" in output
    assert ackd.journal.next(Kind.CLOSED)
