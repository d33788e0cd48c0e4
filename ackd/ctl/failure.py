"""The exit status and the words for each error of the client."""

from ackd.client.errors import (
    ClientError,
    NoGreetingError,
    NotReachedError,
    RejectedError,
    UnexpectedReplyError,
)
from ackd.ctl.status import Status

_FAILURES = {
    NotReachedError: (Status.NOT_REACHED, "not reached"),
    NoGreetingError: (Status.NO_GREETING, "connected, but not greeted"),
    RejectedError: (Status.REFUSED, "turned away"),
    UnexpectedReplyError: (Status.NO_GREETING, "connection given up"),
}


def meaning(error: ClientError) -> tuple[Status, str]:
    """Return the exit status, if no outcome is unknown, and what happened to the connection."""
    return _FAILURES.get(type(error), (Status.NOT_REACHED, "connection lost"))


def describe_failure(error: ClientError) -> str:
    """Return the error of a connection as a sentence."""
    return f"{meaning(error)[1]}: {error}"
