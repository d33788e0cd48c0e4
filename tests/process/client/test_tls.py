"""The library over TLS: against real servers with TLS, right and wrong ones."""

import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from ackd.client import (
    Client,
    NoGreetingError,
    RejectedError,
    TlsError,
    UnexpectedReplyError,
    UnknownOutcomeError,
)
from ackd.client.end import EndKind, TlsKind
from ackd.protocol import Reply, Verdict
from tests.conftest import StartDaemon
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.fake_server import Caller, scripted_server
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING
from tests.support.tls_front import TlsFront, server_context
from tests.support.tls_peers import Buffered, acknowledge, end, over_tls

pytestmark = needs_openssl

HERE = "IP:127.0.0.1,DNS:localhost"
ACKNOWLEDGED = Reply(Verdict.ACKNOWLEDGED, ACK.removesuffix(b"\n"))
SOON = 0.2  # seconds, for a first wait that is meant to be in vain
LATER = 2.0  # for one after a handshake, which must come in time
VERSIONS = (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3)


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    """Return the certificate of the server."""
    return authority.issue("server", names=HERE)


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def either(request: pytest.FixtureRequest, own: Issued) -> ssl.SSLContext:
    """Return the context of a server with one version of TLS."""
    context = server_context(own)
    context.minimum_version = context.maximum_version = request.param
    return context


@pytest.fixture
def trusting(authority: Authority) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority.certificate)


def replies_and_end(client: Client) -> tuple[list[Reply], EndKind]:
    """Return all replies, and how the connection has ended then."""
    replies = []
    try:
        while True:
            replies += client.pump()
            client.wait()
    except UnknownOutcomeError as error:
        return replies, error.end.how


# An exchange


