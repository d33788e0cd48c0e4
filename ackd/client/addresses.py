"""From a name to a connected socket."""

import errno
import os
import select
import socket
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, zip_longest
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from ackd.client.errors import NotReachedError, Unreached, error_of_all
from ackd.client.waiting import Awaited, Steps

if TYPE_CHECKING:
    from ackd.client.tls import ClientTls

# Seconds after which the next address is tried while the one before has not answered: Connection
# Attempt Delay, RFC 8305, section 8.
_ATTEMPT_DELAY = 0.25
# Seconds that name servers have for further hosts while the addresses of one host are known.
_RESOLUTION_DELAY = 1.0


class Destination(NamedTuple):
    """Where a server is, and how to speak to it.

    `timeout` (seconds) bounds each wait: for the addresses of the name, the connection, the
    handshake of TLS, the greeting, and the next reply while one is due. `source` is the local
    address, "" for any. `greeted` is false for a server with an empty greeting. `family` is
    AF_INET, AF_INET6, or AF_UNSPEC for both. Without `tls`, the connection is plain TCP. `others`
    are further hosts, on the same port, with servers that do as well as the first.
    """

    host: str
    port: int
    timeout: float
    source: str = ""
    greeted: bool = True
    family: int = socket.AF_UNSPEC
    tls: "ClientTls | None" = None
    others: tuple[str, ...] = ()

    @property
    def hosts(self) -> tuple[str, ...]:
        """All hosts, the preferred one first; each once."""
        return tuple(dict.fromkeys((self.host, *self.others)))


class SocketAddress(NamedTuple):
    """An address that a name stands for, as socket() and connect() take it."""

    family: int
    address: tuple[object, ...]
    host: str = ""

    def __str__(self) -> str:
        return str(self.address[0])


UNKNOWN = SocketAddress(socket.AF_UNSPEC, ("",))


class Order:
    """The order in which addresses are tried: those that have failed come last.

    The address that has failed most recently is the very last.
    """

    def __init__(self) -> None:
        self._failed: dict[SocketAddress, None] = {}

    def note_failure(self, address: SocketAddress) -> None:
        """Note that the server at this address has failed just now."""
        self._failed.pop(address, None)
        self._failed[address] = None

    def of(self, addresses: Iterable[SocketAddress]) -> list[SocketAddress]:
        """Return the addresses in the order in which to try them; each once."""
        found: dict[tuple[object, ...], SocketAddress] = {}
        for each in addresses:
            found.setdefault(each.address, each)
        good = [each for each in found.values() if each not in self._failed]
        return [*_alternating(good), *(each for each in self._failed if each in found.values())]


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


class ResolvedHosts(NamedTuple):
    """The addresses of all hosts, in order, and why some hosts have none."""

    addresses: list[SocketAddress]
    unresolved: dict[str, NotReachedError]


def resolve(destination: Destination) -> Steps[list[SocketAddress]]:
    """Return all addresses of all hosts; raises the errors of `error_of_all` if there are none."""
    found = yield from resolve_all(destination)
    if not found.addresses:
        raise error_of_all(list(found.unresolved.items()))
    return found.addresses


def resolve_all(destination: Destination) -> Steps[ResolvedHosts]:
    """Return the addresses of all hosts.

    Once one host has addresses, the name servers have only a moment more for the other hosts.
    """
    answers: dict[str, _Answer] = {}
    for host in destination.hosts:
        if host.isascii():
            with suppress(socket.gaierror):
                # As bytes: for a str, Python would import modules that only other names need.
                answers[host] = _addresses(host, destination, socket.AI_NUMERICHOST)
    names = [host for host in destination.hosts if host not in answers]
    if names:
        yield from _ask(destination, names, answers)
    found = ResolvedHosts([], {})
    for host in destination.hosts:
        answer = answers.get(host)
        if isinstance(answer, list):
            found.addresses.extend(answer)
        else:
            found.unresolved[host] = not_reached(destination, host, Unreached.NAME, answer)
    return found


def _ask(destination: Destination, names: list[str], answers: dict[str, "_Answer"]) -> Steps[None]:
    """Ask the name servers for the addresses of names, and add what they answer in time."""
    # In threads: getaddrinfo() blocks, with timeouts of its own, and Ctrl-C does not end it.
    from threading import Thread  # for names only: the import takes longer than to send a line

    def ask(host: str, writer: int) -> None:
        try:
            answers[host] = _addresses(host, destination)
        except (OSError, UnicodeError) as error:
            answers[host] = error
        finally:
            os.close(writer)  # which makes `reader` readable

    began, readers = monotonic(), []
    with select.epoll() as answered:
        try:
            for host in names:
                reader, writer = os.pipe()
                readers.append(reader)
                answered.register(reader, 0)  # the end is always reported: epoll_ctl(2)
                Thread(target=ask, args=(host, writer), daemon=True).start()
            while any(host not in answers for host in names):
                known = any(isinstance(answer, list) for answer in answers.values())
                most = min(_RESOLUTION_DELAY, destination.timeout) if known else destination.timeout
                if monotonic() >= began + most:
                    return
                yield Awaited(answered.fileno(), False, began + most)
                for descriptor, _ in answered.poll(0):
                    answered.unregister(descriptor)
        finally:
            for reader in readers:
                os.close(reader)


