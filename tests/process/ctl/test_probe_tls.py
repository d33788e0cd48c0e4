"""`ackctl probe --tls` against real wrong servers: what it finds, and whom it says to ask."""

import json
import ssl
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.support.ackctl_process import ackctl
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.fake_server import Caller, scripted_server
from tests.support.tls_front import TlsFront, server_context
from tests.support.tls_peers import acknowledge, over_tls

pytestmark = needs_openssl

HERE = "IP:127.0.0.1"
DAY = 86400


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    """Return the certificate of the server."""
    return authority.issue("server", names=HERE)


def probe(port: int, *arguments: str) -> tuple[int, list[dict[str, Any]], dict[str, Any]]:
    """Return the exit status, the stages, and the summary."""
    status, out, complaint = ackctl("probe", "--port", str(port), "--json", *arguments)
    *stages, summary = map(json.loads, out.splitlines())
    assert summary["status"] == status
    assert len(complaint.splitlines()) == (status != 0)
    return status, stages, summary


def failed(port: int, *arguments: str) -> tuple[int, str, str, str]:
    """Return the exit status, the stage that failed and its text, and the meaning."""
    status, stages, summary = probe(port, *arguments)
    (stage,) = (each for each in stages if each["outcome"] == "failed")
    assert stage["stage"] == summary["failed"]
    return status, stage["stage"], stage["text"], summary["meaning"]


def at(seconds: float) -> str:
    """Return a time as the authority of the tests takes it."""
    return time.strftime("%Y%m%d%H%M%SZ", time.gmtime(time.time() + seconds))


# A right server


