"""What an error of the client's means: for the exit status, and in words."""

from ackd.client.client import (
    ClientError,
    NoGreetingError,
    NotAckdError,
    NotReachedError,
    TurnedAwayError,
)
from ackd.ctl.status import Status

_FAILURES = {
    NotReachedError: (Status.NOT_REACHED, "not reached"),
    NoGreetingError: (Status.NO_GREETING, "connected, but not greeted"),
    TurnedAwayError: (Status.REFUSED, "turned away"),
    NotAckdError: (Status.NO_GREETING, "connection given up"),
}


def meaning(error: ClientError) -> tuple[Status, str]:
    """Return the exit status, if nothing is unknown, and what has happened to the connection."""
    return _FAILURES.get(type(error), (Status.NOT_REACHED, "connection lost"))


def told(error: ClientError) -> str:
    """Return what has happened to the connection, and how."""
    return f"{meaning(error)[1]}: {error}"
