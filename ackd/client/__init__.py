"""The client as a library: `Client`, and the errors that it raises."""

from ackd.client.client import (
    DEFAULT_PORT,
    DEFAULT_TIMEOUT,
    Client,
    ClientError,
    NoAckError,
    NoGreetingError,
    NotAckdError,
    NotReachedError,
    TurnedAwayError,
)

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TIMEOUT",
    "Client",
    "ClientError",
    "NoAckError",
    "NoGreetingError",
    "NotAckdError",
    "NotReachedError",
    "TurnedAwayError",
]
