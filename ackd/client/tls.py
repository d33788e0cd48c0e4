"""TLS over a connected socket. Only connections with TLS import this module: ssl is slow to import.

The bytes go through buffers in memory, not through ssl.SSLSocket. So nothing is hidden from a
selector, a wait is always for the socket, no send raises SIGPIPE, and what a server says instead of
speaking TLS can be reported.
"""

import os
import socket
import ssl
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, TypeAlias

from ackd.client.end import Certificate, End, EndKind, TlsFault, TlsKind, end_of
from ackd.client.errors import TlsError
from ackd.client.waiting import Awaited, Steps
from ackd.protocol import NOT_CONNECT

# Bytes of what the server sends that are read at once, and of a record at most, RFC 8446, 5.1.
_CHUNK, _RECORD = 65536, 16384
# The content types of TLS' records, change_cipher_spec to application_data, RFC 8446, 5.1.
_CONTENT_TYPES, _HANDSHAKE = range(20, 24), 22
# Bytes of a server that speaks no TLS, and seconds in which they must come. An ackd greets, and
# then says that it takes no TLS.
_SAID, _PAUSE = 1024, 1.0
# X509_V_ERR_*, openssl/x509_vfy.h.
_NOT_VERIFIED = {
    2: TlsKind.UNKNOWN_AUTHORITY,
    9: TlsKind.NOT_YET_VALID,
    10: TlsKind.EXPIRED,
    18: TlsKind.UNKNOWN_AUTHORITY,
    19: TlsKind.UNKNOWN_AUTHORITY,
    20: TlsKind.UNKNOWN_AUTHORITY,
    21: TlsKind.UNKNOWN_AUTHORITY,
    62: TlsKind.WRONG_NAME,
    64: TlsKind.WRONG_NAME,
}
# OpenSSL's names, as Python gives them, of the alerts of the server and of own errors.
_REASONS = {
    "TLSV13_ALERT_CERTIFICATE_REQUIRED": TlsKind.CERTIFICATE_WANTED,
    "SSLV3_ALERT_NO_CERTIFICATE": TlsKind.CERTIFICATE_WANTED,
    "SSLV3_ALERT_BAD_CERTIFICATE": TlsKind.CERTIFICATE_REJECTED,
    "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE": TlsKind.CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_REVOKED": TlsKind.CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_EXPIRED": TlsKind.CERTIFICATE_REJECTED,
    "SSLV3_ALERT_CERTIFICATE_UNKNOWN": TlsKind.CERTIFICATE_REJECTED,
    "TLSV1_ALERT_UNKNOWN_CA": TlsKind.CERTIFICATE_REJECTED,
    "TLSV1_ALERT_ACCESS_DENIED": TlsKind.CERTIFICATE_REJECTED,
    "TLSV1_ALERT_PROTOCOL_VERSION": TlsKind.NOTHING_IN_COMMON,
    "TLSV1_ALERT_INSUFFICIENT_SECURITY": TlsKind.NOTHING_IN_COMMON,
    "UNSUPPORTED_PROTOCOL": TlsKind.NOTHING_IN_COMMON,
    "WRONG_SSL_VERSION": TlsKind.NOTHING_IN_COMMON,
    "DECRYPTION_FAILED_OR_BAD_RECORD_MAC": TlsKind.DAMAGED,
    "RECORD_LAYER_FAILURE": TlsKind.DAMAGED,  # from OpenSSL 3.2 on
}
_PREFIXES = ("sslv3 alert ", "tlsv1 alert ", "tlsv13 alert ", "tlsv1 ")


class ClientTls(NamedTuple):
    """How to speak TLS: `server_name` is what the certificate must be for, "" for the host."""

    context: ssl.SSLContext
    server_name: str = ""
    has_certificate: bool = True  # to present, if the server wants one


