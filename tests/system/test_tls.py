"""ackd over TLS between two hosts, and /usr/share/ackd/tls, which passes it the certificates."""

import re
import shlex
import ssl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.peer import ACK, GREETING, Peer
from tests.support.project import PROJECT
from tests.support.readme import tls_commands
from tests.support.tls import client_context

from .support.base_root import CERTIFICATE_TOOLS, Release
from .support.connections import connect, greeted
from .support.install import install
from .support.machine import CLIENT_ADDRESS, MACHINE_ADDRESS, Machine, boot

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


PAYLOAD = "this data will send to server!"


@pytest.fixture(scope="module")
def installed(release: Release) -> Iterator[Machine]:
    """A machine with openssl, and with the ackd of this checkout installed and not started."""
    with boot(release, tools=CERTIFICATE_TOOLS) as machine:
        install(machine)
        yield machine


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
    installed.run("rm", "-rf", "/etc/ackd-test", "/etc/ssl/ackd", "/etc/letsencrypt")


def logged(machine: Machine, text: str) -> list[str]:
    """Return the messages of ackd since its last start that contain a text."""
    entries = machine.journal("-u", "ackd", f"_PID={machine.pid_of('ackd')}")
    messages = [entry["MESSAGE"].decode() for entry in entries]
    return [message for message in messages if text in message]


def manual(title: str) -> list[str]:
    """Return the commands in a section of ackd(8), each block as it is shown."""
    page = (PROJECT / "man" / "ackd.8.scd").read_text()
    text = page.partition(f"\n## {title}\n")[2]
    text = re.split(r"^#+ [A-Z]", text, maxsplit=1, flags=re.MULTILINE)[0]
    return [block.replace("\\\\", "\\") for block in re.findall(r"```\n(.*?)```", text, re.DOTALL)]


def over_tls(machine: Machine, authority: Authority, port: int = 10008) -> Peer:
    """Return a connection over TLS from the client host, which has verified the server."""
    peer = connect(machine, port=port)
    return Peer.over(client_context(authority).wrap_socket(peer.socket))


def certificate_of(peer: Peer) -> str:
    """Return the certificate that the server has shown."""
    assert isinstance(peer.socket, ssl.SSLSocket)
    shown = peer.socket.getpeercert(binary_form=True)
    assert shown
    return ssl.DER_cert_to_PEM_cert(shown)


def exchange(peer: Peer, payload: str) -> None:
    peer.send(payload.encode() + b"\n")
    peer.expect(ACK)


def dropins(machine: Machine) -> str:
    return machine.run("find", "/etc/systemd/system", "-name", "10-tls.conf").stdout


def exposure(machine: Machine) -> str:
    output = machine.run("systemd-analyze", "security", "ackd.service").stdout
    match = re.search(r"level for ackd.service: ([0-9.]+)", output)
    assert match, output
    return match[1]


# Between two hosts


def s_client(machine: Machine, directory: Path, *options: str) -> list[str]:
    """Send PAYLOAD from the client host by openssl; return the first two lines of the server."""
    where = ("-connect", f"{MACHINE_ADDRESS}:10008", "-CAfile", f"{directory}/ca.pem")
    command = ("openssl", "s_client", "-quiet", "-verify_return_error", *where, *options)
    with machine.client.popen(*command, stdin=subprocess.PIPE) as client:
        assert client.stdin
        assert client.stdout
        client.stdin.write(f"{PAYLOAD}\n".encode())
        client.stdin.flush()
        return [client.stdout.readline().decode() for _ in range(2)]


def test_from_no_certificate_to_mutual_tls_as_in_the_manual(
    server: Machine, tmp_path: Path
) -> None:
    setup, send = manual("From no certificate to mutual TLS")
    done = server.run("sh", "-ec", setup)
    assert done.stdout == f"{TODO}{LINES}{CLIENTS}"
    server.put("/etc/ackd.yaml", PLAIN + done.stdout.removeprefix(TODO))
    assert "warning: tls_key: not checked" in server.run("ackd", "--check-config").stderr
    server.run("systemctl", "restart", "ackd")
    for name in ("ca.pem", "sensor7.pem"):
        text = server.run("cat", f"/etc/ssl/ackd/{name}").stdout
        (tmp_path / name).write_text(text)
    own = ("-cert", f"{tmp_path}/sensor7.pem")
    assert s_client(server, tmp_path, *own) == [GREETING.decode(), ACK.decode()]
    (entry,) = server.journal("-u", "ackd", f"MESSAGE=Buffer: {PAYLOAD}", "-n", "1")
    assert entry["ACKD_PEER"] == CLIENT_ADDRESS.encode()
    assert entry["ACKD_TLS_NAME"] == b"sensor7.example.org"
    assert entry["ACKD_TLS_VERSION"] == b"TLSv1.3"
    hello = shlex.split(send.replace("ackctl", f"{sys.executable} -m ackd.ctl"))
    sent = server.client.run("env", f"--chdir={tmp_path}", *hello)
    assert sent.stdout.encode() == ACK
    (entry,) = server.journal("-u", "ackd", "MESSAGE=Buffer: hello", "-n", "1")
    assert entry["ACKD_TLS_NAME"] == b"sensor7.example.org"
    # Without a certificate of its own, and with a name that may not come in.
    assert s_client(server, tmp_path) == ["", ""]
    (entry,) = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.REJECTED.value}", "-n", "1")
    assert b"the client presents no certificate" in entry["MESSAGE"]
    allow = 'tls_allow: ["*.lab.example.org"]\n'
    server.put("/etc/ackd.yaml", PLAIN + LINES + CLIENTS + allow)
    server.run("systemctl", "reload", "ackd")
    reason = "not connect: sensor7.example.org is not allowed here\n"
    assert s_client(server, tmp_path, *own) == [reason, ""]


