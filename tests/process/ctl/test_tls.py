"""ackctl over TLS as its users see it: the options, and what each command says."""

import json
import ssl
import subprocess
from pathlib import Path

import pytest

from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, Ended, ackctl, without_times
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.fake_server import Caller, FakeServer, scripted_server
from tests.support.peer import ACK, GREETING
from tests.support.tls_front import TlsFront, server_context
from tests.support.tls_peers import acknowledge, over_tls

pytestmark = needs_openssl

THANKS = ACK.decode()


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    """Return the certificate of the server."""
    return authority.issue("server", names="IP:127.0.0.1,DNS:localhost")


def send(port: int, *arguments: str, before: tuple[str, ...] = (), stdin: bytes = b"") -> Ended:
    """Run `ackctl send` to its end."""
    return ackctl("send", "--port", str(port), *arguments, before=before, stdin=stdin)


# A real ackd with TLS


@pytest.fixture
def tls(own: Issued) -> str:
    """The settings for TLS."""
    return f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ("send", "hello"),
        ("send", "--no-greeting", "hello"),
        ("ping", "--count", "2", "--interval", "0.1", "--parallel", "3"),
        ("bench", "--seconds", "0.1", "--clients", "3", "--depth", "10"),
        ("probe", "--sweep", "--hold", "0.1"),
    ],
    ids=lambda arguments: " ".join(arguments[:2]),
)
def test_each_command_speaks_tls_with_ackd(
    arguments: tuple[str, ...], start: StartDaemon, tls: str, ca: tuple[str, str]
) -> None:
    verb, *others = arguments
    ackd = start(tls + "greeting: ''\n" * ("--no-greeting" in others))
    assert ackctl(verb, "--port", str(ackd.port), *ca, *others)[0] == 0
    assert ackd.journal.payloads(1)


def test_an_ackd_that_wants_certificates_lets_the_right_clients_in(
    start: StartDaemon, tls: str, authority: Authority, ca: tuple[str, str]
) -> None:
    ackd = start(f"{tls}tls_client_ca: {authority.certificate}\ntls_allow: sensor7.example.org\n")
    assert send(ackd.port, *ca, "hello") == (
        *(1, ""),
        "ackctl: turned away: the server wants a certificate; use --cert (1 not sent)\n",
    )
    for name, ended in (
        ("sensor7", (0, THANKS, "")),
        (
            "sensor8",
            (
                *(1, ""),
                "ackctl: turned away: not connect: sensor8.example.org is not allowed here"
                " (1 not sent)\n",
            ),
        ),
    ):
        ours = authority.issue(name, names=f"DNS:{name}.example.org")
        own = ("--cert", str(ours.certificate), "--cert-key", str(ours.key))
        assert send(ackd.port, *ca, *own, "hello") == ended


def test_without_tls_ackctl_learns_from_ackd_that_the_port_expects_it(
    start: StartDaemon, tls: str
) -> None:
    assert send(start(tls).port, "--retry", "9", "hello") == (
        *(1, ""),
        "ackctl: turned away: not connect: this port expects TLS; use --tls (1 not sent)\n",
    )


# Behind something that ends TLS


