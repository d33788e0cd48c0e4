"""What serves clients over TLS."""

import ssl
from dataclasses import dataclass


@dataclass(frozen=True)
class Tls:
    """What a server needs for TLS; `handshake_timeout` is in seconds.

    `allow` has the names and patterns of the clients that may come in; empty for all of them.
    """

    context: ssl.SSLContext
    allow: tuple[str, ...]
    handshake_timeout: float
