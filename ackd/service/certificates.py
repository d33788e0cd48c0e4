"""From the keys tls_... of the configuration to what serves clients over TLS.

Each file is read once, and OpenSSL gets what was read: another program may replace the files at the
same time. A handshake in memory, with a client that trusts exactly this certificate, shows that the
certificate can serve, and has its dates: the ssl module parses the certificates of others only.
"""

import grp
import os
import ssl
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ackd import regular_file
from ackd.config import Config, ConfigError, Problem
from ackd.printable import printable
from ackd.server.tls import Tls
from ackd.service.expiry import Validity, date

SWITCH = "/usr/share/ackd/tls"
# What the switch gives as the default of a credential.
NOT_READ = "systemd could not read the file"
# X509_V_FLAG_NO_CHECK_TIME in OpenSSL's x509_vfy.h.
_NO_CHECK_TIME = 0x200000
# Names of a certificate in one message.
_NAMES = 5
# The reasons of OpenSSL for a key that belongs to another certificate.
_OF_ANOTHER = ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH", "NO_CERTIFICATE_ASSIGNED")


@dataclass(frozen=True)
class Certificates:
    """What serves clients over TLS, and what the log says about it.

    `credentials` are the keys whose files systemd has passed.
    """

    tls: Tls
    description: str
    validities: tuple[Validity, ...]
    credentials: tuple[str, ...]


class _UnusableError(Exception):
    """A file that can't be used: the key that names it, and why."""

    def __init__(self, key: str, text: str) -> None:
        super().__init__(text)
        self.key = key


@dataclass(frozen=True)
class _File:
    """The value of a key: a path, or the name of a credential."""

    key: str
    name: str

    @property
    def is_credential(self) -> bool:
        return not self.name.startswith("/")

    def __str__(self) -> str:
        return f"the credential {self.name}" if self.is_credential else self.name

    def path(self, environ: Mapping[str, str]) -> str:
        """Return the path; raises _UnusableError for a credential of no service."""
        if not self.is_credential:
            return self.name
        directory = environ.get("CREDENTIALS_DIRECTORY")
        if not directory:
            text = f"{self.name} is the name of a credential, but systemd has not passed any"
            raise self.unusable(f"{text}; without systemd, name a file by its absolute path")
        return os.path.join(directory, self.name)

    def unusable(self, text: str) -> _UnusableError:
        return _UnusableError(self.key, text)


def load(config: Config, environ: Mapping[str, str]) -> Certificates:
    """Return what a configuration with `tls_certificate` has for TLS. Raises ConfigError."""
    files = list(_files(config))
    problems: list[Problem] = []
    blocks: dict[str, str] = {}
    for file in files:
        try:
            blocks[file.key] = _read(file, environ)
        except _UnusableError as error:
            problems.append(config.problem(error.key, str(error)))
    if problems:
        raise ConfigError(*problems)
    try:
        return _combined(config, {file.key: file for file in files}, blocks)
    except _UnusableError as error:
        raise ConfigError(config.problem(error.key, str(error))) from error


