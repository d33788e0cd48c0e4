"""`ackctl probe --tls` remembers the authority of a server, to find what ends TLS in between."""

import json
import re
import ssl
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, ackctl
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.tls_front import TlsFront, server_context

pytestmark = needs_openssl

HERE = "IP:127.0.0.1"
BEFORE = r"The last time, on 20\d\d-\d\d-\d\d \d\d:\d\d UTC, {} had signed the certificate of the"


@pytest.fixture(scope="module")
def firewall(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """Return the authority of something in between."""
    return Authority(tmp_path_factory.mktemp("between") / "ca", "Firewall CA/O=Example")


@pytest.fixture(scope="module")
def trusted(authority: Authority, firewall: Authority) -> Path:
    """Return a file with both authorities."""
    bundle = firewall.certificate.with_name("bundle.pem")
    bundle.write_text(authority.certificate.read_text() + firewall.certificate.read_text())
    return bundle


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    """Return the certificate of the server."""
    return authority.issue("server", names=HERE)


@pytest.fixture(scope="module")
def between(firewall: Authority) -> Issued:
    """Return the certificate of something in between."""
    return firewall.issue("server", names=HERE)


class Probes:
    """Probes of one server, whose certificate a test changes, by one user."""

    def __init__(self, port: int, context: ssl.SSLContext, state: Path, trusted: Path) -> None:
        self.server = f"127.0.0.1 port {port}"
        self.file = state / "ackctl" / "authorities.json"
        self.arguments = ("probe", "--port", str(port), "--json", "--ca", str(trusted))
        self.before = ("env", f"XDG_STATE_HOME={state}")
        self._context = context

    def show(self, issued: Issued) -> None:
        """Have the server present this certificate from now on."""
        self._context.load_cert_chain(issued.certificate, issued.key)

    def run(self, *more: str) -> tuple[int, dict[str, Any], str]:
        """Probe; return the exit status, the stage of TLS, and the meaning."""
        status, out, _ = ackctl(*self.arguments, *more, before=self.before)
        *stages, summary = map(json.loads, out.splitlines())
        (encrypted,) = (stage for stage in stages if stage["stage"] == "encrypted")
        return status, encrypted, summary["meaning"]

    def is_as_before(self, *more: str) -> bool:
        """Probe, and return whether there is no warning."""
        status, encrypted, meaning = self.run(*more)
        assert status == 0
        warned = "had signed the certificate" in meaning
        assert warned == ("authority_before" in encrypted)
        return not warned


@pytest.fixture
def probes(start: StartDaemon, own: Issued, trusted: Path, tmp_path: Path) -> Iterator[Probes]:
    context = server_context(own)
    with TlsFront(start().port, context) as front:
        yield Probes(front.port, context, tmp_path / "state", trusted)


def test_another_authority_is_reported_until_it_is_accepted(
    probes: Probes, authority: Authority, between: Issued, own: Issued
) -> None:
    assert probes.is_as_before()
    probes.show(authority.issue("renewed", names=HERE))
    assert probes.is_as_before()
    probes.show(between)
    for _ in range(2):
        status, encrypted, meaning = probes.run()
        assert (status, encrypted["outcome"]) == (0, "passed")
        before = encrypted["authority_before"]
        assert (before["name"], before["organisation"]) == ("Test CA", "")
        assert encrypted["certificate"]["issuer_organisation"] == "Example"
        good, warning = meaning.split("`ackctl verify`", 1)
        assert good.startswith("Data gets through and is acknowledged.")
        assert "Firewall CA of Example has signed the certificate of the server." in warning
        assert re.search(BEFORE.format("Test CA"), warning)
        assert "such as a proxy or a firewall, ends TLS in its place" in warning
        assert "--accept-authority" in warning
    probes.show(own)
    assert probes.is_as_before()
    probes.show(between)
    assert probes.is_as_before("--accept-authority")
    assert probes.is_as_before()
    probes.show(own)
    assert re.search(BEFORE.format("Firewall CA of Example"), probes.run()[2])


def test_an_authority_of_the_same_organisation_is_no_other(
    probes: Probes, between: Issued, tmp_path: Path
) -> None:
    other = Authority(tmp_path / "other", "Example E8/O=Example")
    probes.show(between)
    assert probes.is_as_before()
    probes.show(other.issue("renewed", names=HERE))
    assert probes.is_as_before("--ca", str(other.certificate))


def test_an_authority_that_is_not_trusted_is_compared_as_well(
    probes: Probes, authority: Authority, between: Issued
) -> None:
    assert probes.is_as_before()
    probes.show(between)
    status, encrypted, meaning = probes.run("--ca", str(authority.certificate))
    assert (status, encrypted["outcome"]) == (4, "failed")
    assert encrypted["authority_before"]["name"] == "Test CA"
    assert re.search(BEFORE.format("Test CA"), meaning)
    # Only a certificate that is verified changes what is remembered.
    assert list(json.loads(probes.file.read_text())) == [probes.server]
    assert json.loads(probes.file.read_text())[probes.server]["name"] == "Test CA"


def test_the_warning_comes_although_a_later_stage_fails(probes: Probes, between: Issued) -> None:
    assert probes.is_as_before()
    probes.show(between)
    status, encrypted, meaning = probes.run("--no-greeting")
    assert (status, encrypted["outcome"]) == (4, "passed")
    assert re.search(BEFORE.format("Test CA"), meaning)


def test_each_name_of_a_server_is_remembered(
    probes: Probes, authority: Authority, firewall: Authority
) -> None:
    names = f"{HERE},DNS:a.example.org"
    probes.show(authority.issue("a", names=names))
    assert probes.is_as_before()
    probes.show(firewall.issue("b", names=names))
    assert probes.is_as_before("--server-name", "A.example.org")
    assert not probes.is_as_before()


def test_probes_at_the_same_time_do_not_damage_the_file(probes: Probes) -> None:
    with ExitStack() as stack:
        running = [Ackctl(*probes.arguments, before=probes.before) for _ in range(6)]
        for each in running:
            stack.enter_context(each)
        for each in running:
            status, _, error = each.ended()
            assert (status, error) == (0, "")
    assert list(json.loads(probes.file.read_text())) == [probes.server]
    assert [file.name for file in probes.file.parent.iterdir()] == [probes.file.name]


def test_without_a_place_for_the_file_nothing_is_said(probes: Probes, between: Issued) -> None:
    probes.file.parent.parent.mkdir()
    probes.file.parent.touch()
    assert probes.is_as_before()
    probes.show(between)
    assert probes.is_as_before()


def test_accepting_an_authority_needs_tls() -> None:
    status, out, error = ackctl("probe", "--accept-authority")
    assert (status, out) == (2, "")
    assert error.endswith("--accept-authority needs --tls\n")