class TlsFileError(Exception):
    """The file `path` can't be used for TLS; `reason` says why, in words."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason


class _EncryptedKeyError(Exception):
    """The private key needs a passphrase."""


def client_context(
    ca: str | None = None, cert: str | None = None, key: str | None = None
) -> ssl.SSLContext:
    """Return a context that verifies servers; raises TlsFileError.

    `ca` is a file of trusted certificates instead of the system's authorities. `cert` is a file
    with this client's certificate, and `key` its private key, None if `cert` has it.
    """
    # create_default_context() verifies more strictly in Python 3.13 than in 3.11.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    if ca is not None:
        _trust(context, ca)
    else:
        context.load_default_certs()
    if cert is not None:
        _present(context, cert, key)
    return context


def _trust(context: ssl.SSLContext, ca: str) -> None:
    """Trust the certificates of a file, also one that is not an authority's: the server's own."""
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        context.load_verify_locations(ca)
    except ssl.SSLError as error:
        raise TlsFileError(ca, _damaged(error, ca, "certificate")) from None
    except (OSError, ValueError) as error:
        raise TlsFileError(ca, _unreadable(error)) from None
    if not context.cert_store_stats()["x509"]:
        raise TlsFileError(ca, "it holds no certificate")


def _present(context: ssl.SSLContext, cert: str, key: str | None) -> None:
    """Present a certificate to servers that want one."""
    with_key = cert if key is None else key
    try:
        context.load_cert_chain(cert, key, password=_refuse)
    except _EncryptedKeyError:
        decrypted = "`openssl pkey -in FILE -out COPY` decrypts it"
        raise TlsFileError(with_key, f"the private key is encrypted; {decrypted}") from None
    except ssl.SSLError as error:
        if error.reason in ("KEY_VALUES_MISMATCH", "KEY_TYPE_MISMATCH"):
            reason = "the private key does not belong to the certificate"
            raise TlsFileError(with_key, reason) from None
        if not _holds(cert, "CERTIFICATE"):
            raise TlsFileError(cert, "it holds no certificate") from None
        raise TlsFileError(with_key, _damaged(error, with_key, "private key")) from None
    except (OSError, ValueError) as error:
        readable = os.path.isfile(cert) and os.access(cert, os.R_OK)
        raise TlsFileError(with_key if readable else cert, _unreadable(error)) from None


def _refuse() -> str:
    raise _EncryptedKeyError


def _unreadable(error: OSError | ValueError) -> str:
    return (isinstance(error, OSError) and error.strerror) or str(error)


def _damaged(error: ssl.SSLError, path: str, what: str) -> str:
    """Return why OpenSSL finds nothing of the kind in a file that can be read."""
    if not _holds(path, what.upper()):
        return f"it holds no {what}"
    return f"its {what} can't be used: {_words(error)}"


def _holds(path: str, what: str) -> bool:
    """Return whether a PEM file has something of a kind, RFC 7468."""
    with suppress(OSError), open(path, "rb") as file:
        return f"{what}-----".encode() in file.read(1 << 20)
    return False


class TlsStream:
    """TLS over a connected, non-blocking socket, with the methods of a socket for `Transport`.

    `end` says how the receiving ended; until then it is None. `must_receive` says that nothing can
    be sent before something is received. `written` counts the bytes that the kernel has taken.
    """

    def __init__(self, sock: socket.socket, tls: ClientTls, host: str) -> None:
        self.end: End | None = None
        self.must_receive = False
        self.written = 0
        # An interface after the address, and a dot after the name, are in no certificate.
        self.name = (tls.server_name or host.partition("%")[0]).removesuffix(".")
        self._socket = sock
        self._has_certificate = tls.has_certificate
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = tls.context.wrap_bio(self._incoming, self._outgoing, server_hostname=self.name)
        self._first = b""  # the first bytes of the server
        self._received = b""  # decrypted
        self._output = b""  # encrypted
        self._ending = False

    @property
    def version(self) -> str:
        """The version of TLS, such as TLSv1.3."""
        return self._ssl.version() or ""

    @property
    def cipher(self) -> str:
        """The name of the cipher suite."""
        cipher = self._ssl.cipher()
        return cipher[0] if cipher else ""

    @property
    def certificate(self) -> Certificate | None:
        """The server's certificate, also if it is not verified; None if none has come."""
        return _certificate(self._ssl)

    @property
    def unsent(self) -> int:
        """How many encrypted bytes the kernel has not taken."""
        return len(self._output) + self._outgoing.pending

    @property
    def said(self) -> bytes:
        """The first bytes of a server that speaks no TLS; b"" if it speaks TLS, or nothing."""
        foreign = self._first and self._first[0] not in _CONTENT_TYPES
        return self._first if foreign else b""

    def shake_hands(self) -> bool:
        """Go on with the handshake; return whether it is complete. Raises TlsError."""
        try:
            while not (self.said or self._shaken()):
                # The server may have said why it has closed.
                with suppress(BrokenPipeError, ConnectionResetError):
                    self._flush()
                if not self._fill():
                    raise self.ended(End(EndKind.CLOSED))
            self._flush()
        except BlockingIOError:
            return False
        except OSError as error:
            raise self.ended(end_of(error, b"")) from error
        return not (self.unsent or self.said)

    def _shaken(self) -> bool:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            with suppress(OSError):  # the alert, which says why this client gives up
                self._flush()
            raise TlsError(self._fault(error)) from error
        return True

    def ended(self, end: End) -> TlsError:
        """Return the error for a connection that ended within the handshake."""
        return TlsError(TlsFault(TlsKind.ENDED, self.name), end)

    def recv(self, size: int) -> bytes:
        """Return all that can be decrypted now; b"" after the end, whatever it was.

        Raises BlockingIOError and other errors of the socket.
        """
        self._decrypt()
        if not (self._received or self.end):
            if not self._fill(size):
                self.end = End(EndKind.CUT_OFF)
            self._decrypt()
        with suppress(OSError):  # a failure to send does not spoil what has arrived
            self._flush()
        received, self._received = self._received, b""
        if not (received or self.end):
            raise BlockingIOError
        return received

    def _fill(self, size: int = _CHUNK) -> bytes:
        """Read from the socket; raises BlockingIOError and other errors of the socket."""
        data = self._socket.recv(size)
        self._first = self._first or data[:_SAID]
        self.must_receive = False
        self._incoming.write(data)
        return data

    def _decrypt(self) -> None:
        while not self.end and (self._incoming.pending or self._ssl.pending()):
            try:
                data = self._ssl.read(_RECORD)
            except ssl.SSLWantReadError:
                return
            except ssl.SSLZeroReturnError:
                data = b""
            except ssl.SSLError as error:
                self.end = End(EndKind.TLS_FAILED, fault=self._fault(error))
                return
            self._received += data
            if not data:
                self.end = End(EndKind.CLOSED)

    def send(self, data: bytes | bytearray, _flags: int = 0) -> int:
        """Encrypt and send; return how many bytes of `data` were taken.

        Raises BlockingIOError while earlier bytes wait, and other errors of the socket.
        """
        self._flush()
        if self.unsent:
            raise BlockingIOError
        taken = 0
        try:
            while taken < min(len(data), _CHUNK):
                taken += self._ssl.write(data[taken : taken + _RECORD])
        except ssl.SSLWantReadError:  # in a renegotiation, which only a caller's context allows
            self.must_receive = True
        except ssl.SSLError as error:
            raise BrokenPipeError from error  # `end` says why
        self._flush()
        return taken

    def shutdown(self, _how: int) -> None:
        """Send the end that TLS has, close_notify, then TCP's end; receiving goes on."""
        self._decrypt()  # OpenSSL takes data that it finds here for an error
        self._ending = True
        with suppress(ssl.SSLError):  # until the server's own close_notify has come, too
            self._ssl.unwrap()
        self._flush()

    def _flush(self) -> None:
        """Send what is encrypted, as far as the kernel takes it; raises errors of the socket."""
        self._output += self._outgoing.read()
        if self._output:
            try:
                # ackctl lets SIGPIPE end it, as a program at the front of a pipe should.
                sent = self._socket.send(self._output, socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            self.written += sent
            self._output = self._output[sent:]
        if self._ending and not self._output:
            self._ending = False
            self._socket.shutdown(socket.SHUT_WR)

    def _fault(self, error: ssl.SSLError) -> TlsFault:
        return TlsFault(self._kind(error), self.name, self.certificate, _words(error))

    def _kind(self, error: ssl.SSLError) -> TlsKind:
        if isinstance(error, ssl.SSLCertVerificationError):
            return _NOT_VERIFIED.get(error.verify_code, TlsKind.NOT_VERIFIED)
        reason = error.reason or ""
        kind = _REASONS.get(reason, TlsKind.GIVEN_UP if "_ALERT_" in reason else TlsKind.OTHER)
        if reason == "SSLV3_ALERT_HANDSHAKE_FAILURE":
            # Before TLS 1.3 this is also the alert of a server that got no certificate. Then its
            # hello has come, with the version and the cipher.
            begun = self._first[0] == _HANDSHAKE
            kind = TlsKind.CERTIFICATE_REJECTED if begun else TlsKind.NOTHING_IN_COMMON
        if kind is TlsKind.CERTIFICATE_REJECTED and not self._has_certificate:
            return TlsKind.CERTIFICATE_WANTED
        return kind


def _words(error: ssl.SSLError) -> str:
    """Return OpenSSL's reason in lower case, without the name of the protocol's version."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    words = (error.reason or str(error)).replace("_", " ").lower()
    for prefix in _PREFIXES:
        words = words.removeprefix(prefix)
    return words


def _certificate(connection: ssl.SSLObject) -> Certificate | None:
    """Return the certificate of the other side, verified or not."""
    # Python has no public way to read a certificate that is not verified. This way, which is the
    # same from 3.10 to 3.14, costs no library and no second connection, and without it errors
    # would only lack names and dates.
    with suppress(AttributeError, ValueError, ssl.SSLError):
        chain: Any = connection._sslobj.get_unverified_chain()  # type: ignore[attr-defined]
        return _parsed(chain[0].get_info()) if chain else None
    return None


def _parsed(info: dict[str, Any]) -> Certificate:
    """Return the facts of a certificate as SSLSocket.getpeercert() gives them."""
    subject, issuer = _name(info.get("subject", ())), _name(info.get("issuer", ()))
    names = tuple(str(value).strip() for _, value in info.get("subjectAltName", ()))
    not_before, not_after = map(ssl.cert_time_to_seconds, (info["notBefore"], info["notAfter"]))
    organisation = _part(info.get("issuer", ()), "organizationName")
    return Certificate(subject, issuer, names or (subject,), not_before, not_after, organisation)


_Name: TypeAlias = tuple[tuple[tuple[str, str], ...], ...]


def _name(name: _Name) -> str:
    """Return the common name if there is one, else all that is there."""
    everything = ", ".join(value for part in name for _, value in part)
    return _part(name, "commonName") or everything


def _part(name: _Name, kind: str) -> str:
    """Return the first part of a name that is of a kind, or ""."""
    return next((value for part in name for key, value in part if key == kind), "")


def secure(sock: socket.socket, tls: ClientTls, host: str, timeout: float) -> Steps[TlsStream]:
    """Make the handshake over a connected socket, within `timeout` seconds.

    Raises TlsError, and then the caller closes the socket.
    """
    stream = TlsStream(sock, tls, host)
    deadline = monotonic() + timeout
    while not stream.shake_hands():
        if stream.said:
            said = yield from _all_said(sock, stream.said, min(deadline, monotonic() + _PAUSE))
            raise TlsError(TlsFault(TlsKind.NOT_SPOKEN, stream.name, said=said))
        if monotonic() >= deadline:
            raise stream.ended(End(EndKind.TIMED_OUT, seconds=timeout))
        yield Awaited(sock.fileno(), bool(stream.unsent), deadline)
    return stream


def _all_said(sock: socket.socket, said: bytes, deadline: float) -> Steps[bytes]:
    """Return what a server says that speaks no TLS, up to a rejection or the deadline."""
    with suppress(OSError):
        while not (NOT_CONNECT in said and said.endswith(b"\n")):
            if len(said) >= _SAID or monotonic() >= deadline:
                break
            yield Awaited(sock.fileno(), False, deadline)
            with suppress(BlockingIOError):
                data = sock.recv(_SAID)
                if not data:
                    break
                said += data
    return said
