"""From a name to a connected socket."""

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from itertools import chain, zip_longest
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple

from ackd.client.errors import NotReachedError, Unreached
from ackd.client.waiting import Awaited, Steps

if TYPE_CHECKING:
    from ackd.client.tls import ClientTls

# Seconds after which the next address is tried while the one before has not answered: Connection
# Attempt Delay, RFC 8305, section 8.
_ATTEMPT_DELAY = 0.25


class Destination(NamedTuple):
    """Where a server is, and how to speak to it.

    `timeout` (seconds) bounds each wait: for the addresses of the name, the connection, the
    handshake of TLS, the greeting, and the next reply while one is due. `source` is the local
    address, "" for any. `greeted` is false for a server with an empty greeting. `family` is
    AF_INET, AF_INET6, or AF_UNSPEC for both. Without `tls`, the connection is plain TCP.
    """

    host: str
    port: int
    timeout: float
    source: str = ""
    greeted: bool = True
    family: int = socket.AF_UNSPEC
    tls: "ClientTls | None" = None


class SocketAddress(NamedTuple):
    """An address that a name stands for, as socket() and connect() take it."""

    family: int
    address: tuple[object, ...]


def check_address(text: str) -> None:
    """Raise ValueError unless it is an IPv4 or IPv6 address; `%` and an interface may follow."""
    try:
        socket.getaddrinfo(text or "-", None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None


def check_server_name(text: str) -> None:
    """Raise ValueError unless a certificate can be for this name or address."""
    try:
        encoded = text.removesuffix(".").encode("idna")
    except UnicodeError:
        encoded = b""
    if not encoded or b"\0" in encoded:
        raise ValueError(f"{text!r} can't be the name of a server")


def usable(address: SocketAddress, destination: Destination) -> bool:
    """Return whether an address is of the family of the destination, and of its source."""
    if destination.family not in (socket.AF_UNSPEC, address.family):
        return False
    source = destination.source
    return not source or (":" in source) == (address.family == socket.AF_INET6)


def resolve(destination: Destination) -> Steps[list[SocketAddress]]:
    """Return all addresses of the server's name; raises NotReachedError."""
    try:
        return (yield from _resolve(destination))
    except TimeoutError:
        raise _not_reached(destination, Unreached.NAME) from None
    except (OSError, UnicodeError) as error:
        raise _not_reached(destination, Unreached.NAME, error) from error


def _resolve(destination: Destination) -> Steps[list[SocketAddress]]:
    """Return the addresses; raises TimeoutError, and the errors of getaddrinfo()."""
    host, port = destination.host, destination.port
    if host.isascii():
        with suppress(socket.gaierror):
            # As bytes: for a str, Python would import modules that only other names need.
            return _addresses(host.encode(), port, socket.AI_NUMERICHOST)
    # In a thread: getaddrinfo() blocks, with timeouts of its own, and Ctrl-C does not end it.
    from threading import Thread  # for names only: the import takes longer than to send a line

    answers: list[list[SocketAddress] | OSError | UnicodeError] = []
    reader, writer = os.pipe()

    def ask() -> None:
        try:
            answers.append(_addresses(host, port, family=destination.family))
        except (OSError, UnicodeError) as error:
            answers.append(error)
        finally:
            os.close(writer)  # which makes `reader` readable

    deadline = monotonic() + destination.timeout
    Thread(target=ask, daemon=True).start()
    try:
        while not answers:
            yield Awaited(reader, False, deadline)
            if not answers and monotonic() >= deadline:
                raise TimeoutError
    finally:
        os.close(reader)
    if isinstance(answers[0], Exception):
        raise answers[0]
    return answers[0]


def _addresses(
    host: str | bytes, port: int, flags: int = 0, family: int = socket.AF_UNSPEC
) -> list[SocketAddress]:
    found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=flags)
    return [SocketAddress(family, address) for family, *_, address in found]


