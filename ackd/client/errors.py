"""The errors between a client and its server.

The errors have the facts. `str` makes sentences of them, all of which are in this module.
"""

import errno
import os
import socket
import time
from collections.abc import Sequence
from enum import Enum

from ackd.client.end import Certificate, End, EndKind, TlsFault, TlsKind
from ackd.printable import printable
from ackd.protocol import MAX_REPLY, Violation


class ClientError(Exception):
    """The exchange can't go on. `str` says where it stopped."""


class Unreached(Enum):
    """The reason why there is no connection."""

    NAME = "name"  # the name can't be resolved
    FAMILY = "family"  # no address is of the family, IPv4 or IPv6, that is asked for
    CONNECTION = "connection"  # no address has accepted a connection
    PENDING = "pending"  # nothing has failed, but nothing has answered yet


class NotReachedError(ClientError):
    """There is no connection to the server.

    `cause` is the error of getaddrinfo() or of the socket. It is None where the name servers did
    not answer within `timeout` seconds, and where nothing was tried.
    """

    def __init__(
        self,
        missing: Unreached,
        host: str,
        port: int,
        timeout: float,
        source: str = "",
        cause: OSError | UnicodeError | None = None,
        family: int = socket.AF_UNSPEC,
    ) -> None:
        super().__init__(missing, host, port, timeout, source, cause, family)
        self.missing = missing
        self.host = host
        self.port = port
        self.timeout = timeout
        self.source = source
        self.cause = cause
        self.family = family

    def __str__(self) -> str:
        return _not_reached(self)


class TlsError(ClientError):
    """There is a connection, but no TLS over it: `fault` says why. Nothing is recorded.

    If the connection ended within the handshake, `end` says how.
    """

    def __init__(self, fault: TlsFault, end: End | None = None) -> None:
        super().__init__(fault, end)
        self.fault = fault
        self.end = end

    def __str__(self) -> str:
        return f"in the handshake: {describe(self.end)}" if self.end else describe_fault(self.fault)


class NoGreetingError(ClientError):
    """There is a connection, but the server did not greet; `end` says how the wait ended."""

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end

    def __str__(self) -> str:
        return describe(self.end)


class RejectedError(ClientError):
    """The server said `not connect`, in the line `said`. It has recorded nothing."""

    def __init__(self, said: bytes) -> None:
        super().__init__(said)
        self.said = said

    def gives_reason(self, reason: str) -> bool:
        """Return whether the server gave this reason."""
        return reason.encode() in self.said

    def __str__(self) -> str:
        return printable(self.said)


class NoServerError(ClientError):
    """Several servers were tried, and none greeted: `failures` has a name and an error of each.

    Nothing is recorded.
    """

    def __init__(self, failures: tuple[tuple[str, ClientError], ...]) -> None:
        super().__init__(failures)
        self.failures = failures

    def __str__(self) -> str:
        return "; ".join(
            f"{error}" if isinstance(error, NotReachedError) else f"{printable_host(name)}: {error}"
            for name, error in self.failures
        )


class UnknownOutcomeError(ClientError):
    """Payloads may have been sent, and no reply came: whether they are recorded is unknown.

    `end` says how the connection ended.
    """

    def __init__(self, end: End) -> None:
        super().__init__(end)
        self.end = end

    def __str__(self) -> str:
        return describe(self.end)


class Unexpected(Enum):
    """The point of the exchange at which the server did something that no ackd does."""

    REPLY = "reply"  # in the place of a reply
    GREETING = "greeting"  # it spoke first, where no greeting was expected
    SILENCE = "silence"  # it did not close a connection without payloads
    LAST = "last"  # it did not close the connection after the last payload


class UnexpectedReplyError(UnknownOutcomeError):
    """The server did something that no ackd does, so no reply of this server can be trusted."""

    def __init__(self, end: End, where: Unexpected = Unexpected.REPLY) -> None:
        super().__init__(end)
        self.args = (end, where)
        self.where = where

    def __str__(self) -> str:
        return _UNEXPECTED[self.where].format(
            end=describe(self.end), line=printable(self.end.line.rstrip())
        )


def error_of_opening(end: End) -> ClientError:
    """Return the error for a connection that ended before the greeting."""
    if end.how is EndKind.REJECTED:
        return RejectedError(end.line)
    if end.fault:
        return TlsError(end.fault)
    return NoGreetingError(end)


def error_of(end: End) -> ClientError:
    """Return the error for the payloads without a reply."""
    if end.how is EndKind.REJECTED:
        return RejectedError(end.line)
    if end.how is EndKind.UNEXPECTED:
        return UnexpectedReplyError(end)
    return UnknownOutcomeError(end)


def error_of_all(errors: Sequence[tuple[str, ClientError]]) -> ClientError:
    """Return the error for servers all of which have failed; each error has a server's name."""
    same = len({(type(error), str(error)) for _, error in errors}) == 1
    return errors[0][1] if same else NoServerError(tuple(errors))


def printable_host(host: str) -> str:
    """Return a name as it may be printed."""
    return printable(os.fsencode(host))


# From here on: the sentences.

