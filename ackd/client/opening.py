"""A connection from the name of a server to its greeting, as steps."""

from collections.abc import Callable
from enum import Enum
from typing import TypeAlias

from ackd.client.addresses import Destination, SocketAddress, connect, resolve
from ackd.client.end import End, EndKind
from ackd.client.errors import Unexpected, UnexpectedReplyError, error_of_opening
from ackd.client.transport import Transport
from ackd.client.waiting import Awaited, Steps
from ackd.protocol import TagT, Violation


class OpeningStep(Enum):
    """What an opening is waiting for. Without a greeting, two connections are opened."""

    NAME = "name"
    CONNECTION = "connection"
    TLS = "TLS"
    GREETING = "greeting"  # or, if none is expected, the end of a connection without payloads


Began: TypeAlias = Callable[[OpeningStep], None]


def _ignore(_: OpeningStep) -> None:
    """Do nothing."""


def open_transport(destination: Destination, began: Began = _ignore) -> Steps[Transport[TagT]]:
    """Resolve the name, connect, agree on TLS if it is to be used, and wait for the greeting.

    `began` is called before each of these. Raises NotReachedError, TlsError, NoGreetingError,
    RejectedError, and UnexpectedReplyError if the server greets although no greeting is expected.
    """
    began(OpeningStep.NAME)
    addresses = yield from resolve(destination)
    transport: Transport[TagT] = yield from open_to(destination, addresses, began)
    return transport


def open_to(
    destination: Destination, addresses: list[SocketAddress], began: Began = _ignore
) -> Steps[Transport[TagT]]:
    """Connect to one of the addresses, and wait for the greeting; raises as `open_transport`."""
    greeted = destination.greeted
    if not greeted:
        yield from _check_silence(destination, addresses, began)
    transport: Transport[TagT] = yield from _connected(destination, addresses, greeted, began)
    try:
        if greeted:
            began(OpeningStep.GREETING)
            yield from _greeted(transport)
    except BaseException:
        transport.close()
        raise
    return transport


def _connected(
    destination: Destination, addresses: list[SocketAddress], greeted: bool, began: Began
) -> Steps[Transport[TagT]]:
    """Connect, and agree on TLS if it is to be used; do not wait for the greeting."""
    began(OpeningStep.CONNECTION)
    sock = yield from connect(destination, addresses)
    tls, timeout = destination.tls, destination.timeout
    if not tls:
        return Transport(sock, timeout, greeted)
    from ackd.client.tls import secure  # with TLS only: ssl is slow to import

    began(OpeningStep.TLS)
    try:
        stream = yield from secure(sock, tls, destination.host, timeout)
    except BaseException:
        sock.close()
        raise
    transport: Transport[TagT] = Transport(sock, timeout, greeted, stream)
    transport.receive()  # what came with the last bytes of the handshake
    return transport


def _greeted(transport: Transport[TagT]) -> Steps[None]:
    while transport.greeting is None or transport.ended:
        end = yield from _received(transport)
        if end:
            raise error_of_opening(end)


def _check_silence(
    destination: Destination, addresses: list[SocketAddress], began: Began
) -> Steps[None]:
    """Check with a connection without payloads that the server does not greet.

    A greeting would be taken for the ack of the first payload.
    """
    transport: Transport[None] = yield from _connected(destination, addresses, True, began)
    began(OpeningStep.GREETING)
    try:
        transport.finish()
        end = None
        while not end and transport.greeting is None:
            end = yield from _received(transport)
    finally:
        transport.close()
    if end and (end.how is EndKind.REJECTED or end.fault):
        raise error_of_opening(end)
    if said := transport.greeting or (end.line if end else b""):
        excess = End(EndKind.UNEXPECTED, violation=Violation.EXCESS_REPLY, line=said)
        raise UnexpectedReplyError(excess, Unexpected.GREETING)
    if end and end.how is not EndKind.CLOSED:
        raise UnexpectedReplyError(end, Unexpected.SILENCE)


def finished(transport: Transport[TagT]) -> Steps[End]:
    """End the sending, and return how the connection has ended then."""
    transport.finish()
    while not transport.ended:
        yield from _received(transport)
    return transport.ended


def _received(transport: Transport[TagT]) -> Steps[End | None]:
    """Receive what comes next; return the end of the connection, if it has ended."""
    if not transport.ended:
        yield Awaited(transport.fileno(), transport.writing, transport.deadline)
        transport.flush()
        transport.receive()
        transport.expire()
    return transport.ended
