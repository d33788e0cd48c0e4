"""What serves clients over TLS: the handshake before the greeting."""

import socket
import ssl
from dataclasses import dataclass
from time import monotonic

from ackd.loop import READABLE, WRITABLE
from ackd.printable import printable
from ackd.protocol import EXPECTS_TLS, NO_PROXY_PROTOCOL, NOT_ALLOWED
from ackd.records import LONGEST_FACT, Origin, Reason
from ackd.server.arrivals import PreliminaryError
from ackd.server.foreign import ForeignClientError, examine
from ackd.server.stream import Stream
from ackd.server.tls_failures import in_words
from ackd.server.tls_names import is_allowed, names_of
from ackd.server.tls_stream import EncryptedStream

# The first byte of a client's hello: the content type `handshake`, RFC 8446, 5.1.
_HANDSHAKE = b"\x16"
# Bytes that are looked at, if the first is another one: a PROXY header of version 1 is not longer.
_LOOK_AT = 107
# Seconds after which a client that has sent nothing is taken for one that waits for a greeting. A
# client of TLS speaks first; if its hello is lost, it comes again after one second: RFC 6298, 2.
_SILENCE = 3.0


@dataclass(frozen=True)
class Tls:
    """What a server needs for TLS; `handshake_timeout` is in seconds.

    `allow` has the names and patterns of the clients that may come in; empty for all of them.
    """

    context: ssl.SSLContext
    allow: tuple[str, ...]
    handshake_timeout: float

    def begin(self, stream: Stream, origin: Origin) -> "Handshake":
        """Begin the handshake with a client: a BeginPreliminary."""
        return Handshake(self, stream, origin)


class Handshake:
    """The handshake of TLS with one client: a Preliminary."""

    finds_client = False

    def __init__(self, tls: Tls, stream: Stream, origin: Origin) -> None:
        self.stream = stream
        self.origin = origin
        self.events = READABLE
        self._tls = tls
        self._began = monotonic()
        self.deadline = self._began + min(_SILENCE, tls.handshake_timeout)
        self._handshake: EncryptedStream | None = None

    def go_on(self) -> bool:
        """Take one step. Raises PreliminaryError, BlockingIOError, and OSError."""
        handshake = self._handshake or self._begin()
        try:
            finished = handshake.handshake()
        except ssl.SSLError as error:
            raise PreliminaryError(in_words(error), answer=False) from error
        except (EOFError, ConnectionError) as error:
            reason = "the client has left during the TLS handshake"
            raise PreliminaryError(reason, answer=False) from error
        finally:
            self.events = WRITABLE if handshake.wants_write else READABLE
        if finished:
            self._end(handshake)
        return finished

    def on_deadline(self) -> None:
        """Give this client up."""
        if not self._handshake:
            raise PreliminaryError(EXPECTS_TLS)
        seconds = self._tls.handshake_timeout
        raise PreliminaryError(f"the TLS handshake takes longer than {seconds:g} s", answer=False)

    def _begin(self) -> EncryptedStream:
        """Look at the first bytes; raises PreliminaryError if they are not TLS."""
        beginning = self.stream.recv(_LOOK_AT, socket.MSG_PEEK)
        if not beginning:
            raise ConnectionAbortedError(0, Reason.CLIENT.value)
        if not beginning.startswith(_HANDSHAKE):
            raise PreliminaryError(_reason(beginning))
        self.deadline = self._began + self._tls.handshake_timeout
        self.stream = self._handshake = EncryptedStream(self.stream, self._tls.context)
        return self._handshake

    def _end(self, handshake: EncryptedStream) -> None:
        """Add what TLS knows about the client; raises PreliminaryError if it may not come in.

        If the PROXY header has named the client, the certificate is that of the balancer.
        """
        try:
            names = names_of(handshake.certificate())
        except ValueError as error:
            reason = "the names in the client's certificate can't be read"
            raise PreliminaryError(reason) from error
        allowed = [name for name in names if is_allowed(name, self._tls.allow)]
        name = _fact((allowed or names or [""])[0])
        facts = {"ACKD_TLS_NAME": name} if name else {}
        facts |= {"ACKD_TLS_VERSION": handshake.version, "ACKD_TLS_CIPHER": handshake.cipher}
        facts |= dict(self.origin.facts)
        self.origin = self.origin._replace(facts=tuple(facts.items()))
        if self._tls.allow and not allowed:
            raise PreliminaryError(f"{name or 'a client without a name'} {NOT_ALLOWED}")


def _reason(beginning: bytes) -> str:
    """Return why a client is rejected whose first bytes are not TLS."""
    try:
        examine(beginning)
    except ForeignClientError as error:
        if error.reason == NO_PROXY_PROTOCOL:
            return NO_PROXY_PROTOCOL
    return EXPECTS_TLS


def _fact(name: str) -> str:
    return printable(name.encode())[:LONGEST_FACT]
