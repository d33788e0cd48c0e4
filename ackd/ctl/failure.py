"""The exit status and the words for each error of the client."""

from ackd.client.end import TlsKind
from ackd.client.errors import (
    ClientError,
    NoGreetingError,
    NoServerError,
    NotReachedError,
    RejectedError,
    TlsError,
    UnexpectedReplyError,
)
from ackd.ctl.exit_status import Status
from ackd.protocol import EXPECTS_TLS, NO_TLS

_FAILURES = {
    NotReachedError: (Status.NOT_REACHED, "not reached"),
    NoGreetingError: (Status.NO_GREETING, "connected, but not greeted"),
    RejectedError: (Status.REFUSED, "turned away"),
    TlsError: (Status.NO_GREETING, "connected, but TLS failed"),
    UnexpectedReplyError: (Status.NO_GREETING, "connection given up"),
}
# If servers have failed in different ways, the status is that of the server that came closest.
_CLOSEST = (Status.REFUSED, Status.NO_GREETING, Status.NOT_REACHED)
_REJECTIONS = (TlsKind.CERTIFICATE_WANTED, TlsKind.CERTIFICATE_REJECTED)


def meaning(error: ClientError) -> tuple[Status, str]:
    """Return the exit status, if no outcome is unknown, and what happened to the connection."""
    if isinstance(error, TlsError) and error.fault.kind in _REJECTIONS:
        return _FAILURES[RejectedError]
    if isinstance(error, NoServerError):
        statuses = [meaning(each)[0] for _, each in error.failures]
        return next(status for status in _CLOSEST if status in statuses), "no server"
    return _FAILURES.get(type(error), (Status.NOT_REACHED, "connection lost"))


def describe_failure(error: ClientError) -> str:
    """Return the error of a connection as a sentence, with the option that helps."""
    return f"{meaning(error)[1]}: {error}{_advice(error)}"


def _advice(error: ClientError) -> str:
    if isinstance(error, RejectedError) and error.gives_reason(EXPECTS_TLS):
        return "; use --tls"
    if isinstance(error, TlsError) and error.fault.kind is TlsKind.CERTIFICATE_WANTED:
        return "; use --cert"
    if isinstance(error, TlsError) and NO_TLS.encode() in error.fault.said:
        return "; leave out --tls"
    return ""