def not_checked(config: Config, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield which files this process can't check, although the service perhaps can use them."""
    for file in _files(config):
        if file.is_credential and "CREDENTIALS_DIRECTORY" not in environ:
            yield f"{file.key}: not checked: only the service has {file}"
        elif not file.is_credential and _is_forbidden(file.name):
            closed = regular_file.first_forbidden(file.name)
            yield f"{file.key}: not checked: this user may not read {closed}"


def closed_to_service(config: Config) -> Iterator[str]:
    """Yield which files the service, which is another user, can read with a group only, or not."""
    for file in _files(config):
        if file.is_credential or not (closed := regular_file.first_closed(file.name)):
            continue
        status = os.stat(closed)
        by_group = stat.S_IXGRP if stat.S_ISDIR(status.st_mode) else stat.S_IRGRP
        if status.st_mode & by_group and status.st_gid:
            yield f"{file.key}: to read {closed}, the service needs the group {_group(status)}"
        else:
            yield f"{file.key}: the service can't read {closed}: run {SWITCH}"


def _group(status: os.stat_result) -> str:
    try:
        return grp.getgrgid(status.st_gid).gr_name
    except KeyError:
        return str(status.st_gid)


def _files(config: Config) -> Iterator[_File]:
    names = {
        "tls_certificate": config.tls_certificate,
        "tls_key": config.tls_key,
        "tls_client_ca": config.tls_client_ca,
    }
    return (_File(key, name) for key, name in names.items() if name is not None)


def _is_forbidden(path: str) -> bool:
    try:
        regular_file.read(path)
    except OSError as error:
        return isinstance(error, PermissionError)
    return False


# Files


def _read(file: _File, environ: Mapping[str, str]) -> str:
    """Return the PEM blocks that a file must have. Raises _UnusableError."""
    path = file.path(environ)
    try:
        data = regular_file.read(path)
    except PermissionError as error:
        closed = regular_file.first_forbidden(path)
        remedy = f"run {SWITCH}, or give the service the group of {closed}, see ackd(8)"
        raise file.unusable(f"{file}: ackd may not read {closed}: {remedy}") from error
    except FileNotFoundError as error:
        if file.is_credential:
            raise file.unusable(f"there is no credential {file.name}: run {SWITCH}") from error
        raise file.unusable(f"{file}: {error.strerror}") from error
    except OSError as error:
        raise file.unusable(f"{file}: {error.strerror}") from error
    if file.is_credential and data == NOT_READ.encode():
        raise file.unusable(f"{file}: {NOT_READ} that `systemctl cat` shows for it")
    is_wanted = _is_key if file.key == "tls_key" else _is_certificate
    found = list(_pem_blocks(data))
    wanted = [block for label, block in found if is_wanted(label)]
    if not wanted:
        raise file.unusable(f"{file} {_explanation(file.key, data, [label for label, _ in found])}")
    if any("ENCRYPTED" in block for block in wanted):
        decrypt = f"openssl pkey -in {file.name} -out NEW"
        raise file.unusable(f"{file} is encrypted, and ackd has no password: {decrypt}")
    return "".join(wanted)


def _pem_blocks(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the label and the text of each whole block, RFC 7468."""
    for part in data.decode(errors="replace").split("-----BEGIN ")[1:]:
        label, _, rest = part.partition("-----")
        body, end, _ = rest.partition(f"-----END {label}-----")
        if end:
            yield label, f"-----BEGIN {label}-----{body}{end}\n"


def _is_certificate(label: str) -> bool:
    return label in ("CERTIFICATE", "X509 CERTIFICATE")


def _is_key(label: str) -> bool:
    return label.endswith("PRIVATE KEY")


def _explanation(key: str, data: bytes, labels: list[str]) -> str:
    """Return why a file has nothing of what it must have."""
    if not data:
        return "is empty"
    if not labels and b"-----BEGIN " in data:
        return "is cut off: the last line is missing"
    if not labels:
        der = "; it may be DER, which openssl converts" if data.startswith(b"0") else ""
        return f"is not PEM{der}"
    hint = ""
    other = {"tls_key": _is_certificate, "tls_certificate": _is_key}.get(key)
    if other and any(map(other, labels)):
        hint = ": are tls_certificate and tls_key swapped?"
    elif "CERTIFICATE REQUEST" in labels:
        hint = ": an authority must sign the request first"
    wanted = "key" if key == "tls_key" else "certificate"
    return f"has no {wanted}, but {', '.join(sorted(set(labels)))}{hint}"


# Contexts


def _combined(
    config: Config, files: Mapping[str, _File], blocks: Mapping[str, str]
) -> Certificates:
    """Return what the files are good for together. Raises _UnusableError."""
    own = files["tls_certificate"]
    client = _client(own, blocks["tls_certificate"])
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    # Debian leaves this to openssl.cnf, which may also allow newer versions only.
    server.minimum_version = max(server.minimum_version, ssl.TLSVersion.TLSv1_2)
    server.options |= ssl.OP_NO_RENEGOTIATION
    # Connections last: clients need no tickets for the next one, and would only wake up for them.
    server.num_tickets = 0
    _load_chain(server, own, files["tls_key"], blocks)
    try:
        facts = _handshake(server, client)
        validity = _validity(f"tls_certificate: {own}", "clients reject ackd", facts)
    except (ssl.SSLError, ValueError) as error:
        raise own.unusable(f"{own} can't serve clients: {_in_words(error)}") from error
    authorities = files.get("tls_client_ca")
    return Certificates(
        Tls(server, config.tls_allow, config.handshake_timeout),
        f"TLS with the certificate of {_name(facts)}, which expires at {date(validity.end)}",
        (validity, *(_require(server, authorities, blocks) if authorities else ())),
        tuple(file.key for file in files.values() if file.is_credential),
    )


def _require(server: ssl.SSLContext, file: _File, blocks: Mapping[str, str]) -> Iterator[Validity]:
    """Require certificates of clients; yield the dates of those that sign them.

    Raises _UnusableError.
    """
    server.verify_mode = ssl.CERT_REQUIRED
    _trust(server, file, blocks[file.key])
    try:
        for facts in server.get_ca_certs():
            certificate = f"{file.key}: {file}: {_name(facts)}"
            yield _validity(certificate, "ackd rejects its clients", facts)
    except (ssl.SSLError, ValueError) as error:
        raise file.unusable(f"{file} can't be used: {_in_words(error)}") from error


def _client(own: _File, blocks: str) -> ssl.SSLContext:
    """Return a client for a server with this certificate. Raises _UnusableError."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    _trust(client, own, blocks)
    return client


def _trust(context: ssl.SSLContext, file: _File, blocks: str) -> None:
    """Trust each certificate of a file, whoever has signed it. Raises _UnusableError."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(cadata=blocks)
    except (ssl.SSLError, ValueError, TypeError) as error:
        raise file.unusable(f"{file} has a broken certificate") from error


def _load_chain(server: ssl.SSLContext, own: _File, key: _File, blocks: Mapping[str, str]) -> None:
    """Load certificates that can be parsed, and their key. Raises _UnusableError."""
    with _as_path(blocks["tls_certificate"]) as chain_path, _as_path(blocks["tls_key"]) as key_path:
        try:
            server.load_cert_chain(chain_path, key_path)
        except ssl.SSLError as error:
            if error.reason in _OF_ANOTHER:
                text = f"{key} is not the key of the first certificate in {own}"
                raise key.unusable(f"{text}, which must be the one of this server") from error
            if error.reason:
                raise own.unusable(f"{own} can't be used: {_in_words(error)}") from error
            raise key.unusable(f"{key} has a broken key, or one of an unknown kind") from error


@contextmanager
def _as_path(text: str) -> Iterator[str]:
    """Give a text a path: the ssl module reads a certificate and its key from files only."""
    descriptor = os.memfd_create("pem", os.MFD_CLOEXEC)
    with open(descriptor, "w") as file:
        file.write(text)
        file.flush()
        yield f"/proc/self/fd/{descriptor}"


def _handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> dict[str, Any]:
    """Return the facts of the server's certificate as its client has them. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (
        client.wrap_bio(to_client, to_server),
        server.wrap_bio(to_server, to_client, server_side=True),
    )
    for end in 3 * ends:
        with suppress(ssl.SSLWantReadError):
            end.do_handshake()
    return ends[0].getpeercert() or {}


def _in_words(error: ssl.SSLError | ValueError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    if isinstance(error, ssl.SSLError):
        return (error.reason or str(error)).replace("_", " ").lower()
    return "a name or a date in it can't be read"


def _validity(certificate: str, harm: str, facts: Mapping[str, Any]) -> Validity:
    begin, end = (ssl.cert_time_to_seconds(facts[key]) for key in ("notBefore", "notAfter"))
    return Validity(certificate, harm, begin, end)


def _name(facts: Mapping[str, Any]) -> str:
    """Return a few names in a certificate: the alternative names, or else that of the subject."""
    kinds = ("DNS", "IP Address", "URI")
    names = [value for kind, value in facts.get("subjectAltName", ()) if kind in kinds]
    names = names or [value for part in facts["subject"] for _, value in part][-1:]
    more = [f"{len(names) - _NAMES} more"] if len(names) > _NAMES else []
    return printable(", ".join(names[:_NAMES] + more).encode()) or "nobody"
