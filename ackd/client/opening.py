"""A connection from the names of servers to the greeting of one of them, as steps.

The addresses are tried side by side until one has accepted a connection. If its server then does
not greet, rejects the client, or fails in the handshake of TLS, it is passed over, and the others
are tried.
"""

import socket
from collections.abc import Callable, Mapping
from enum import Enum
from typing import TypeAlias

from ackd.client.addresses import (
    Destination,
    Failures,
    Order,
    SocketAddress,
    most_informative,
    not_reached,
    resolve_all,
    run_race,
    usable,
)
from ackd.client.end import End, EndKind
from ackd.client.errors import (
    ClientError,
    NotReachedError,
    Unexpected,
    UnexpectedReplyError,
    Unreached,
    error_of_all,
    error_of_opening,
)
from ackd.client.transport import Transport
from ackd.client.waiting import Awaited, Steps
from ackd.protocol import TagT, Violation


class OpeningStep(Enum):
    """What an opening is waiting for. Without a greeting, two connections are opened."""

    NAME = "name"
    CONNECTION = "connection"
    TLS = "TLS"
    GREETING = "greeting"  # or, if none is expected, the end of a connection without payloads


_NONE: dict[str, NotReachedError] = {}
Began: TypeAlias = Callable[[OpeningStep], None]


def _ignore(_: OpeningStep) -> None:
    """Do nothing."""


def open_transport(
    destination: Destination, began: Began = _ignore, order: Order | None = None
) -> Steps[Transport[TagT]]:
    """Resolve the names, connect, agree on TLS if it is to be used, and wait for the greeting.

    `began` is called before each of these. `order` says which addresses are tried first; those that
    fail are noted there. Raises NotReachedError, TlsError, NoGreetingError, RejectedError, and
    UnexpectedReplyError if the server greets although no greeting is expected. If several servers
    fail, NoServerError has the errors of all.
    """
    began(OpeningStep.NAME)
    found = yield from resolve_all(destination)
    if not found.addresses:
        raise error_of_all(list(found.unresolved.items()))
    opening: Steps[Transport[TagT]] = open_to(
        destination, found.addresses, order or Order(), found.unresolved, began
    )
    return (yield from opening)


def open_to(
    destination: Destination,
    addresses: list[SocketAddress],
    order: Order,
    unresolved: Mapping[str, NotReachedError] = _NONE,
    began: Began = _ignore,
) -> Steps[Transport[TagT]]:
    """Connect to one of the addresses, and wait for the greeting; raises as `open_transport`.

    `unresolved` is why other hosts have no addresses.
    """
    left = order.of(address for address in addresses if usable(address, destination))
    failed: dict[SocketAddress, ClientError] = {}
    while left:
        began(OpeningStep.CONNECTION)
        failures: Failures = {}
        winner = yield from run_race(left, destination.timeout, destination.source, failures)
        for address, error in failures.items():
            left.remove(address)
            host = address.host or destination.host
            failed[address] = not_reached(destination, host, Unreached.CONNECTION, error)
            order.note_failure(address)
        if winner:
            sock, address = winner
            part = destination._replace(timeout=destination.timeout / len(left))
            opening: Steps[Transport[TagT]] = _opened(part, sock, address, began)
            try:
                transport = yield from opening
            except ClientError as error:
                left.remove(address)
                failed[address] = error
                order.note_failure(address)
            else:
                transport.timeout = destination.timeout
                transport.passed_over = failed
                return transport
    raise error_of_all(_by_server(destination, failed, unresolved))


def _by_server(
    destination: Destination,
    failed: dict[SocketAddress, ClientError],
    unresolved: Mapping[str, NotReachedError],
) -> list[tuple[str, ClientError]]:
    """Return the errors of the servers; a host that was not reached at all has only one error."""
    errors: list[tuple[str, ClientError]] = []
    for host in destination.hosts:
        of_host = {
            address: error for address, error in failed.items() if address.host in ("", host)
        }
        unreached = [each for each in of_host.values() if isinstance(each, NotReachedError)]
        causes = [each.cause for each in unreached if isinstance(each.cause, OSError)]
        if host in unresolved:
            errors.append((host, unresolved[host]))
        elif not of_host:
            errors.append((host, not_reached(destination, host, Unreached.FAMILY)))
        elif len(unreached) == len(of_host):
            cause = most_informative(causes)
            errors.append((host, not_reached(destination, host, Unreached.CONNECTION, cause)))
        else:
            errors += [(str(address), error) for address, error in of_host.items()]
    return errors


def _opened(
    destination: Destination, sock: socket.socket, address: SocketAddress, began: Began
) -> Steps[Transport[TagT]]:
    """Agree on TLS if it is to be used, and wait for the greeting, over a connected socket."""
    greeted = destination.greeted
    if not greeted:
        yield from _check_silence(destination, sock, address, began)
        began(OpeningStep.CONNECTION)
        sock = yield from _connected_again(destination, address)
    securing: Steps[Transport[TagT]] = _secured(destination, sock, address, greeted, began)
    transport = yield from securing
    try:
        if greeted:
            began(OpeningStep.GREETING)
            yield from _greeted(transport)
    except BaseException:
        transport.close()
        raise
    return transport


def _connected_again(destination: Destination, address: SocketAddress) -> Steps[socket.socket]:
    failures: Failures = {}
    winner = yield from run_race([address], destination.timeout, destination.source, failures)
    if not winner:
        cause = failures[address]
        host = address.host or destination.host
        raise not_reached(destination, host, Unreached.CONNECTION, cause)
    return winner[0]


def _secured(
    destination: Destination,
    sock: socket.socket,
    address: SocketAddress,
    greeted: bool,
    began: Began,
) -> Steps[Transport[TagT]]:
    """Agree on TLS if it is to be used; do not wait for the greeting."""
    tls, timeout = destination.tls, destination.timeout
    if not tls:
        return Transport(sock, timeout, greeted, address=address)
    from ackd.client.tls import secure  # with TLS only: ssl is slow to import

    began(OpeningStep.TLS)
    try:
        stream = yield from secure(sock, tls, address.host or destination.host, timeout)
    except BaseException:
        sock.close()
        raise
    transport: Transport[TagT] = Transport(sock, timeout, greeted, stream, address)
    transport.receive()  # what came with the last bytes of the handshake
    return transport


def _greeted(transport: Transport[TagT]) -> Steps[None]:
    while transport.greeting is None or transport.ended:
        end = yield from _received(transport)
        if end:
            raise error_of_opening(end)


def _check_silence(
    destination: Destination, sock: socket.socket, address: SocketAddress, began: Began
) -> Steps[None]:
    """Check with a connection without payloads that the server does not greet.

    A greeting would be taken for the ack of the first payload.
    """
    transport: Transport[None] = yield from _secured(destination, sock, address, True, began)
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