def test_payloads_are_acknowledged_over_tls(
    start: StartDaemon, server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    ackd = start()
    with (
        TlsFront(ackd.port, server) as front,
        Client(port=front.port, tls=trusting) as client,
    ):
        assert client.greeting == b"Connect"
        assert client.send(b"hello") == ACKNOWLEDGED
        assert list(client.exchange([b"one", b"two"])) == [ACKNOWLEDGED] * 2
        client.finish()
        assert ackd.journal.payloads(3) == [b"hello", b"one", b"two"]
    assert front.failures == []


def test_a_server_that_waits_until_its_replies_are_read_does_not_stall_the_exchange(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    line, count = b"x" * 4095 + b"\n", 2500  # 10 MB each way: more than any socket holds

    def reply_to_each_line_before_reading_the_next(caller: Caller) -> None:
        caller.send(GREETING)
        for _ in range(count):
            caller.expect(line)
            caller.send(line)
        end(caller)

    script = over_tls(either, reply_to_each_line_before_reading_the_next)
    with scripted_server(script, buffer=4096) as port, Client(port=port, tls=trusting) as client:
        replies = client.exchange(line.removesuffix(b"\n") for _ in range(count))
        assert sum(reply.verdict is Verdict.ACKNOWLEDGED for reply in replies) == count
        client.finish()


def test_nothing_that_has_arrived_waits_for_more(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    count = 5000  # whose acks fill many records of 16 KiB

    def reply_to_all_at_once(caller: Caller) -> None:
        tls = Buffered(either, caller.socket)
        tls.shake_hands()
        tls.write(GREETING)  # with the last bytes of the handshake
        tls.flush()
        received = 0
        while received < count:
            received += tls.read().count(b"\n")
        tls.write(ACK * count)
        tls.flush()
        caller.read_to_loss()

    with scripted_server(reply_to_all_at_once) as port, Client(port=port, tls=trusting) as client:
        assert list(client.exchange([b""] * count)) == [ACKNOWLEDGED] * count


def test_an_end_that_comes_with_the_last_reply_is_seen_at_once(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def reply_and_end(caller: Caller) -> None:
        tls = Buffered(either, caller.socket)
        tls.shake_hands()
        tls.write(GREETING)
        tls.flush()
        assert tls.read() == b"hello\n"
        tls.write(ACK)
        tls.end()
        tls.flush()
        caller.read_to_loss()  # the socket stays open

    with scripted_server(reply_and_end) as port, Client(port=port, tls=trusting) as client:
        assert client.send(b"hello") == ACKNOWLEDGED
        with pytest.raises(UnknownOutcomeError, match=r"^the server closed the connection$"):
            client.wait()


def test_replies_still_come_after_the_end_of_the_sending(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def reply_after_the_end(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"hello\n")
        caller.expect_end()  # close_notify: without it, this raises
        caller.send(ACK)
        end(caller)

    with scripted_server(over_tls(either, reply_after_the_end)) as port:
        client = Client(port=port, tls=trusting)
        client.offer(b"hello")
        client.pump()
        client.transport.finish()
        assert replies_and_end(client) == ([ACKNOWLEDGED], EndKind.CLOSED)
        client.close()


def test_a_client_that_is_closed_says_the_end_that_tls_has(
    server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    ends = []

    def read_to_the_end(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"hello\n")
        ends.append(caller.socket.recv(1))

    with (
        scripted_server(over_tls(server, read_to_the_end)) as port,
        Client(port=port, tls=trusting) as client,
    ):
        client.offer(b"hello")
        client.pump()
    assert ends == [b""]


def test_half_a_line_of_a_client_that_gives_up_is_not_ended_as_a_line(
    server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    closed = threading.Event()

    def read_all(caller: Caller) -> None:
        while data := caller.socket.recv(65536):
            assert b"\n" not in data

    def read_late(caller: Caller) -> None:
        caller.send(GREETING)
        assert closed.wait(DEADLINE)
        with pytest.raises(ssl.SSLError):
            read_all(caller)

    with (
        scripted_server(over_tls(server, read_late), buffer=4096) as port,
        Client(port=port, tls=trusting) as client,
    ):
        client.offer(b"x" * 8_000_000)  # more than the sockets hold
        client.pump()
        closed.set()


def test_payloads_are_sent_at_once_to_a_server_without_a_greeting(
    start: StartDaemon, server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    ackd = start("greeting: ''")
    with (
        TlsFront(ackd.port, server) as front,
        Client(port=front.port, greeted=False, tls=trusting) as client,
    ):
        assert client.send(b"hello") == ACKNOWLEDGED
        client.finish()
    assert ackd.journal.payloads(1) == [b"hello"]


def test_a_greeting_that_is_not_expected_is_never_taken_for_an_ack(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    with (
        scripted_server(over_tls(either, acknowledge)) as port,
        pytest.raises(UnexpectedReplyError, match=r"^no greeting was expected, and it says Conn"),
    ):
        Client(port=port, greeted=False, tls=trusting)


def test_without_a_greeting_only_the_end_that_tls_has_shows_that_none_came(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def cut_off(caller: Caller) -> None:
        caller.expect_end()

    with (
        scripted_server(over_tls(either, cut_off)) as port,
        pytest.raises(UnexpectedReplyError, match=r"it ended without the end that TLS has$"),
    ):
        Client(port=port, greeted=False, tls=trusting)


def test_a_rejection_over_tls_is_a_rejection(
    start: StartDaemon, server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    ackd = start("allow: 192.0.2.1")
    with TlsFront(ackd.port, server) as front, pytest.raises(RejectedError):
        Client(port=front.port, tls=trusting)


# The end


@pytest.mark.parametrize("reply", [ACK, ACK[:-1]])
def test_a_connection_that_is_cut_off_makes_no_reply_true_or_false(
    reply: bytes, either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def reply_and_vanish(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"one\ntwo\n")
        caller.send(ACK + reply)

    with (
        scripted_server(over_tls(either, reply_and_vanish)) as port,
        Client(port=port, tls=trusting) as client,
    ):
        client.offer(b"one")
        client.offer(b"two")
        replies, end = replies_and_end(client)
    assert (replies, end) == ([ACKNOWLEDGED] * (1 + (reply == ACK)), EndKind.CUT_OFF)


def test_bytes_that_were_altered_on_the_way_end_the_connection(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def alter(caller: Caller) -> None:
        tls = Buffered(either, caller.socket)
        tls.shake_hands()
        tls.write(GREETING)
        tls.flush()
        assert tls.read() == b"hello\n"
        tls.write(ACK)
        record = bytearray(tls._outgoing.read())
        record[-1] ^= 1
        caller.send(bytes(record))
        caller.read_to_loss()

    with (
        scripted_server(alter) as port,
        Client(port=port, tls=trusting) as client,
        pytest.raises(UnknownOutcomeError, match=r"^a record of TLS was damaged on the way$"),
    ):
        client.send(b"hello")


def test_a_server_that_resets_the_connection_is_an_exception(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    def greet_and_reset(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"hello\n")
        caller.reset()

    with (
        scripted_server(over_tls(either, greet_and_reset)) as port,
        Client(port=port, tls=trusting) as client,
        pytest.raises(UnknownOutcomeError, match=r"^the other side reset the connection$"),
    ):
        client.send(b"hello")


def test_a_server_that_never_greets_has_its_own_error(
    either: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    with (
        scripted_server(over_tls(either, Caller.expect_end)) as port,
        pytest.raises(NoGreetingError, match=r"^no answer within 2 s$"),
    ):
        Client(port=port, timeout=LATER, tls=trusting)


# The certificate of the server


def fault_of(error: pytest.ExceptionInfo[TlsError]) -> tuple[TlsKind, str]:
    return error.value.fault.kind, str(error.value)


@pytest.mark.parametrize(
    ("names", "begin", "end", "kind", "sentence"),
    [
        (
            "DNS:a.example.org,DNS:*.b.example.org,IP:192.0.2.1",
            *("20200101000000Z", "20991231235959Z", TlsKind.WRONG_NAME),
            "is not for 127.0.0.1, but for a.example.org, *.b.example.org, 192.0.2.1",
        ),
        (
            ",".join(f"DNS:{n}.example.org" for n in range(9)),
            *("20200101000000Z", "20991231235959Z", TlsKind.WRONG_NAME),
            "is not for 127.0.0.1, but for 0.example.org, 1.example.org, 2.example.org,"
            " 3.example.org, 4.example.org and 4 more",
        ),
        (
            *(HERE, "20200101000000Z", "20210203040506Z", TlsKind.EXPIRED),
            "has expired on 2021-02-03 04:05 UTC",
        ),
        (
            *(HERE, "20980102030405Z", "20991231235959Z", TlsKind.NOT_YET_VALID),
            "is not valid before 2098-01-02 03:04 UTC",
        ),
    ],
)
def test_a_wrong_certificate_is_described(
    authority: Authority,
    trusting: ssl.SSLContext,
    names: str,
    begin: str,
    end: str,
    kind: TlsKind,
    sentence: str,
) -> None:
    context = server_context(authority.issue("wrong", names=names, begin=begin, end=end))
    with (
        scripted_server(over_tls(context, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=trusting)
    assert fault_of(caught) == (kind, f"the server's certificate {sentence}")


def test_the_authorities_of_the_system_are_trusted_and_no_others(
    authority: Authority, server: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        scripted_server(over_tls(server, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=True)
    assert fault_of(caught) == (
        TlsKind.UNKNOWN_AUTHORITY,
        "the server's certificate is signed by Test CA, an authority that this host does not trust",
    )
    certificate = caught.value.fault.certificate
    assert certificate
    assert (certificate.subject, certificate.issuer) == ("server", "Test CA")
    assert certificate.names == ("127.0.0.1", "localhost")
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    with (
        scripted_server(over_tls(server, acknowledge)) as port,
        Client(port=port, tls=True) as client,
    ):
        assert client.send(b"hello") == ACKNOWLEDGED


def test_an_expired_authority_is_not_taken_for_an_expired_certificate(tmp_path: Path) -> None:
    expired = Authority(tmp_path / "ca", end="20210101000000Z")
    context = server_context(expired.issue("server", names=HERE))
    with (
        scripted_server(over_tls(context, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=ssl.create_default_context(cafile=expired.certificate))
    sentence = "the server's certificate can't be verified: certificate has expired"
    assert fault_of(caught) == (TlsKind.EXPIRED, sentence)


@pytest.mark.parametrize("name", ["localhost", "localhost.", "LOCALHOST", "127.0.0.1"])
def test_the_name_can_be_given(name: str, server: ssl.SSLContext, trusting: ssl.SSLContext) -> None:
    with (
        scripted_server(over_tls(server, acknowledge)) as port,
        Client(port=port, tls=trusting, server_name=name) as client,
    ):
        assert client.send(b"hello") == ACKNOWLEDGED


@pytest.mark.parametrize("name", [".", "two..dots", "x" * 64, "\udcff", "a\0b"])
def test_a_name_that_can_be_none_is_a_mistake_of_the_program(name: str) -> None:
    with pytest.raises(ValueError, match="can't be the name of a server"):
        Client(port=1, tls=True, server_name=name)
    with pytest.raises(ValueError, match="a server name is for TLS only"):
        Client(port=1, server_name=name)


# The certificate of the client


def test_a_client_with_a_certificate_of_the_right_authority_is_served(
    authority: Authority, own: Issued, trusting: ssl.SSLContext
) -> None:
    ours = authority.issue("client")
    trusting.load_cert_chain(ours.certificate, ours.key)
    wanting = server_context(own, authority.certificate)
    with (
        scripted_server(over_tls(wanting, acknowledge)) as port,
        Client(port=port, tls=trusting) as client,
    ):
        assert client.send(b"hello") == ACKNOWLEDGED


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("greeted", [True, False])
def test_a_server_that_wants_a_certificate_is_reported(
    version: ssl.TLSVersion,
    greeted: bool,
    authority: Authority,
    own: Issued,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.certificate))
    wanting = server_context(own, authority.certificate)
    wanting.minimum_version = wanting.maximum_version = version
    with (
        scripted_server(over_tls(wanting, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=True, greeted=greeted)
    assert fault_of(caught) == (TlsKind.CERTIFICATE_WANTED, "the server wants a certificate")


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("unknown", "the server does not trust the authority that has signed it"),
        ("expired", "it has expired, or is not valid yet"),
    ],
)
def test_a_certificate_that_the_server_does_not_take_is_reported(
    version: ssl.TLSVersion,
    what: str,
    reason: str,
    authority: Authority,
    own: Issued,
    trusting: ssl.SSLContext,
    tmp_path: Path,
) -> None:
    ours = (
        authority.issue("old", end="20210101000000Z")
        if what == "expired"
        else Authority(tmp_path / "other", "Other CA").issue("client")
    )
    trusting.load_cert_chain(ours.certificate, ours.key)
    wanting = server_context(own, authority.certificate)
    wanting.minimum_version = wanting.maximum_version = version
    with (
        scripted_server(over_tls(wanting, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=trusting)
    sentence = f"the server turned our certificate away: {reason}"
    assert fault_of(caught) == (TlsKind.CERTIFICATE_REJECTED, sentence)


# No TLS


def test_a_server_without_a_common_version_is_reported(
    server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    server.minimum_version = ssl.TLSVersion.TLSv1_3
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    with (
        scripted_server(over_tls(server, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=trusting)
    assert caught.value.fault.kind is TlsKind.NOTHING_IN_COMMON


def test_a_server_without_a_common_cipher_is_reported(
    server: ssl.SSLContext, trusting: ssl.SSLContext
) -> None:
    trusting.maximum_version = ssl.TLSVersion.TLSv1_2
    trusting.set_ciphers("ECDHE-RSA-AES256-GCM-SHA384")  # the server's key is not of RSA
    with (
        scripted_server(over_tls(server, acknowledge)) as port,
        pytest.raises(TlsError) as caught,
    ):
        Client(port=port, tls=trusting)
    assert caught.value.fault.kind is TlsKind.NOTHING_IN_COMMON


def test_a_plain_ackd_is_recognised_by_what_it_says(
    start: StartDaemon, trusting: ssl.SSLContext
) -> None:
    with pytest.raises(TlsError) as caught:
        Client(port=start().port, tls=trusting)
    assert fault_of(caught) == (
        TlsKind.NOT_SPOKEN,
        r"the port speaks no TLS, it says Connect\nnot connect: this port takes no TLS, connect"
        " without it",
    )


@pytest.mark.parametrize("banner", [b"SSH-2.0-OpenSSH_9.2\r\n", b"\x1b[31m", b"Conn"])
def test_another_server_without_tls_is_shown_escaped(
    banner: bytes, trusting: ssl.SSLContext
) -> None:
    def speak(caller: Caller) -> None:
        caller.send(banner)
        caller.read_to_loss()

    with scripted_server(speak) as port, pytest.raises(TlsError) as caught:
        Client(port=port, timeout=LATER, tls=trusting)
    assert caught.value.fault.said == banner
    assert "\x1b" not in str(caught.value)


def read_hello(caller: Caller) -> None:
    assert caller.socket.recv(65536).startswith(b"\x16\x03")


def close_after_the_hello(caller: Caller) -> None:
    read_hello(caller)


def reset_after_the_hello(caller: Caller) -> None:
    read_hello(caller)
    caller.reset()


def be_mute(caller: Caller) -> None:
    read_hello(caller)
    caller.read_to_loss()


@pytest.mark.parametrize(
    ("script", "timeout", "sentence"),
    [
        (close_after_the_hello, DEADLINE, "the server closed the connection"),
        (reset_after_the_hello, DEADLINE, "the other side reset the connection"),
        (be_mute, SOON, "no answer within 0.2 s"),
    ],
)
def test_a_connection_that_ends_within_the_handshake_is_reported(
    script: Callable[[Caller], None], timeout: float, sentence: str, trusting: ssl.SSLContext
) -> None:
    with scripted_server(script) as port, pytest.raises(TlsError) as caught:
        Client(port=port, timeout=timeout, tls=trusting)
    assert fault_of(caught) == (TlsKind.ENDED, f"in the handshake: {sentence}")


# What a server may do at any time


class OpensslServer:
    """A real `openssl s_server`: what is written to it goes to the client, and commands to it."""

    def __init__(self, own: Issued, version: str) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        files = ("-cert", str(own.certificate), "-key", str(own.key))
        self._process = subprocess.Popen(
            ["openssl", "s_server", version, "-accept", f"127.0.0.1:{self.port}", *files],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            bufsize=0,
        )
        self.read_until(b"ACCEPT")

    def __enter__(self) -> "OpensslServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()

    def write(self, data: bytes) -> None:
        assert self._process.stdin
        self._process.stdin.write(data)

    def read_until(self, word: bytes) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            if word in line:
                return
        raise AssertionError(f"no {word!r}")


@pytest.mark.parametrize(
    ("version", "command"), [("-tls1_3", b"K\n"), ("-tls1_3", b"k\n"), ("-tls1_2", b"R\n")]
)
def test_new_keys_and_a_renegotiation_do_not_disturb_the_exchange(
    version: str, command: bytes, own: Issued, trusting: ssl.SSLContext
) -> None:
    with OpensslServer(own, version) as server:
        server.write(GREETING)  # waits in the pipe for the client
        with Client(port=server.port, tls=trusting) as client:
            client.offer(b"one")
            client.pump()
            server.read_until(b"one")
            server.write(command)
            client.offer(b"two")
            client.pump()
            while client.writing:
                client.wait()
                client.pump()
            server.read_until(b"two")
            server.write(b"ack 1\n")
            while client.unanswered == 2:
                client.wait()
                client.pump()


# Without TLS


def test_a_client_without_tls_does_not_import_ssl(start: StartDaemon) -> None:
    ackd = start()
    program = (
        "import sys; from ackd.ctl.main import main;"
        f"main(['send', '--port', '{ackd.port}', 'hello']);"
        "sys.exit('ssl' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True)
    assert ackd.journal.payloads(1) == [b"hello"]
