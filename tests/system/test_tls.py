"""ackd over TLS between two hosts, and /usr/share/ackd/tls, which passes it the certificates."""

import re
from collections.abc import Iterator

import pytest

from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.peer import ACK

from .support.connections import greeted
from .support.machine import MACHINE_ADDRESS, Machine

pytestmark = needs_openssl

SWITCH = "/usr/share/ackd/tls"
SEAL, OWN_JOURNAL = "/usr/share/ackd/seal", "/usr/share/ackd/own-journal"
PLAIN = f"bind: {MACHINE_ADDRESS}\n"
# What the switch says that the configuration needs.
LINES = "tls_certificate: tls-certificate\ntls_key: tls-key\n"
CLIENTS = "tls_client_ca: tls-client-ca\n"
TODO = "Now write this into /etc/ackd.yaml, and run: systemctl restart ackd\n"
CERTIFICATE, KEY, CA = (
    "/etc/ackd-test/c.pem",
    "/etc/ackd-test/private/k.pem",
    "/etc/ackd-test/ca.pem",
)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    return authority.issue(
        "server.example.org", names=f"IP:{MACHINE_ADDRESS},DNS:server.example.org"
    )


def put_files(machine: Machine, issued: Issued, authority: Authority) -> None:
    """Write the files as an administrator has them: only root can read the key."""
    machine.run("install", "-d", "--mode=700", "/etc/ackd-test/private")
    machine.put(CERTIFICATE, issued.certificate.read_bytes())
    machine.put(KEY, issued.key.read_bytes(), 0o600)
    machine.put(CA, authority.certificate.read_bytes())


@pytest.fixture
def server(installed: Machine, own: Issued, authority: Authority) -> Iterator[Machine]:
    """A machine with a running ackd without TLS, and with the files for TLS."""
    put_files(installed, own, authority)
    installed.put("/etc/ackd.yaml", PLAIN)
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.put("/etc/ackd.yaml", PLAIN)
    for switch in (SWITCH, OWN_JOURNAL, SEAL):
        installed.run(switch, "--undo")
    installed.run("systemctl", "stop", "ackd")
    installed.run("rm", "-rf", "/etc/ackd-test")


def logged(machine: Machine, text: str) -> list[str]:
    """Return the messages of ackd since its last start that contain a text."""
    entries = machine.journal("-u", "ackd", f"_PID={machine.pid_of('ackd')}")
    messages = [entry["MESSAGE"].decode() for entry in entries]
    return [message for message in messages if text in message]


def dropins(machine: Machine) -> str:
    return machine.run("find", "/etc/systemd/system", "-name", "tls.conf").stdout


def exposure(machine: Machine) -> str:
    output = machine.run("systemd-analyze", "security", "ackd.service").stdout
    match = re.search(r"level for ackd.service: ([0-9.]+)", output)
    assert match, output
    return match[1]


# The switch


def test_the_switch_says_what_is_left_to_do(server: Machine) -> None:
    assert server.run(SWITCH, CERTIFICATE, KEY).stdout == f"{TODO}{LINES}"
    assert server.run(SWITCH, CERTIFICATE, KEY, CA).stdout == f"{TODO}{LINES}{CLIENTS}"
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    server.run("systemctl", "restart", "ackd")
    assert logged(server, "TLS with the certificate of 192.168.150.1, server.example.org")
    # The other way round, and again: nothing is left to do.
    server.run(SWITCH, CERTIFICATE, KEY)
    assert server.run(SWITCH, CERTIFICATE, KEY).stdout == ""
    assert server.run(SWITCH, CERTIFICATE, KEY, CA).stdout == f"{TODO}{CLIENTS}"
    assert logged(server, "TLS with the certificate of")
    assert len(dropins(server).splitlines()) == 2


def test_paths_are_of_the_directory_where_the_switch_runs(server: Machine) -> None:
    server.run("env", "--chdir=/etc/ackd-test", SWITCH, "c.pem", "private/k.pem", "./ca.pem")
    shown = server.run("systemctl", "cat", "ackd@north").stdout
    for name, path in (("certificate", CERTIFICATE), ("key", KEY), ("client-ca", CA)):
        assert f"\nLoadCredential=tls-{name}:{path}\n" in shown