_UNEXPECTED = {
    Unexpected.REPLY: "{end}",
    Unexpected.GREETING: "no greeting was expected, and it says {line}",
    Unexpected.SILENCE: "it does not close a connection without payloads: {end}",
    Unexpected.LAST: "the server does not end as an ackd does: {end}",
}
_VIOLATIONS = {
    Violation.EXCESS_REPLY: "the server sent more replies than it was sent payloads",
    Violation.ENDLESS_LINE: f"the server sent a line of over {MAX_REPLY} bytes",
}
_FAMILIES: dict[int, str] = {socket.AF_INET: "IPv4", socket.AF_INET6: "IPv6"}
# Alerts of servers about a client's certificate, as OpenSSL names them.
_ALERTS = {
    "bad certificate": "it is not good",
    "unsupported certificate": "it is of a kind that the server does not take",
    "certificate revoked": "it is revoked",
    "certificate expired": "it has expired, or is not valid yet",
    "certificate unknown": "the server does not say why",
    "unknown ca": "the server does not trust the authority that has signed it",
    "access denied": "it does not give access",
    "handshake failure": "it wants another one, or it got none",
}
_SHOWN, _NAMES = 80, 5  # bytes of what a server says, and of a name; names of a certificate
_UNCONNECTED = {
    errno.ECONNREFUSED: "connection refused: nothing listens on that port, or a firewall refuses",
    errno.EHOSTUNREACH: "no route to host: it is down, or a firewall turns packets back",
    errno.ENETUNREACH: "network is unreachable: this host, or a router, has no route there",
    errno.EINVAL: "no such connection: fe80: addresses need their interface, as in fe80::1%eth0",
    errno.EADDRNOTAVAIL: "this host has no such address to connect from; `ip address` shows all",
}


def describe(end: End) -> str:
    """Return how a connection ended, in words."""
    if end.how is EndKind.UNEXPECTED:
        assert end.violation
        return f"{_VIOLATIONS[end.violation]}: it is no ackd"
    if end.how is EndKind.REJECTED:
        return printable(end.line)
    if end.fault:
        return describe_fault(end.fault)
    return {
        EndKind.CLOSED: "the server closed the connection",
        EndKind.RESET: "the other side reset the connection",
        EndKind.BROKEN: f"the connection broke: {os.strerror(end.errno)}",
        EndKind.TIMED_OUT: f"no answer within {end.seconds:g} s",
        EndKind.CUT_OFF: "the connection was cut off: it ended without the end that TLS has",
    }[end.how]


def describe_fault(fault: TlsFault) -> str:
    """Return what is wrong with TLS, in words."""
    reason = _ALERTS.get(fault.reason, fault.reason)
    said = printable(fault.said[:_SHOWN].rstrip())
    sentence = {
        TlsKind.CERTIFICATE_WANTED: "the server wants a certificate",
        TlsKind.CERTIFICATE_REJECTED: f"the server turned our certificate away: {reason}",
        TlsKind.NOTHING_IN_COMMON: "the server has no version of TLS, or no cipher, in common with"
        " this host",
        TlsKind.NOT_SPOKEN: f"the port speaks no TLS, it says {said}",
        TlsKind.DAMAGED: "a record of TLS was damaged on the way",
        TlsKind.GIVEN_UP: f"the server gives up: {reason}",
        TlsKind.OTHER: reason,
    }
    return sentence.get(fault.kind) or f"the server's certificate {_flaw(fault, reason)}"


def _flaw(fault: TlsFault, reason: str) -> str:
    """Return why the server's certificate is not good, as the end of a sentence."""
    kind, certificate, now = fault.kind, fault.certificate, time.time()
    if certificate and kind is TlsKind.UNKNOWN_AUTHORITY:
        if certificate.issuer == certificate.subject:
            return "is signed by itself, and this host does not trust it"
        authority = shortened(certificate.issuer)
        return f"is signed by {authority}, an authority that this host does not trust"
    if certificate and kind is TlsKind.WRONG_NAME:
        return f"is not for {printable_host(fault.name)}, but for {describe_names(certificate)}"
    # Otherwise it is the certificate of an authority.
    if certificate and kind is TlsKind.EXPIRED and certificate.not_after < now:
        return f"has expired on {describe_time(certificate.not_after)}"
    if certificate and kind is TlsKind.NOT_YET_VALID and certificate.not_before > now:
        return f"is not valid before {describe_time(certificate.not_before)}"
    return f"can't be verified: {reason}"


def describe_names(certificate: Certificate) -> str:
    """Return the names that a certificate is for; of many names, only the first."""
    names = certificate.names
    more = f" and {len(names) - _NAMES} more" if len(names) > _NAMES else ""
    return ", ".join(map(shortened, names[:_NAMES])) + more


def shortened(name: str) -> str:
    """Return a name of a certificate, which anybody may have made, as it may be printed."""
    return printable(os.fsencode(name)[:_SHOWN])


def describe_time(seconds: float) -> str:
    """Return a time of time.time() in UTC, to the minute."""
    return time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(seconds))


def _not_reached(error: NotReachedError) -> str:
    host, in_time = printable_host(error.host), f"no answer within {error.timeout:g} s"
    if error.missing is Unreached.PENDING:
        return "no answer so far"
    kind = _FAMILIES.get(error.family)
    if error.missing is Unreached.FAMILY:
        of_source = f"it has no address of the same kind as {error.source}"
        return f"{host}: {of_source if error.source else f'it is no {kind} address'}"
    if error.missing is Unreached.NAME:
        late = f"{in_time}: the name servers, or the way to them, are down"
        why = getattr(error.cause, "strerror", None) or str(error.cause or late)
        resolved = f"resolved to an {kind} address" if kind else "resolved"
        return f"{host}: the name can't be {resolved}: {why}"
    return f"{host} port {error.port}: {_unconnected(error.cause, in_time)}"


def _unconnected(cause: OSError | UnicodeError | None, in_time: str) -> str:
    if not isinstance(cause, OSError) or isinstance(cause, TimeoutError):
        return f"{in_time}: the host is down, or a firewall drops packets"
    return _UNCONNECTED.get(cause.errno or 0, f"{cause.strerror}")