def test_a_payload_is_sent_over_tls(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    with TlsFront(ackd.port, server) as front:
        assert send(front.port, "--tls", *ca, "hello", "again") == (0, THANKS * 2, "")
    assert ackd.journal.payloads(2) == [b"hello", b"again"]
    assert front.failures == []


def test_verbose_shows_how_the_connection_is_encrypted(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    with TlsFront(ackd.port, server) as front:
        status, story, complaint = send(front.port, *ca, "-v", "hello")
    assert (status, complaint) == (0, "")
    assert without_times(story).splitlines()[:3] == [
        f"TIME connecting to 127.0.0.1 port {front.port}",
        "TIME encrypted: TLSv1.3, TLS_AES_256_GCM_SHA384",
        "TIME buffer data: Connect",
    ]


def test_20000_lines_can_be_piped_in(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    lines = [b"%d" % number for number in range(20_000)]
    with TlsFront(ackd.port, server) as front:
        ended = send(front.port, *ca, "-q", "-", stdin=b"\n".join(lines))
    assert ended == (0, "20000 acknowledged, 0 refused, 0 unknown\n", "")
    assert ackd.journal.payloads(20_000) == lines


def test_a_server_without_a_greeting_is_served_over_tls(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start('greeting: ""')
    with TlsFront(ackd.port, server) as front:
        assert send(front.port, "--no-greeting", *ca, "hello") == (0, THANKS, "")


def test_many_connections_ping_over_tls(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    often = ("--interval", "0.5", "--count", "2", "--parallel", "20", "--json")
    with TlsFront(ackd.port, server) as front:
        status, out, _ = ackctl("ping", "--port", str(front.port), *ca, *often)
    counts = json.loads(out.splitlines()[-1])
    assert status == 0
    assert (counts["acknowledged"], counts["end_acknowledged"]) == (40, True)


def test_many_clients_make_a_load_over_tls(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    load = ("--clients", "20", "--depth", "50", "--seconds", "0.5", "--json")
    with TlsFront(ackd.port, server) as front:
        status, out, complaint = ackctl("bench", "--port", str(front.port), *ca, *load)
    counts = json.loads(out)
    assert (status, complaint) == (0, "")
    assert counts["acknowledged"] == counts["sent"] > 0


def test_a_ping_says_why_tls_fails(server: ssl.SSLContext) -> None:
    with scripted_server(over_tls(server, acknowledge)) as port:
        once = ("--count", "1", "--json")
        status, _, complaint = ackctl("ping", "--port", str(port), "--tls", *once)
    assert status == 4
    assert "TLS failed: the server's certificate is signed by Test CA, an auth" in complaint


def test_the_end_of_the_server_is_no_end_of_ackctl_by_a_signal(
    server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    def reset(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"one\n")
        caller.reset()

    with (
        scripted_server(over_tls(server, reset)) as port,
        Ackctl("send", "--port", str(port), *ca, "-") as sending,
    ):
        sending.write(b"one\n")
        status, out, complaint = sending.ended()
    assert (status, out) == (5, "")
    assert complaint.startswith("ackctl: unknown: the other side reset the connection (1 unknown")


def test_ackctl_tries_again_when_a_handshake_is_cut_off(
    server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    with (
        FakeServer() as fake,
        Ackctl("send", "--port", str(fake.port), *ca, "--retry", "1", "hello") as sending,
    ):
        with fake.accept() as first:
            assert first.socket.recv(65536)
        with fake.accept() as second:
            over_tls(server, acknowledge)(second)
        status, out, complaint = sending.ended()
    assert (status, out) == (0, THANKS)
    assert complaint == (
        "ackctl: connected, but TLS failed: in the handshake: the server closed the connection;"
        " once more in 0.2 s (1 of 1)\n"
    )


def test_ackctl_does_not_try_again_with_a_wrong_certificate(server: ssl.SSLContext) -> None:
    with scripted_server(over_tls(server, acknowledge)) as port:
        status, _, complaint = send(port, "--tls", "--retry", "9", "hello")
    assert status == 4
    assert complaint == (
        "ackctl: connected, but TLS failed: the server's certificate is signed by Test CA, an"
        " authority that this host does not trust (1 not sent)\n"
    )


def test_with_tls_ackctl_learns_that_the_port_takes_none(start: StartDaemon) -> None:
    status, out, complaint = send(start().port, "--tls", "hello")
    assert (status, out) == (4, "")
    assert complaint.endswith("connect without it; leave out --tls (1 not sent)\n")


def test_a_server_that_wants_a_certificate_gets_it(
    start: StartDaemon, authority: Authority, own: Issued, ca: tuple[str, str], tmp_path: Path
) -> None:
    ackd, ours = start(), authority.issue("client")
    both = tmp_path / "both.pem"
    both.write_bytes(ours.certificate.read_bytes() + ours.key.read_bytes())
    with TlsFront(ackd.port, server_context(own, authority.certificate)) as front:
        assert send(front.port, *ca, "hello") == (
            *(1, ""),
            "ackctl: turned away: the server wants a certificate; use --cert (1 not sent)\n",
        )
        apart = ("--cert", str(ours.certificate), "--cert-key", str(ours.key))
        assert send(front.port, *ca, *apart, "hello") == (0, THANKS, "")
        assert send(front.port, *ca, "--cert", str(both), "hello") == (0, THANKS, "")


# Authorities and names


def test_the_authorities_of_the_system_are_the_default(
    start: StartDaemon, server: ssl.SSLContext, authority: Authority
) -> None:
    ackd = start()
    system = ("env", f"SSL_CERT_FILE={authority.certificate}")
    with TlsFront(ackd.port, server) as front:
        assert send(front.port, "--tls", "hello", before=system) == (0, THANKS, "")


def test_the_certificate_of_the_server_itself_can_be_trusted(
    start: StartDaemon, own: Issued, server: ssl.SSLContext
) -> None:
    ackd = start()
    with TlsFront(ackd.port, server) as front:
        assert send(front.port, "--ca", str(own.certificate), "hello") == (0, THANKS, "")


@pytest.mark.parametrize(
    "option", [("--ca", "{ca}"), ("--ca", "{ca}", "--server-name", "localhost")]
)
def test_an_option_for_tls_never_sends_plain_text(
    start: StartDaemon, authority: Authority, option: tuple[str, ...]
) -> None:
    ackd = start()
    given = [each.format(ca=authority.certificate) for each in option]
    assert send(ackd.port, *given, "hello")[0] == 4


# Files that can't be used


@pytest.fixture
def files(authority: Authority, tmp_path: Path) -> Path:
    """Return a directory with files, right and wrong ones."""
    ours, others = authority.issue("client"), authority.issue("other")
    (tmp_path / "cert").write_bytes(ours.certificate.read_bytes())
    (tmp_path / "key").write_bytes(ours.key.read_bytes())
    (tmp_path / "other").write_bytes(others.key.read_bytes())
    (tmp_path / "text").write_text("hello\n")
    (tmp_path / "damaged").write_text(
        "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    )
    encrypt = ("openssl", "pkey", "-aes256", "-passout", "pass:secret", "-in", ours.key)
    subprocess.run([*encrypt, "-out", tmp_path / "encrypted"], check=True)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--ca", "{}/none"), "{}/none: No such file or directory"),
        (("--ca", ""), "an empty name: No such file or directory"),
        (("--ca", "{}"), "{}: Is a directory"),
        (("--ca", "{}/text"), "{}/text: it holds no certificate"),
        (("--ca", "/dev/null"), "/dev/null: it holds no certificate"),
        (("--ca", "{}/key"), "{}/key: it holds no certificate"),
        (("--ca", "{}/damaged"), "{}/damaged: its certificate can't be used: "),
        (("--cert", "{}/none"), "{}/none: No such file or directory"),
        (("--cert", "{}"), "{}: Is a directory"),
        (("--cert", "{}/text"), "{}/text: it holds no certificate"),
        (("--cert", "{}/cert"), "{}/cert: it holds no private key"),
        (
            ("--cert", "{}/none", "--cert-key", "{}/key"),
            "{}/none: No such file or directory",
        ),
        (
            ("--cert", "{}/cert", "--cert-key", "{}/none"),
            "{}/none: No such file or directory",
        ),
        (
            ("--cert", "{}/cert", "--cert-key", "{}/text"),
            "{}/text: it holds no private key",
        ),
        (
            ("--cert", "{}/cert", "--cert-key", "{}/other"),
            "{}/other: the private key does not belong to the certificate",
        ),
        (
            ("--cert", "{}/cert", "--cert-key", "{}/encrypted"),
            "{}/encrypted: the private key is encrypted; `openssl pkey -in FILE -out COPY`"
            " decrypts it",
        ),
        (("--tls", "--cert-key", "{}/key"), "--cert-key needs --cert"),
        (("--server-name", ""), "argument --server-name: '' can't be the name of a server"),
        (("--server-name", "a..b"), "argument --server-name: 'a..b' can't be the name of"),
        (("--tl",), "unrecognized arguments: --tl"),
    ],
)
def test_what_can_not_be_used_is_a_usage_error(
    files: Path, arguments: tuple[str, ...], complaint: str
) -> None:
    given = [each.format(files) for each in arguments]
    status, out, err = send(1, *given, "hello")
    assert (status, out) == (2, "")
    assert err.splitlines()[-1].startswith(f"ackctl send: error: {complaint.format(files)}")


@pytest.mark.parametrize("verb", ["ping", "bench", "probe"])
def test_each_command_checks_the_files_before_it_begins(verb: str) -> None:
    status, out, err = ackctl(verb, "--port", "1", "--json", "--ca", "/none")
    assert (status, out) == (2, "")
    assert err.endswith(f"ackctl {verb}: error: /none: No such file or directory\n")