def _not_reached(
    destination: Destination, missing: Unreached, cause: OSError | UnicodeError | None = None
) -> NotReachedError:
    where = (destination.host, destination.port, destination.timeout, destination.source)
    return NotReachedError(missing, *where, cause, destination.family)


def connect(destination: Destination, addresses: list[SocketAddress]) -> Steps[socket.socket]:
    """Return a socket that is connected to one of the addresses; raises NotReachedError."""
    candidates = [address for address in addresses if usable(address, destination)]
    if not candidates:
        raise _not_reached(destination, Unreached.FAMILY)
    try:
        return (yield from race(candidates, destination.timeout, destination.source))
    except OSError as error:
        raise _not_reached(destination, Unreached.CONNECTION, error) from error


def race(addresses: list[SocketAddress], timeout: float, source: str = "") -> Steps[socket.socket]:
    """Return a non-blocking socket that is connected to the address that answers first.

    The addresses are tried side by side, RFC 8305: the next one if the one before has failed, or
    has not answered for a while. Raises the OSError of one address if all of them fail. The wait
    takes `timeout` seconds for all addresses together.
    """
    deadline = monotonic() + timeout
    delay = min(_ATTEMPT_DELAY, timeout / len(addresses))  # each has its turn within the timeout
    waiting, due, seen = deque(_alternating(addresses)), -inf, 0
    attempts = _Attempts(source)
    try:
        while waiting or attempts.running:
            if waiting and (due <= monotonic() or len(attempts.failures) > seen):
                seen = len(attempts.failures)
                attempts.begin(waiting.popleft())
                due = monotonic() + delay
                continue
            yield Awaited(attempts.fileno(), False, min(deadline, due if waiting else inf))
            if winner := attempts.winner():
                return winner
            if monotonic() >= deadline:
                break
        raise attempts.failure
    finally:
        attempts.close()


def _alternating(addresses: list[SocketAddress]) -> Iterator[SocketAddress]:
    """Yield addresses of both families in turn, the family of the first first: RFC 8305, 4."""
    first = [each for each in addresses if each.family == addresses[0].family]
    others = [each for each in addresses if each.family != addresses[0].family]
    return (each for each in chain(*zip_longest(first, others)) if each)


class _Attempts:
    """Attempts to connect that are under way; readable when one has succeeded or failed."""

    def __init__(self, source: str) -> None:
        self.failures: list[OSError] = []
        self._source = source
        self._sockets: dict[int, socket.socket] = {}
        self._poll = select.epoll()

    @property
    def running(self) -> bool:
        return bool(self._sockets)

    @property
    def failure(self) -> OSError:
        """The most informative failure: a refusal, because a host has answered, or the last."""
        late = [TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))] * self.running
        failures = [*self.failures, *late]
        refusals = (each for each in failures if isinstance(each, ConnectionRefusedError))
        return next(refusals, failures[-1])

    def fileno(self) -> int:
        return self._poll.fileno()

    def begin(self, address: SocketAddress) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6, for example
            self.failures.append(error)
            return
        try:
            self._connect(sock, address)
        except OSError as error:
            self.failures.append(error)
            sock.close()
        else:
            self._sockets[sock.fileno()] = sock
            self._poll.register(sock, select.EPOLLOUT)

    def _connect(self, sock: socket.socket, address: SocketAddress) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source:
            sock.bind((self._source, 0))
        with suppress(BlockingIOError):  # the answer is still to come
            sock.connect(address.address)

    def winner(self) -> socket.socket | None:
        """Return a socket that is connected now, and note those that have failed."""
        for descriptor, _ in self._poll.poll(0):
            sock = self._sockets.pop(descriptor)
            self._poll.unregister(sock)
            if not (number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                return sock
            self.failures.append(OSError(number, os.strerror(number)))
            sock.close()
        return None

    def close(self) -> None:
        for sock in self._sockets.values():
            sock.close()
        self._poll.close()