_Answer: TypeAlias = list[SocketAddress] | OSError | UnicodeError


def _addresses(host: str, destination: Destination, flags: int = 0) -> list[SocketAddress]:
    name: str | bytes = host.encode() if flags else host
    family = socket.AF_UNSPEC if flags else destination.family
    found = socket.getaddrinfo(name, destination.port, family, socket.SOCK_STREAM, flags=flags)
    return [SocketAddress(family, address, host) for family, *_, address in found]


def not_reached(
    destination: Destination,
    host: str,
    missing: Unreached,
    cause: OSError | UnicodeError | None = None,
) -> NotReachedError:
    """Return the error for a host to which there is no connection."""
    where = (host, destination.port, destination.timeout, destination.source)
    return NotReachedError(missing, *where, cause, destination.family)


def race(addresses: list[SocketAddress], timeout: float, source: str = "") -> Steps[socket.socket]:
    """Return a non-blocking socket that is connected to the address that answers first.

    The addresses are tried side by side, RFC 8305: the next one if the one before has failed, or
    has not answered for a while. Raises the OSError of one address if all of them fail. The wait
    takes `timeout` seconds for all addresses together.
    """
    failures: Failures = {}
    winner = yield from run_race([*_alternating(addresses)], timeout, source, failures)
    if not winner:
        raise most_informative(list(failures.values()))
    return winner[0]


def most_informative(failures: list[OSError]) -> OSError:
    """Return the most informative failure: a refusal, because a host has answered, or the last."""
    refusals = (each for each in failures if isinstance(each, ConnectionRefusedError))
    return next(refusals, failures[-1])


def run_race(
    addresses: list[SocketAddress], timeout: float, source: str, failures: "Failures"
) -> Steps[tuple[socket.socket, SocketAddress] | None]:
    """Do what `race` does, and return the address as well; None if all addresses have failed.

    The error of each address that has failed is added to `failures`.
    """
    deadline = monotonic() + timeout
    delay = min(_ATTEMPT_DELAY, timeout / len(addresses))  # each has its turn within the timeout
    waiting, due, seen = deque(addresses), -inf, 0
    attempts = _Attempts(source, failures)
    try:
        while waiting or attempts.running:
            if waiting and (due <= monotonic() or len(failures) > seen):
                seen = len(failures)
                attempts.begin(waiting.popleft())
                due = monotonic() + delay
                continue
            yield Awaited(attempts.fileno(), False, min(deadline, due if waiting else inf))
            if winner := attempts.winner():
                return winner
            if monotonic() >= deadline:
                break
        attempts.give_up([*waiting])
        return None
    finally:
        attempts.close()


# The error of each address that was not reached.
Failures: TypeAlias = dict[SocketAddress, OSError]


def _alternating(addresses: list[SocketAddress]) -> Iterator[SocketAddress]:
    """Yield addresses of both families in turn, the family of the first first: RFC 8305, 4."""
    first = [each for each in addresses if each.family == addresses[0].family]
    others = [each for each in addresses if each not in first]
    return (each for each in chain(*zip_longest(first, others)) if each)


class _Attempts:
    """Attempts to connect that are under way; readable when one has succeeded or failed."""

    def __init__(self, source: str, failures: Failures) -> None:
        self._failures = failures
        self._source = source
        self._sockets: dict[int, tuple[socket.socket, SocketAddress]] = {}
        self._poll = select.epoll()

    @property
    def running(self) -> bool:
        return bool(self._sockets)

    def give_up(self, waiting: list[SocketAddress]) -> None:
        """Note that the attempts that are under way, and those that still wait, are too late."""
        for address in (*(each for _, each in self._sockets.values()), *waiting):
            self._failures[address] = TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def fileno(self) -> int:
        return self._poll.fileno()

    def begin(self, address: SocketAddress) -> None:
        try:
            sock = socket.socket(address.family, socket.SOCK_STREAM)
        except OSError as error:  # a kernel without IPv6, for example
            self._failures[address] = error
            return
        try:
            self._connect(sock, address)
        except OSError as error:
            self._failures[address] = error
            sock.close()
        else:
            self._sockets[sock.fileno()] = sock, address
            self._poll.register(sock, select.EPOLLOUT)

    def _connect(self, sock: socket.socket, address: SocketAddress) -> None:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._source:
            sock.bind((self._source, 0))
        with suppress(BlockingIOError):  # the answer is still to come
            sock.connect(address.address)

    def winner(self) -> tuple[socket.socket, SocketAddress] | None:
        """Return a socket that is connected now, and note those that have failed."""
        for descriptor, _ in self._poll.poll(0):
            sock, address = self._sockets.pop(descriptor)
            self._poll.unregister(sock)
            if not (number := sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)):
                return sock, address
            self._failures[address] = OSError(number, os.strerror(number))
            sock.close()
        return None

    def close(self) -> None:
        for sock, _ in self._sockets.values():
            sock.close()
        self._poll.close()