def test_the_exposure_stays_as_it_is(server: Machine) -> None:
    server.run(SWITCH, CERTIFICATE, KEY, CA)
    server.put("/etc/ackd.yaml", PLAIN + LINES + CLIENTS)
    server.run("systemctl", "restart", "ackd")
    assert exposure(server) == "1.1"
    server.run(SEAL)
    assert exposure(server) == "0.2"
    assert logged(server, "TLS with the certificate of")


def test_the_switch_names_files_that_can_not_be_used(server: Machine, authority: Authority) -> None:
    def errors(*arguments: str) -> str:
        done = server.run(SWITCH, *arguments, check=False)
        assert done.returncode == 1
        assert (done.stdout, dropins(server)) == ("", "")
        return done.stderr

    assert errors("/no/c", "/no/k") == (
        "tls: /no/c: No such file or directory\ntls: /no/k: No such file or directory\n"
    )
    swapped = "are tls_certificate and tls_key swapped?"
    assert errors(KEY, CERTIFICATE) == (
        f"tls: {KEY} has no certificate, but PRIVATE KEY: {swapped}\n"
        f"tls: {CERTIFICATE} has no key, but CERTIFICATE: {swapped}\n"
    )
    assert errors(CA, KEY) == (
        f"tls: {KEY} is not the key of the first certificate in {CA},"
        " which must be the one of this server\n"
    )
    server.run("mkfifo", "/etc/ackd-test/fifo")
    assert errors(CERTIFICATE, KEY, "/etc/ackd-test/fifo") == (
        "tls: /etc/ackd-test/fifo: is not a regular file\n"
    )
    server.run("cp", CERTIFICATE, "/etc/ackd-test/the c.pem")
    assert errors("/etc/ackd-test/the c.pem", KEY) == (
        "tls: '/etc/ackd-test/the c.pem': a unit file can't have a path with such characters\n"
    )
    server.put("/etc/ackd.yaml", f"{PLAIN}port: 70000\n")
    assert "tls: /etc/ackd.yaml:2:7: port: 70000 is not between" in errors(CERTIFICATE, KEY)
    server.put("/etc/ackd.yaml", PLAIN)
    with greeted(server) as peer:
        peer.send(b"as before\n")
        peer.expect(ACK)


def test_a_certificate_that_has_expired_is_a_warning(server: Machine, authority: Authority) -> None:
    expired = authority.issue("expired", end="20260101000000Z")
    put_files(server, expired, authority)
    done = server.run(SWITCH, CERTIFICATE, KEY)
    text = f"{CERTIFICATE} has expired at 2026-01-01 00:00:00 UTC: clients reject ackd"
    assert (done.stderr, done.stdout) == (f"tls: warning: tls_certificate: {text}\n", TODO + LINES)
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    server.run("systemctl", "restart", "ackd")
    expected = text.replace(CERTIFICATE, "the credential tls-certificate")
    assert logged(server, f"tls_certificate: {expected}")
    status = server.run("systemctl", "show", "--property=StatusText", "ackd").stdout
    assert status.startswith(f"StatusText=tls_certificate: {expected}; clients: ")


def test_undo_is_refused_while_a_configuration_names_the_credentials(server: Machine) -> None:
    server.run(SWITCH, CERTIFICATE, KEY, CA)
    server.put("/etc/ackd.yaml", PLAIN + LINES + CLIENTS)
    done = server.run(SWITCH, CERTIFICATE, KEY, check=False)
    names = "/etc/ackd.yaml says `tls_client_ca: tls-client-ca`"
    assert (done.returncode, done.stderr) == (1, f"tls: {names}: name a file for it\n")
    done = server.run(SWITCH, "--undo", check=False)
    names = "/etc/ackd.yaml says `tls_certificate: tls-certificate`"
    assert (done.returncode, done.stderr) == (1, f"tls: {names}: remove the line first\n")
    assert len(dropins(server).splitlines()) == 2
    server.put("/etc/ackd.yaml", PLAIN)
    server.run(SWITCH, "--undo")
    assert dropins(server) == ""


def test_a_switch_that_fails_leaves_everything_as_it_was(server: Machine) -> None:
    server.run(SWITCH, CERTIFICATE, KEY)
    before = server.run("systemctl", "cat", "ackd").stdout
    server.run("mv", "/usr/sbin/ackd", "/usr/sbin/ackd.gone")
    done = server.run(SWITCH, CERTIFICATE, KEY, CA, check=False)
    server.run("mv", "/usr/sbin/ackd.gone", "/usr/sbin/ackd")
    assert done.returncode == 1
    assert done.stderr.endswith(f"{SWITCH}: failed; everything is as it was before\n")
    assert server.run("systemctl", "cat", "ackd").stdout == before


