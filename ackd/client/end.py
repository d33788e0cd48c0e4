"""How a connection can end, as facts. The sentences are in `errors`."""

from enum import Enum
from typing import NamedTuple

from ackd.protocol import Violation


class EndKind(Enum):
    """Why nothing more can be exchanged over a connection."""

    CLOSED = "closed"  # by the server
    RESET = "reset"  # by the server, or by something in between
    BROKEN = "broken"  # another error of the socket
    TIMED_OUT = "timed out"  # something was due and did not come
    REJECTED = "rejected"  # the server said `not connect`
    UNEXPECTED = "unexpected"  # the server sent what no ackd sends
    CUT_OFF = "cut off"  # with TLS: without the end that TLS has, so anybody may have ended it
    TLS_FAILED = "TLS failed"


class Certificate(NamedTuple):
    """A certificate as it came, verified or not.

    `names` are those that it is for, `not_before` and `not_after` seconds of time.time(). The
    organisation of the issuer is "" if the certificate names none.
    """

    subject: str
    issuer: str
    names: tuple[str, ...]
    not_before: float
    not_after: float
    issuer_organisation: str = ""


class TlsKind(Enum):
    """What is wrong with TLS."""

    UNKNOWN_AUTHORITY = "unknown authority"  # has signed the server's certificate
    WRONG_NAME = "wrong name"  # in the server's certificate
    EXPIRED = "expired"  # the server's certificate, or one of its authorities
    NOT_YET_VALID = "not yet valid"
    NOT_VERIFIED = "not verified"  # the server's certificate, for another reason
    CERTIFICATE_WANTED = "certificate wanted"  # by the server, from this client
    CERTIFICATE_REJECTED = "certificate rejected"  # this client's, by the server
    NOTHING_IN_COMMON = "nothing in common"  # no version, or no cipher
    NOT_SPOKEN = "not spoken"  # on that port
    ENDED = "ended"  # the connection, within the handshake
    DAMAGED = "damaged"  # a record from the server
    GIVEN_UP = "given up"  # by the server, for another reason
    OTHER = "other"


class TlsFault(NamedTuple):
    """What is wrong with TLS, and what is known about it.

    `name` is the name that the server's `certificate` must have. `reason` is OpenSSL's, or that of
    the server's alert, RFC 8446, 6. `said` is what a server sent that speaks no TLS.
    """

    kind: TlsKind
    name: str = ""
    certificate: Certificate | None = None
    reason: str = ""
    said: bytes = b""


class End(NamedTuple):
    """How a connection ended.

    `errno` belongs to BROKEN, `seconds` (the length of the wait) to TIMED_OUT, `violation` to
    UNEXPECTED, and `fault` to TLS_FAILED. `line` is the rejection, or what had come of a line whose
    end did not come.
    """

    how: EndKind
    errno: int = 0
    seconds: float = 0.0
    violation: Violation | None = None
    line: bytes = b""
    fault: TlsFault | None = None


def end_of(error: OSError, line: bytes) -> End:
    """Return how a connection ended whose socket raised this error."""
    if isinstance(error, BrokenPipeError):
        return End(EndKind.CLOSED, line=line)
    if isinstance(error, ConnectionResetError):
        return End(EndKind.RESET, line=line)
    return End(EndKind.BROKEN, errno=error.errno or 0, line=line)
