"""The files of TLS: what is wrong with them at a start, with --check-config, and at a reload."""

import base64
import os
import shutil
import signal
import ssl
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ackd.config import ConfigError, parse
from ackd.records import Kind
from ackd.service.certificates import load
from tests.conftest import StartDaemon
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.daemon_process import COMMAND
from tests.support.journal_socket import DEADLINE, Entry

pytestmark = needs_openssl

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it becomes another user")
NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "--")


@pytest.fixture(scope="module")
def server(authority: Authority) -> Issued:
    return authority.issue("server", names="DNS:server.example.org")


def settings(own: Issued, authority: Path | None = None) -> str:
    text = f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n"
    return text + (f"tls_client_ca: {authority}\n" if authority else "")


def check(
    directory: Path, text: str, before: tuple[str, ...] = (), **environ: str
) -> tuple[int, list[str]]:
    """Return the status of --check-config, and the errors without the path of the file.

    Files in pytest's directories can't be read by others, and root is warned of them.
    """
    file = directory / "ackd.yaml"
    file.write_text(text)
    done = subprocess.run(
        [*before, *COMMAND, "--check-config", "--config", str(file)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env={**os.environ, **environ},
    )
    lines = [line.removeprefix(f"ackd: {file}:") for line in done.stderr.splitlines()]
    return done.returncode, [
        line for line in lines if "pytest-of" not in line or "can't read" not in line
    ]


def test_good_files_have_no_error(tmp_path: Path, authority: Authority, server: Issued) -> None:
    assert check(tmp_path, settings(server, authority.certificate)) == (0, [])


def test_one_file_can_have_all(tmp_path: Path, server: Issued) -> None:
    together = tmp_path / "all.pem"
    text = server.key.read_text() + "This is from München.\n" + server.certificate.read_text()
    together.write_text(text, encoding="latin-1")
    assert check(tmp_path, settings(Issued(together, together))) == (0, [])


def _missing(path: Path, authority: Authority, server: Issued) -> None:
    pass


def _empty(path: Path, authority: Authority, server: Issued) -> None:
    path.touch()


def _directory(path: Path, authority: Authority, server: Issued) -> None:
    path.mkdir()


def _fifo(path: Path, authority: Authority, server: Issued) -> None:
    os.mkfifo(path)


def _huge(path: Path, authority: Authority, server: Issued) -> None:
    path.write_bytes(bytes(1 << 21))


def _text(path: Path, authority: Authority, server: Issued) -> None:
    path.write_text("MIIB not really\n")


def _der(path: Path, authority: Authority, server: Issued) -> None:
    authority.openssl("x509", "-in", str(server.certificate), "-outform", "DER", "-out", str(path))


def _cut_off(path: Path, authority: Authority, server: Issued) -> None:
    path.write_text("\n".join(server.certificate.read_text().split("\n")[:4]))


def _broken(path: Path, authority: Authority, server: Issued) -> None:
    path.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def _request(path: Path, authority: Authority, server: Issued) -> None:
    shutil.copy(server.certificate.with_suffix(".csr"), path)


def _key(path: Path, authority: Authority, server: Issued) -> None:
    shutil.copy(server.key, path)


SWAPPED = ": are tls_certificate and tls_key swapped?"
Make = Callable[[Path, Authority, Issued], None]
BAD_CERTIFICATES: dict[Make, str] = {
    _missing: ": No such file or directory",
    _empty: " is empty",
    _directory: ": Is a directory",
    _fifo: ": is not a regular file",
    _huge: ": is larger than 1048576 bytes",
    _text: " is not PEM",
    _der: " is not PEM; it may be DER, which openssl converts",
    _cut_off: " is cut off: the last line is missing",
    _broken: " has a broken certificate",
    _request: (
        " has no certificate, but CERTIFICATE REQUEST: an authority must sign the request first"
    ),
    _key: f" has no certificate, but PRIVATE KEY{SWAPPED}",
}


@pytest.mark.parametrize("make", BAD_CERTIFICATES, ids=lambda make: str(make.__name__))
def test_a_certificate_that_can_not_be_used(
    tmp_path: Path, authority: Authority, server: Issued, make: Make
) -> None:
    bad = tmp_path / "bad.pem"
    make(bad, authority, server)
    status, lines = check(tmp_path, settings(Issued(bad, server.key)))
    assert (status, lines) == (2, [f"1:18: tls_certificate: {bad}{BAD_CERTIFICATES[make]}"])
    status, lines = check(tmp_path, settings(server, bad))
    expected = BAD_CERTIFICATES[make].removesuffix(SWAPPED)
    assert (status, lines) == (2, [f"3:16: tls_client_ca: {bad}{expected}"])


def test_all_files_that_can_not_be_used_are_reported(tmp_path: Path) -> None:
    text = "tls_client_ca: /no/a\ntls_key: /no/k\ntls_certificate: /no/c\n"
    missing = "No such file or directory"
    assert check(tmp_path, text) == (
        2,
        [
            f"3:18: tls_certificate: /no/c: {missing}",
            f"2:10: tls_key: /no/k: {missing}",
            f"1:16: tls_client_ca: /no/a: {missing}",
        ],
    )


def test_a_key_that_can_not_be_used(tmp_path: Path, authority: Authority, server: Issued) -> None:
    def error(key: Path) -> str:
        status, lines = check(tmp_path, settings(Issued(server.certificate, key)))
        assert status == 2
        (line,) = lines
        return line.removeprefix(f"2:10: tls_key: {key} ")

    other = authority.issue("other").key
    belongs = f"is not the key of the first certificate in {server.certificate}"
    assert error(other) == f"{belongs}, which must be the one of this server"
    rsa = tmp_path / "rsa.key"
    authority.openssl("genpkey", "-algorithm", "RSA", "-out", str(rsa))
    assert error(rsa) == f"{belongs}, which must be the one of this server"
    encrypted = tmp_path / "encrypted.key"
    authority.openssl(
        "pkey", "-in", str(server.key), "-aes256", "-passout", "pass:abcd", "-out", str(encrypted)
    )
    password = "is encrypted, and ackd has no password: openssl pkey"
    assert error(encrypted) == f"{password} -in {encrypted} -out NEW"
    authority.openssl(
        "ec", "-in", str(server.key), "-aes256", "-passout", "pass:abcd", "-out", str(encrypted)
    )
    assert "Proc-Type: 4,ENCRYPTED" in encrypted.read_text()
    assert error(encrypted) == f"{password} -in {encrypted} -out NEW"
    assert error(server.certificate) == (
        "has no key, but CERTIFICATE: are tls_certificate and tls_key swapped?"
    )
    broken = tmp_path / "broken.key"
    broken.write_text("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")
    assert error(broken) == "has a broken key, or one of an unknown kind"


def test_a_certificate_that_no_client_accepts(tmp_path: Path, authority: Authority) -> None:
    own = authority.issue("client only", purpose="clientAuth")
    status, lines = check(tmp_path, settings(own))
    why = "can't serve clients: unsuitable certificate purpose"
    assert (status, lines) == (2, [f"1:18: tls_certificate: {own.certificate} {why}"])


def test_a_weak_certificate(tmp_path: Path, authority: Authority) -> None:
    weak = Issued(tmp_path / "weak.pem", tmp_path / "weak.key")
    authority.openssl(
        *("req", "-x509", "-newkey", "rsa:1024", "-nodes", "-subj", "/CN=weak"),
        *("-keyout", str(weak.key), "-out", str(weak.certificate)),
    )
    status, lines = check(tmp_path, settings(weak))
    why = "can't be used: ee key too small"
    assert (status, lines) == (2, [f"1:18: tls_certificate: {weak.certificate} {why}"])


def test_dates_that_can_not_be_read(tmp_path: Path, authority: Authority, server: Issued) -> None:
    content = server.certificate.read_text()
    der = ssl.PEM_cert_to_DER_cert(content).replace(b"20991231235959Z", b"20999931235959Z")
    bad = tmp_path / "bad.pem"
    bad.write_text(ssl.DER_cert_to_PEM_cert(der))
    why = "can't serve clients: a name or a date in it can't be read"
    status, lines = check(tmp_path, settings(Issued(bad, server.key)))
    assert (status, lines) == (2, [f"1:18: tls_certificate: {bad} {why}"])


def test_dates_are_warnings(tmp_path: Path, authority: Authority) -> None:
    expired = authority.issue("expired", end="20260101000000Z")
    future = authority.issue("future", begin="20980101000000Z")
    old = Authority(tmp_path / "old", "The old CA", end="20260101000000Z")
    status, lines = check(tmp_path, settings(expired, old.certificate))
    assert status == 0
    assert lines == [
        f" warning: tls_certificate: {expired.certificate} has expired at 2026-01-01 00:00:00 UTC:"
        " clients reject ackd",
        f" warning: tls_client_ca: {old.certificate}: The old CA has expired at"
        " 2026-01-01 00:00:00 UTC: ackd rejects its clients",
    ]
    status, lines = check(tmp_path, settings(future))
    assert status == 0
    assert "is not valid before 2098-01-01 00:00:00 UTC, by this host's clock" in lines[0]


@pytest.mark.parametrize("key", ["tls_certificate", "tls_key", "tls_client_ca"])
def test_no_bytes_in_a_file_raise_another_error(
    tmp_path: Path, authority: Authority, server: Issued, key: str
) -> None:
    originals = {
        "tls_certificate": server.certificate,
        "tls_key": server.key,
        "tls_client_ca": authority.certificate,
    }
    changed = tmp_path / "changed.pem"
    text = settings(server, authority.certificate).replace(str(originals[key]), str(changed))
    config = parse(text.encode(), "f")
    begin, *lines, end = originals[key].read_text().splitlines()
    content = base64.b64decode("".join(lines))
    outcomes = set()
    for place in range(0, len(content), 3):
        other = bytearray(content)
        other[place] ^= 0xFF
        changed.write_text(f"{begin}\n{base64.b64encode(other).decode()}\n{end}\n")
        try:
            load(config, {})
        except ConfigError as error:
            outcomes.add(str(error))
    assert len(outcomes) > 1


# Who may read the files


def test_credentials_are_not_checked_outside_of_the_service(tmp_path: Path, server: Issued) -> None:
    text = "tls_certificate: tls-certificate\ntls_key: tls-key\n"
    where = "not checked: only the service has the credential"
    assert check(tmp_path, text) == (
        0,
        [
            f" warning: tls_certificate: {where} tls-certificate",
            f" warning: tls_key: {where} tls-key",
        ],
    )
    shutil.copy(server.certificate, tmp_path / "tls-certificate")
    status, lines = check(tmp_path, text, CREDENTIALS_DIRECTORY=str(tmp_path))
    missing = "there is no credential tls-key: run /usr/share/ackd/tls"
    assert (status, lines) == (2, [f"2:10: tls_key: {missing}"])
    shutil.copy(server.key, tmp_path / "tls-key")
    assert check(tmp_path, text, CREDENTIALS_DIRECTORY=str(tmp_path)) == (0, [])


def test_a_credential_needs_a_service(tmp_path: Path) -> None:
    file = tmp_path / "ackd.yaml"
    file.write_text("port: 0\ntls_certificate: c\ntls_key: /k\n")
    command = [*COMMAND, "--terminal", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    why = "c is the name of a credential, but systemd has not passed any"
    assert (done.returncode, done.stderr) == (
        2,
        f"ackd: {file}:2:18: tls_certificate: {why};"
        " without systemd, name a file by its absolute path\n"
        f"ackd: {file}:3:10: tls_key: /k: No such file or directory\n",
    )


@pytest.fixture
def public(server: Issued) -> Iterator[Path]:
    """Return a directory that all users can read, with the files of the server."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        shutil.copy(server.certificate, directory / "c.pem")
        (directory / "private").mkdir()
        shutil.copy(server.key, directory / "private" / "k.pem")
        yield directory


@needs_root
def test_another_user_is_told_what_it_can_not_check_and_ackd_what_it_may_not_read(
    public: Path,
) -> None:
    private = public / "private"
    text = settings(Issued(public / "c.pem", private / "k.pem")) + "port: 0\n"
    private.chmod(0o700)
    closed = f"tls_key: not checked: this user may not read {private}"
    assert check(public, text, NOBODY) == (0, [f" warning: {closed}"])
    file = public / "ackd.yaml"
    command = [*NOBODY, *COMMAND, "--terminal", "--config", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (
        2,
        f"ackd: {file}:2:10: tls_key: {private}/k.pem: ackd may not read {private}:"
        f" run /usr/share/ackd/tls, or give the service the group of {private}, see ackd(8)\n",
    )
    (private / "k.pem").chmod(0o600)
    private.chmod(0o755)
    assert check(public, text, NOBODY) == (0, [f" warning: {closed}/k.pem"])


@needs_root
def test_root_is_warned_of_files_that_the_service_can_not_read(public: Path) -> None:
    private = public / "private"
    text = settings(Issued(public / "c.pem", private / "k.pem"))
    private.chmod(0o755)
    (private / "k.pem").chmod(0o644)
    assert check(public, text) == (0, [])
    private.chmod(0o700)
    assert check(public, text) == (
        0,
        [f" warning: tls_key: the service can't read {private}: run /usr/share/ackd/tls"],
    )
    shutil.chown(private, group="nogroup")
    private.chmod(0o710)
    assert check(public, text) == (
        0,
        [f" warning: tls_key: to read {private}, the service needs the group nogroup"],
    )


# While ackd runs


def test_a_start_logs_the_certificate(start: StartDaemon, server: Issued) -> None:
    ackd = start(settings(server))
    text = (
        b"TLS with the certificate of server.example.org, which expires at 2099-12-31 23:59:59 UTC"
    )
    ackd.journal.wait_for(lambda entry: entry["MESSAGE"] == text)


def test_a_reload_takes_all_files_or_says_why_not(
    start: StartDaemon, authority: Authority, server: Issued
) -> None:
    ackd = start(settings(server))
    new = authority.issue("new.example.org")
    ackd.configure(settings(Issued(new.certificate, server.key)))
    ackd.signal(signal.SIGHUP)
    reason = ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"].decode()
    place = f"not reloaded: {ackd.config}:4:10: tls_key: {server.key}"
    assert reason.startswith(
        f"{place} is not the key of the first certificate in {new.certificate}"
    )
    ackd.configure(settings(new))
    ackd.signal(signal.SIGHUP)
    ackd.journal.next(Kind.RELOADED)
    ackd.journal.wait_for(lambda e: b"certificate of new.example.org" in e["MESSAGE"])


def test_a_reload_says_that_credentials_are_as_before(
    start: StartDaemon, server: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copy(server.key, tmp_path / "k")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    ackd = start(f"tls_certificate: {server.certificate}\ntls_key: k\n")
    command = [*COMMAND, "--reload", str(ackd.process.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    note = "tls_key: credentials are as before, because systemd reads them at a restart only"
    assert (done.returncode, done.stderr) == (0, f"ackd: {note}\n")
    ackd.journal.wait_for(lambda entry: entry["MESSAGE"] == note.encode())


def test_the_answer_of_a_reload_names_a_certificate_that_has_expired(
    start: StartDaemon, authority: Authority
) -> None:
    ackd = start()
    own = authority.issue("old", end="20260101000000Z")
    ackd.configure(settings(own))
    command = [*COMMAND, "--reload", str(ackd.process.pid)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    why = "has expired at 2026-01-01 00:00:00 UTC: clients reject ackd"
    text = f"ackd: tls_certificate: {own.certificate} {why}\n"
    assert (done.returncode, done.stderr) == (0, text)


def test_log_and_status_say_that_a_certificate_expires(
    start: StartDaemon, authority: Authority
) -> None:
    end = datetime.now(UTC) + timedelta(days=10)
    own = authority.issue("soon", end=f"{end:%Y%m%d%H%M%SZ}")
    ackd = start(settings(own), managed=True, watchdog=False)
    text = f"tls_certificate: {own.certificate} expires at {end:%Y-%m-%d %H:%M:%S} UTC: renew it"
    for _ in range(2):
        entry = ackd.journal.wait_for(lambda entry: entry["MESSAGE"] == text.encode())
        assert entry["PRIORITY"] == b"4"
        assert ackd.manager.wait_for(f"STATUS={text}; clients: 0")
        ackd.configure(settings(authority.issue("renewed")))
        ackd.signal(signal.SIGHUP)
        assert ackd.manager.wait_for("STATUS=clients: 0")
        ackd.configure(settings(own))
        ackd.signal(signal.SIGHUP)


def begins(text: str) -> Callable[[Entry], bool]:
    return lambda entry: entry["MESSAGE"].startswith(text.encode())


def test_log_and_status_say_when_a_certificate_has_expired_meanwhile(
    start: StartDaemon, authority: Authority
) -> None:
    ackd = start(managed=True, watchdog=False)
    # On a busy host a certificate may expire before ackd has read it. Then a longer one is tried.
    for seconds in (3, 12, 60):
        end = datetime.now(UTC) + timedelta(seconds=seconds)
        own = authority.issue("short", end=f"{end:%Y%m%d%H%M%SZ}")
        ackd.configure(settings(own))
        ackd.signal(signal.SIGHUP)
        name = f"tls_certificate: {own.certificate}"
        found = ackd.journal.wait_for(begins(name))
        ackd.manager.wait_for(f"STATUS={name}")
        if b"renew it" in found["MESSAGE"]:
            break
    expired = f"{name} has expired at {end:%Y-%m-%d %H:%M:%S} UTC: clients reject ackd"
    entry = ackd.journal.wait_for(lambda entry: entry["MESSAGE"] == expired.encode())
    assert entry["PRIORITY"] == b"3"
    assert ackd.manager.wait_for(f"STATUS={expired}; clients: 0")