def test_from_no_certificate_to_mutual_tls_as_in_readme(server: Machine, tmp_path: Path) -> None:
    setup, send = tls_commands()
    done = server.run("sh", "-ec", setup)
    assert done.stdout == f"{TODO}{LINES}{CLIENTS}"
    server.put("/etc/ackd.yaml", PLAIN + done.stdout.removeprefix(TODO))
    server.run("systemctl", "restart", "ackd")
    for name in ("ca.pem", "sensor7.pem"):
        (tmp_path / name).write_text(server.run("cat", f"/etc/ssl/ackd/{name}").stdout)
    words = shlex.split(send.replace("ackctl", f"{sys.executable} -m ackd.ctl"))
    sent = server.client.run("env", f"--chdir={tmp_path}", *words)
    assert sent.stdout.encode() == ACK
    (entry,) = server.journal("-u", "ackd", f"MESSAGE=Buffer: {PAYLOAD}", "-n", "1")
    assert entry["ACKD_TLS_NAME"] == b"sensor7"


def test_a_renewal_as_in_the_manual(server: Machine, own: Issued, authority: Authority) -> None:
    live, archive = (f"/etc/letsencrypt/{d}/server.example.org" for d in ("live", "archive"))

    def renew(number: int, issued: Issued) -> None:
        """Do what certbot does: new files, and links to them."""
        server.run("mkdir", "-p", live, archive)
        server.run("chmod", "700", "/etc/letsencrypt/live", "/etc/letsencrypt/archive")
        for name, path in (("fullchain", issued.certificate), ("privkey", issued.key)):
            server.put(f"{archive}/{name}{number}.pem", path.read_bytes(), 0o600)
            target = f"../../archive/server.example.org/{name}{number}.pem"
            server.run("ln", "-sfn", target, f"{live}/{name}.pem")

    server.run("mkdir", "-p", "/etc/letsencrypt/renewal-hooks/deploy")
    renew(1, own)
    (once,) = manual("New certificates")
    assert server.run("sh", "-ec", once).stdout == TODO + LINES
    server.put("/etc/ackd.yaml", PLAIN + LINES)
    server.run("systemctl", "restart", "ackd")
    with over_tls(server, authority) as peer:
        assert certificate_of(peer) == own.certificate.read_text()
    renewed = authority.issue("renewed", names="DNS:server.example.org")
    renew(2, renewed)
    server.run("/etc/letsencrypt/renewal-hooks/deploy/ackd")
    with over_tls(server, authority) as peer:
        assert certificate_of(peer) == renewed.certificate.read_text()
        peer.expect(GREETING)
        exchange(peer, "after the renewal")


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


def test_an_instance_can_have_a_certificate_of_its_own(
    server: Machine, authority: Authority
) -> None:
    server.run(SWITCH, CERTIFICATE, KEY)
    other = authority.issue("lab.example.org")
    lines = "[Service]\n"
    for name, path in (("certificate", other.certificate), ("key", other.key)):
        server.put(f"/etc/ackd-test/lab-{name}", path.read_bytes(), 0o600)
        lines += f"LoadCredential=tls-{name}:/etc/ackd-test/lab-{name}\n"
    server.put("/etc/ackd/lab.yaml", f"{PLAIN}port: 10009\n{LINES}")
    server.put("/etc/systemd/system/ackd@lab.service.d/override.conf", lines)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "start", "ackd@lab")
    with over_tls(server, authority, port=10009) as peer:
        assert certificate_of(peer) == other.certificate.read_text()
        peer.expect(GREETING)
        exchange(peer, "to the laboratory")
    server.run("systemctl", "stop", "ackd@lab")
    server.run("rm", "-r", "/etc/ackd", "/etc/systemd/system/ackd@lab.service.d")


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
    before = over_tls(server, authority)
    before.expect(GREETING)
    renewed = authority.issue("renewed.example.org")
    server.put(CERTIFICATE, renewed.certificate.read_bytes())
    assert server.run("systemctl", "reload", "ackd", check=False).returncode != 0
    assert logged(server, f"tls_key: {KEY} is not the key of the first certificate")
    server.run("sh", "-c", f"cat >{KEY}", input=renewed.key.read_bytes())
    server.run("systemctl", "reload", "ackd")
    assert logged(server, "TLS with the certificate of renewed.example.org")
    exchange(before, "the old connection goes on")
    assert certificate_of(before) != renewed.certificate.read_text()
    with over_tls(server, authority) as after:
        assert certificate_of(after) == renewed.certificate.read_text()
        after.expect(GREETING)
        exchange(after, "a new connection")
    before.socket.close()
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
