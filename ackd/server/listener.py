"""Listening sockets: opened for the configured addresses, and named in records."""

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

# The kernel caps it at net.core.somaxconn, 4096 by default: clients that come in one burst wait.
BACKLOG = 4096
# linux/in6.h; the socket module does not name them.
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
# Seconds: a client whose host has vanished is given up after 60 + 4 * 15.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))


# By the address and port of the configuration; port 0 has become another in the listener.
Listeners: TypeAlias = dict[tuple[str, int], socket.socket]


class ListenError(Exception):
    """An address that can't be listened on; the text says which, why, and what to do."""


class AddressError(ListenError):
    """One address that can't be listened on: its `endpoint`, and the `reason` with advice."""

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint = endpoint
        self.reason = reason
        super().__init__(f"can't listen on {endpoint}: {reason}")


class NoFamilyError(AddressError):
    """An IPv6 address on a host that has none, or IPv4 likewise."""


def endpoint(address: str, port: int) -> str:
    """Return the usual way of writing both, RFC 5952: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def name(listener: socket.socket) -> str:
    """Return the endpoint that a listener or a connection has on this host."""
    address, port = listener.getsockname()[:2]
    return endpoint(address, port)


def listen(address: str, port: int, ours: Iterable[socket.socket] = ()) -> socket.socket:
    """Return a non-blocking listener on a numeric IPv4 or IPv6 address; raises AddressError.

    It may overlap with other listeners of `ours`, as 0.0.0.0 does with 127.0.0.1.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    beside = [listener for listener in ours if listener.getsockname()[1] == port]
    try:
        found = socket.getaddrinfo(address, port, type=socket.SOCK_STREAM, flags=flags)
        family, *_, where = found[0]
        try:
            return _opened(family, where, [])
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not beside:
                raise
            return _opened(family, where, beside)
    except OSError as error:
        raise _explained(address, port, error) from error


def _opened(family: int, where: Any, beside: list[socket.socket]) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        _set_bind_options(listener)
        _set_client_options(listener)
        with _overlapping([listener, *beside] if beside else []):
            listener.bind(where)
            listener.listen(BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def open_listeners(
    addresses: Iterable[str], port: int, existing: Listeners, need_all: bool = True
) -> Listeners:
    """Return a listener for each address, those of `existing` where they are the same.

    Without `need_all`, addresses whose family this host doesn't have are left out, as long as one
    is not. Raises ListenError, which names all addresses that failed, and has then opened nothing.
    """
    listeners: Listeners = {}
    failures: list[AddressError] = []
    for address in addresses:
        key = (address, port)
        try:
            listeners[key] = existing.get(key) or listen(address, port, existing.values())
        except AddressError as error:
            if need_all or not isinstance(error, NoFamilyError):
                failures.append(error)
    if listeners and not failures:
        return listeners
    for key in listeners.keys() - existing.keys():
        listeners[key].close()
    raise (
        _summary(failures)
        if failures
        else ListenError(f"can't listen on any of {', '.join(addresses)}")
    )


def _summary(failures: list[AddressError]) -> ListenError:
    """Return one error for several addresses, with each reason once."""
    endpoints: dict[str, list[str]] = {}
    for failure in failures:
        endpoints.setdefault(failure.reason, []).append(failure.endpoint)
    parts = (f"can't listen on {' and '.join(e)}: {reason}" for reason, e in endpoints.items())
    return ListenError("; ".join(parts))


def adopt_listener(descriptor: int) -> socket.socket:
    """Return the listener that a descriptor is, made as those of `listen`; raises ListenError."""
    listener = socket.socket(fileno=descriptor)
    tcp = listener.family in (socket.AF_INET, socket.AF_INET6)
    if not tcp or not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise ListenError(f"descriptor {descriptor}, passed by systemd, is no listening TCP socket")
    listener.setblocking(False)
    _set_client_options(listener)
    return listener


@contextmanager
def _overlapping(listeners: list[socket.socket]) -> Iterator[None]:
    """Let these listeners overlap while one of them is opened.

    Otherwise a change from one address to all would have to close before it opens. All must say so,
    SO_REUSEPORT in socket(7). For good, or without need, it would let a second ackd in as well.
    """
    for listener in listeners:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    try:
        yield
    finally:
        for listener in listeners:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 0)


def _set_bind_options(listener: socket.socket) -> None:
    if listener.family == socket.AF_INET6:
        # 0.0.0.0 and :: can both be bound so, whatever net.ipv6.bindv6only says.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        # An address that is not up yet at boot can be bound already, ip(7).
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _set_client_options(listener: socket.socket) -> None:
    """Set what accepted sockets inherit, so that it costs nothing for each client."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    # Replies are written whole; Nagle's algorithm would only hold the second one back.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# The second where IPv6 was switched off for the interfaces only, net.ipv6.conf.*.disable_ipv6.
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_ADVICE = {
    errno.EADDRINUSE: "another program listens there: `ss -ltnp`, of iproute2, shows which",
    errno.EACCES: "ports below 1024 need privileges: choose a higher one",
    errno.EAFNOSUPPORT: "this host has no IPv6: leave the address out of `bind`",
}


def _explained(address: str, port: int, error: OSError) -> AddressError:
    advice = _ADVICE.get(error.errno or 0, "")
    reason = f"{error.strerror}; {advice}" if advice else str(error.strerror)
    kind = NoFamilyError if error.errno in _NO_FAMILY else AddressError
    return kind(endpoint(address, port), reason)
