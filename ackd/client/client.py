"""The client as a library: one greeted connection to an ackd."""

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from ackd.client.addresses import Destination, check_address, check_server_name
from ackd.client.opening import open_transport
from ackd.client.session import Session
from ackd.client.waiting import run
from ackd.protocol import Reply

if TYPE_CHECKING:
    import ssl

    from ackd.client.tls import ClientTls

DEFAULT_HOST = "127.0.0.1"
DEFAULT_PORT = 10008
# Seconds. Longer than ackd's default `journal_wait`: its refusal is a better answer than none.
DEFAULT_TIMEOUT = 15.0


class Client(Session[None]):
    """A connection to an ackd, greeted when the constructor returns.

    `timeout` bounds each wait, in seconds: for the addresses of the name, for the connection, for
    the handshake of TLS, for the greeting, and for the next reply while one is due.

    `send` is for one payload after another, `exchange` for many at once. Both are made of `offer`,
    `wait` and `pump`. The client reads replies while it sends, so neither side can stall.
    """

    def __init__(
        self,
        host: str | Sequence[str] = DEFAULT_HOST,
        port: int = DEFAULT_PORT,
        timeout: float = DEFAULT_TIMEOUT,
        source: str = "",
        greeted: bool = True,
        tls: "bool | ssl.SSLContext" = False,
        server_name: str = "",
    ) -> None:
        """Connect, from the local address `source` if there is one given.

        `host` can be several hosts with servers that do as well, the preferred one first. If a
        server is not reached, does not greet or rejects the client, the next one is tried: the next
        address of a name as well. NoServerError if several have failed in different ways.

        `greeted` is false for a server with an empty greeting. A greeting would be taken for an
        ack then. So another connection, made before, shows that the server does not greet;
        UnexpectedReplyError if it does. `send` and the like may raise RejectedError then.

        `tls` is True for TLS with a server whose certificate an authority of this system has
        signed, or a context of ssl with other authorities, or with a certificate of this client:
        ssl.create_default_context(cafile=...). `server_name` is the name that the server's
        certificate must have; "" is `host`.

        Raises NotReachedError, TlsError, NoGreetingError, RejectedError, and ValueError for a port,
        a source or a server name that can't be one.
        """
        if not 1 <= port <= 65535:
            raise ValueError(f"{port} is no port: 1 to 65535")
        if source:
            check_address(source)
        if server_name and not tls:
            raise ValueError("a server name is for TLS only")
        first, *others = [host] if isinstance(host, str) else host
        destination = Destination(first, port, timeout, source, greeted, others=tuple(others))
        if tls:
            destination = destination._replace(tls=_tls(tls, server_name))
        super().__init__(run(open_transport(destination)))

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def greeting(self) -> bytes:
        """What the server said first, without the end of the line."""
        return self.transport.greeting or b""

    @property
    def unanswered(self) -> int:
        """How many payloads have been offered and have no reply."""
        return self.transport.unanswered

    @property
    def full(self) -> bool:
        """Whether to wait for replies before the next payload is offered."""
        return self.transport.full

    @property
    def writing(self) -> bool:
        """Whether `pump` waits for the kernel to take more, not only for replies."""
        return self.transport.writing

    @property
    def server(self) -> str:
        """The address of the server that has greeted."""
        return str(self.transport.address)

    def fileno(self) -> int:
        """Return the descriptor, for a caller that watches several clients."""
        return self.transport.fileno()

    def send(self, payload: bytes) -> Reply:
        """Send one payload and return the reply to it; raises UnknownOutcomeError."""
        *_, reply = self.exchange([payload])
        return reply

    def exchange(self, payloads: Iterable[bytes]) -> Iterator[Reply]:
        """Send payloads without waiting for each reply; yield the replies, in order.

        Each is sent as soon as it comes out of `payloads`, which may take its time. Replies that
        an earlier exchange did not wait for come first. Raises UnknownOutcomeError; replies that
        have been yielded stay true.
        """
        for payload in payloads:
            self.offer(payload)
            yield from self.pump()
            while self.full:
                yield from self._next()
        while self.unanswered:
            yield from self._next()

    def offer(self, payload: bytes) -> None:
        """Take a payload to be sent by `pump`; one that holds a newline is a ValueError."""
        self.transport.offer(payload, None)

    def pump(self) -> list[Reply]:
        """Send and receive what can be at once; return the replies that came.

        Raises UnknownOutcomeError when the connection has ended, or when the server has sent what
        no ackd sends.
        """
        return [reply for _, reply in self.advance()]

    def _next(self) -> list[Reply]:
        self.wait()
        return self.pump()


def _tls(given: "bool | ssl.SSLContext", server_name: str) -> "ClientTls":
    from ackd.client.tls import ClientTls, client_context  # slow to import

    if server_name:
        check_server_name(server_name)
    if isinstance(given, bool):
        return ClientTls(client_context(), server_name, has_certificate=False)
    return ClientTls(given, server_name)