def test_without_the_switch_the_service_says_what_to_do_and_clients_wait(server: Machine) -> None:
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    with greeted(server) as peer:
        assert server.run("systemctl", "restart", "ackd", check=False).returncode != 0
        (line,) = server.journal("-u", "ackd", "--grep=tls_key", "-n", "1")
        assert line["MESSAGE"] == (
            b"ackd: /etc/ackd.yaml:3:10: tls_key:"
            b" there is no credential tls-key: run /usr/share/ackd/tls"
        )
        server.run(SWITCH, CERTIFICATE, KEY)
        peer.send(b"the client has waited\n")
        peer.expect(ACK)


def test_a_file_that_is_gone_is_named_and_does_not_stop_an_ackd_without_tls(
    server: Machine,
) -> None:
    server.run(SWITCH, CERTIFICATE, KEY)
    server.run("rm", KEY)
    server.run("systemctl", "restart", "ackd")
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    assert server.run("systemctl", "restart", "ackd", check=False).returncode != 0
    (line,) = server.journal("-u", "ackd", "--grep=could not read", "-n", "1")
    assert line["MESSAGE"].endswith(
        b"tls_key: the credential tls-key: systemd could not read the file"
        b" that `systemctl cat` shows for it"
    )
    server.put("/etc/ackd.yaml", PLAIN)
    server.run("systemctl", "restart", "ackd")


def test_a_reload_says_that_credentials_are_as_before(server: Machine) -> None:
    server.run(SWITCH, CERTIFICATE, KEY)
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    server.run("systemctl", "restart", "ackd")
    server.run("systemctl", "reload", "ackd")
    note = "tls_certificate, tls_key: credentials are as before"
    assert logged(server, note)
    done = server.run("ackd", "--reload", str(server.pid_of("ackd")))
    assert done.stderr.startswith(f"ackd: {note}, because systemd reads them at a restart only")


def test_a_key_of_a_group_is_read_again_at_a_reload(server: Machine, authority: Authority) -> None:
    server.run("groupadd", "--force", "--system", "ssl-cert")
    server.run("chgrp", "-R", "ssl-cert", "/etc/ackd-test/private")
    server.run("chmod", "-R", "g+rX", "/etc/ackd-test/private")
    server.put("/etc/ackd.yaml", f"{PLAIN}tls_certificate: {CERTIFICATE}\ntls_key: {KEY}\n")
    check = server.run("ackd", "--check-config").stderr
    assert check == (
        "ackd: /etc/ackd.yaml: warning: tls_key: to read /etc/ackd-test/private,"
        " the service needs the group ssl-cert\n"
    )
    assert server.run("systemctl", "restart", "ackd", check=False).returncode != 0
    (line,) = server.journal("-u", "ackd", "--grep=may not read", "-n", "1")
    assert b"ackd may not read /etc/ackd-test/private: run /usr/share/ackd/tls" in line["MESSAGE"]
    group = "/etc/systemd/system/ackd.service.d/group.conf"
    server.put(group, "[Service]\nSupplementaryGroups=ssl-cert\n")
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")
    renewed = authority.issue("renewed.example.org")
    server.put(CERTIFICATE, renewed.certificate.read_bytes())
    assert server.run("systemctl", "reload", "ackd", check=False).returncode != 0
    assert logged(server, f"tls_key: {KEY} is not the key of the first certificate")
    server.run("sh", "-c", f"cat >{KEY}", input=renewed.key.read_bytes())
    server.run("systemctl", "reload", "ackd")
    assert logged(server, "TLS with the certificate of renewed.example.org")
    server.run("rm", group)
    server.put("/etc/ackd.yaml", PLAIN)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")


def test_the_switch_works_with_the_others_in_any_order(server: Machine) -> None:
    server.run(SWITCH, CERTIFICATE, KEY)
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    server.run(OWN_JOURNAL)
    server.run(SEAL)
    server.put("/etc/ackd.yaml", PLAIN)
    server.run(SWITCH, "--undo")
    server.run(SEAL, "--undo")
    with greeted(server) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
    server.run(OWN_JOURNAL, "--undo")
