"""The client as a library: `Client`, and the errors that it raises.

What `__all__` names here is public. All else in this package is for ackctl and may change.
"""

from ackd.client.client import DEFAULT_PORT, DEFAULT_TIMEOUT, Client
from ackd.client.errors import (
    ClientError,
    NoGreetingError,
    NoServerError,
    NotReachedError,
    RejectedError,
    TlsError,
    UnexpectedReplyError,
    UnknownOutcomeError,
)

__all__ = [
    "DEFAULT_PORT",
    "DEFAULT_TIMEOUT",
    "Client",
    "ClientError",
    "NoGreetingError",
    "NoServerError",
    "NotReachedError",
    "RejectedError",
    "TlsError",
    "UnexpectedReplyError",
    "UnknownOutcomeError",
]