def test_the_stage_shows_how_the_connection_is_encrypted(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    with TlsFront(ackd.port, server) as front:
        status, stages, summary = probe(front.port, *ca)
    assert status == 0
    assert [stage["stage"] for stage in stages] == [
        *("resolved", "connected", "encrypted", "greeted", "sent", "acknowledged")
    ]
    encrypted = stages[2]
    assert encrypted.pop("seconds") > 0
    assert encrypted == {
        "stage": "encrypted",
        "outcome": "passed",
        "text": "TLSv1.3, TLS_AES_256_GCM_SHA384, certificate for 127.0.0.1 until"
        " 2099-12-31 23:59 UTC",
        "version": "TLSv1.3",
        "cipher": "TLS_AES_256_GCM_SHA384",
        "certificate": {
            "subject": "server",
            "issuer": "Test CA",
            "names": ["127.0.0.1"],
            "not_before": "2020-01-01T00:00:00+00:00",
            "not_after": "2099-12-31T23:59:59+00:00",
        },
    }
    assert "expires" not in summary["meaning"]


def test_sizes_and_silences_are_tried_over_tls(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start()
    with TlsFront(ackd.port, server) as front:
        status, _, summary = probe(front.port, *ca, "--sweep", "--hold", "0.1")
    assert (status, summary["largest"], summary["held"]) == (0, 65536, 0.1)


def test_a_server_without_a_greeting_is_probed(
    start: StartDaemon, server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    ackd = start('greeting: ""')
    with TlsFront(ackd.port, server) as front:
        status, stages, _ = probe(front.port, *ca, "--no-greeting")
    assert (status, stages[3]["text"]) == (0, "no greeting, as expected with --no-greeting")


@pytest.mark.parametrize(("days", "soon"), [(13, True), (15, False)])
def test_a_certificate_that_expires_soon_is_a_warning(
    days: int, soon: bool, start: StartDaemon, authority: Authority, ca: tuple[str, str]
) -> None:
    ackd, own = start(), authority.issue("short", names=HERE, end=at(days * DAY))
    with TlsFront(ackd.port, server_context(own)) as front:
        status, _, summary = probe(front.port, *ca)
    assert status == 0
    assert ("The certificate of the server expires soon, on " in summary["meaning"]) == soon


# A certificate that is not good


def test_an_unknown_authority_without_ca(server: ssl.SSLContext) -> None:
    with scripted_server(over_tls(server, acknowledge)) as port:
        status, stages, summary = probe(port, "--tls")
    assert (status, [stage["outcome"] for stage in stages]) == (
        *(4, ["passed", "passed", "failed", "not tried", "not tried", "not tried"]),
    )
    assert stages[2]["text"] == (
        "the server's certificate is signed by Test CA, an authority that this host does not trust"
    )
    assert stages[2]["certificate"]["issuer"] == "Test CA"
    assert summary["failed"] == "encrypted"
    assert summary["meaning"].startswith("The server's administrator may have an authority")
    assert "give the file with --ca" in summary["meaning"]


def test_something_in_between_that_ends_tls_has_another_authority(
    start: StartDaemon, ca: tuple[str, str], tmp_path: Path
) -> None:
    between = Authority(tmp_path / "between", "Firewall CA").issue("server", names=HERE)
    with TlsFront(start().port, server_context(between)) as front:
        status, stage, text, meaning = failed(front.port, *ca)
    assert (status, stage) == (4, "encrypted")
    assert "is signed by Firewall CA, an authority that this host does not trust" in text
    assert meaning.startswith(f"None of the certificates in {ca[1]} has signed it.")
    assert "something between here and the server, such as a proxy or a firewall" in meaning


def test_a_certificate_that_is_signed_by_itself(authority: Authority, tmp_path: Path) -> None:
    alone = Authority(tmp_path / "alone", "alone")
    own = Issued(alone.certificate, alone.certificate.with_suffix(".key"))
    with scripted_server(over_tls(server_context(own), acknowledge)) as port:
        status, _, text, _ = failed(port, "--tls")
    assert (status, text) == (
        *(4, "the server's certificate is signed by itself, and this host does not trust it"),
    )


def test_a_wrong_name(authority: Authority, ca: tuple[str, str]) -> None:
    own = authority.issue("other", names="DNS:a.example.org,DNS:b.example.org")
    with scripted_server(over_tls(server_context(own), acknowledge)) as port:
        status, stage, text, meaning = failed(port, *ca)
    assert (status, stage) == (4, "encrypted")
    assert text == (
        "the server's certificate is not for 127.0.0.1, but for a.example.org, b.example.org"
    )
    assert "--server-name" in meaning


@pytest.mark.parametrize(
    ("begin", "end", "text"),
    [
        ("20200101000000Z", "20210203040506Z", "has expired on 2021-02-03 04:05 UTC"),
        ("20980102030405Z", "20991231235959Z", "is not valid before 2098-01-02 03:04 UTC"),
    ],
)
def test_a_certificate_that_is_not_valid_today(
    begin: str, end: str, text: str, authority: Authority, ca: tuple[str, str]
) -> None:
    own = authority.issue("other", names=HERE, begin=begin, end=end)
    with scripted_server(over_tls(server_context(own), acknowledge)) as port:
        status, stage, found, meaning = failed(port, *ca)
    assert (status, stage, found) == (4, "encrypted", f"the server's certificate {text}")
    assert meaning.startswith("The clock of this host says ")


def test_a_certificate_for_clients_only(authority: Authority, ca: tuple[str, str]) -> None:
    own = authority.issue("client", names=HERE, purpose="clientAuth")
    with scripted_server(over_tls(server_context(own), acknowledge)) as port:
        _, _, text, meaning = failed(port, *ca)
    assert text.startswith("the server's certificate can't be verified: un")
    assert meaning == (
        "Ask the administrator of the server for a certificate that clients can verify."
    )


# Our own certificate


@pytest.mark.parametrize(
    ("version", "stage"),
    [(ssl.TLSVersion.TLSv1_2, "encrypted"), (ssl.TLSVersion.TLSv1_3, "greeted")],
    ids=lambda each: getattr(each, "name", each),
)
def test_a_server_that_wants_a_certificate(
    version: ssl.TLSVersion, stage: str, authority: Authority, own: Issued, ca: tuple[str, str]
) -> None:
    context = server_context(own, authority.certificate)
    context.minimum_version = context.maximum_version = version
    for more in ((), ("--no-greeting",)):
        with scripted_server(over_tls(context, acknowledge)) as port:
            status, where, text, meaning = failed(port, *ca, *more)
        assert (status, where, text) == (1, stage, "the server wants a certificate")
        assert "give them with --cert and --cert-key" in meaning


def test_a_server_that_turns_our_certificate_away(
    authority: Authority, own: Issued, ca: tuple[str, str], tmp_path: Path
) -> None:
    ours = Authority(tmp_path / "other", "Other CA").issue("client")
    given = ("--cert", str(ours.certificate), "--cert-key", str(ours.key))
    context = server_context(own, authority.certificate)
    with scripted_server(over_tls(context, acknowledge)) as port:
        status, stage, text, meaning = failed(port, *ca, *given)
    assert (status, stage) == (1, "greeted")
    assert text == (
        "the server turned our certificate away: the server does not trust the authority that has"
        " signed it"
    )
    assert "`tls_client_ca`" in meaning


# No TLS


def test_a_server_with_old_versions_only(own: Issued, ca: tuple[str, str]) -> None:
    context = server_context(own)
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    with scripted_server(over_tls(context, acknowledge)) as port:
        status, stage, text, meaning = failed(port, *ca)
    assert (status, stage) == (4, "encrypted")
    assert text == "the server has no version of TLS, or no cipher, in common with this host"
    assert meaning.startswith("ackctl speaks TLS 1.2 and later versions.")


def test_an_ackd_without_tls(start: StartDaemon, ca: tuple[str, str]) -> None:
    status, stage, text, meaning = failed(start().port, *ca)
    assert (status, stage) == (4, "encrypted")
    assert text.startswith(r"the port speaks no TLS, it says Connect\nnot connect: this port takes")
    assert meaning.startswith("An ackd without TLS listens there.")


def say(banner: bytes) -> Callable[[Caller], None]:
    def speak(caller: Caller) -> None:
        caller.send(banner)
        caller.read_to_loss()

    return speak


def read_hello(caller: Caller) -> None:
    assert caller.socket.recv(65536).startswith(b"\x16\x03")


def answer_by_http(caller: Caller) -> None:
    read_hello(caller)
    caller.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def close_after_the_hello(caller: Caller) -> None:
    read_hello(caller)


def reset_after_the_hello(caller: Caller) -> None:
    read_hello(caller)
    caller.reset()


@pytest.mark.parametrize(
    ("script", "text", "meaning"),
    [
        (
            *(say(b"SSH-2.0-OpenSSH_9.2\r\n"), "an SSH server answers: SSH-2.0-OpenSSH_9.2"),
            "An ackd without TLS, which greets so, or another program listens on that port.",
        ),
        (
            *(say(b"hello\n"), "the port speaks no TLS, it says hello"),
            "An ackd without TLS, which greets so, or another program listens on that port.",
        ),
        (
            *(answer_by_http, "a web server answers: HTTP/1.1 400 Bad Request"),
            "An ackd without TLS, which greets so, or another program listens on that port.",
        ),
        (
            *(close_after_the_hello, "in the handshake: the server closed the connection"),
            "The server, or a firewall or load balancer before the server, ended the connection",
        ),
        (
            *(reset_after_the_hello, "in the handshake: the other side reset the connection"),
            "The server, or a firewall or load balancer before the server, ended the connection",
        ),
    ],
)
def test_a_server_that_speaks_no_tls(
    script: Callable[[Caller], None], text: str, meaning: str
) -> None:
    with scripted_server(script) as port:
        status, stage, found, advice = failed(port, "--tls")
    assert (status, stage) == (4, "encrypted")
    assert found.startswith(text)
    assert advice.startswith(meaning)


def test_a_server_that_does_not_answer_a_hello() -> None:
    with scripted_server(say(b"")) as port:
        status, stage, text, meaning = failed(port, "--tls", "--timeout", "0.2")
    assert (status, stage, text) == (4, "encrypted", "in the handshake: no answer within 0.2 s")
    assert meaning.startswith("The program that listens there hangs, is overloaded, or speaks no")


def test_without_tls_the_port_says_that_it_expects_it() -> None:
    with scripted_server(say(b"not connect: this port expects TLS\n")) as port:
        status, stage, text, meaning = failed(port)
    assert (status, stage, text) == (1, "greeted", "not connect: this port expects TLS")
    assert meaning.startswith("The ackd there takes only connections with TLS. Give --tls, and")


def test_a_server_that_is_cut_off_instead_of_greeting(
    server: ssl.SSLContext, ca: tuple[str, str]
) -> None:
    with scripted_server(over_tls(server, lambda caller: None)) as port:
        status, stage, text, _ = failed(port, *ca)
    assert (status, stage, text) == (4, "greeted", "cut off without a greeting")
