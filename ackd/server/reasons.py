"""Reasons for which payloads are refused and clients are turned away, as a small and fixed set.

The texts that clients get have addresses, numbers and names in them, which clients choose.
"""

from ackd.protocol import (
    DISK_FAILED,
    DISK_FULL,
    DISK_HANGS,
    EXPECTS_PROXY_HEADER,
    EXPECTS_TLS,
    HANGS,
    LOG_FULL,
    NO_HTTP,
    NO_PROXY_PROTOCOL,
    NO_TLS,
    NOT_ALLOWED,
    NOT_STORED,
    STOPPING,
    TOO_MANY_CONNECTIONS,
    UNREACHABLE,
    WRONG_PROXY_HEADER,
)

TOO_LONG = "longer than max_payload"

_STORING = {
    UNREACHABLE: "the journal can't be reached",
    HANGS: "the journal takes no records",
    NOT_STORED: "the journal does not store payloads",
    LOG_FULL: LOG_FULL,
    DISK_FULL: DISK_FULL,
    DISK_FAILED: "the disk failed",
    DISK_HANGS: DISK_HANGS,
}
# The first that is found counts: a name in a client's certificate can have any other text.
_REJECTIONS = {
    NOT_ALLOWED: "not allowed",
    WRONG_PROXY_HEADER: "wrong PROXY header",
    EXPECTS_PROXY_HEADER: "no PROXY header",
    f"{TOO_MANY_CONNECTIONS} from": "too many connections of one client",
    TOO_MANY_CONNECTIONS: TOO_MANY_CONNECTIONS,
    STOPPING: "ackd was stopping",
    NO_PROXY_PROTOCOL: "another protocol",
    NO_TLS: "another protocol",
    NO_HTTP: "another protocol",
    EXPECTS_TLS: "no TLS",
    **_STORING,
}


def kind_of_refusal(reason: str) -> str:
    """Return the kind of a reason for which payloads are refused."""
    return _kind(_STORING, reason, "another reason")


def kind_of_rejection(reason: str) -> str:
    """Return the kind of a reason for which a client is turned away.

    TLS fails in many words, so a reason that is not known counts as that.
    """
    return _kind(_REJECTIONS, reason, "TLS failed")


def _kind(kinds: dict[str, str], reason: str, otherwise: str) -> str:
    return next((kind for part, kind in kinds.items() if part in reason), otherwise)
