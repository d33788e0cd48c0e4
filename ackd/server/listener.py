"""Listening sockets: opened for the configured addresses, or passed by systemd."""

import errno
import socket
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

# Clients that can wait to be accepted; the kernel allows net.core.somaxconn, 4096 by default.
BACKLOG = 4096
# linux/in6.h; the socket module does not name them.
_IP_FREEBIND, _IPV6_FREEBIND = 15, 78
# Seconds: a connection whose client's host has vanished is closed after 60 + 4 * 15.
_KEEPALIVE = ((socket.TCP_KEEPIDLE, 60), (socket.TCP_KEEPINTVL, 15), (socket.TCP_KEEPCNT, 4))
# Bytes of replies that the kernel keeps for a client before it has sent them.
_MOST_UNSENT = 65536

# By the address and port of the configuration; for port 0 the listener itself has another port.
Listeners: TypeAlias = dict[tuple[str, int], socket.socket]


class ListenError(Exception):
    """ackd can't listen on an address; the text says on which, why, and what to do."""


class AddressError(ListenError):
    """One address that can't be listened on: its `endpoint`, and the `reason` with advice."""

    def __init__(self, endpoint: str, reason: str) -> None:
        self.endpoint = endpoint
        self.reason = reason
        super().__init__(f"can't listen on {endpoint}: {reason}")


class NoFamilyError(AddressError):
    """The host has no IPv6, or no IPv4, for an address of that family."""


def endpoint(address: str, port: int) -> str:
    """Return address and port as RFC 5952 writes them: `192.0.2.1:80`, `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def name(listener: socket.socket) -> str:
    """Return the address and port of a listener, or of a connection, on this host."""
    address, port = listener.getsockname()[:2]
    return endpoint(address, port)


def listen(address: str, port: int, ours: Iterable[socket.socket] = ()) -> socket.socket:
    """Return a non-blocking listener on a numeric IPv4 or IPv6 address; raises AddressError.

    The address may overlap with those of `ours`, as 0.0.0.0 overlaps with 127.0.0.1.
    """
    flags = socket.AI_NUMERICHOST | socket.AI_PASSIVE
    beside = [listener for listener in ours if listener.getsockname()[1] == port]
    try:
        # As bytes: for a str, Python would import modules that only names need.
        found = socket.getaddrinfo(address.encode(), port, type=socket.SOCK_STREAM, flags=flags)
        family, *_, where = found[0]
        try:
            return _open(family, where, [])
        except OSError as error:
            if error.errno != errno.EADDRINUSE or not beside:
                raise
            return _open(family, where, beside)
    except socket.gaierror as error:
        _, _, interface = address.partition("%")
        reason = f"there is no interface {interface}" if interface else str(error.strerror)
        raise AddressError(endpoint(address, port), reason) from error
    except OSError as error:
        raise _listen_error(address, port, error) from error


def _open(family: int, where: Any, beside: list[socket.socket]) -> socket.socket:
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
    """Return a listener for each address; a listener of `existing` with that address is kept.

    Without `need_all`, addresses of a family that this host doesn't have are left out, unless that
    leaves none. Raises ListenError, which names all addresses that failed; then no new listener is
    open.
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


def take_over_listener(descriptor: int) -> socket.socket:
    """Return a passed listener with the options that `listen` sets; raises ListenError."""
    try:
        listener = socket.socket(fileno=descriptor)
        tcp = listener.family in (socket.AF_INET, socket.AF_INET6)
        listens = tcp and listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    except OSError:  # not a socket
        listens = False
    if not listens:
        raise ListenError(f"descriptor {descriptor}, passed by systemd, is no listening TCP socket")
    listener.setblocking(False)
    _set_client_options(listener)
    return listener


@contextmanager
def _overlapping(listeners: list[socket.socket]) -> Iterator[None]:
    """Let these listeners overlap while one of them is opened.

    Without this, a change from one address to all addresses would have to close a listener before
    it opens the other. All listeners need the option, SO_REUSEPORT in socket(7). It is not set for
    longer: a second ackd could then listen on the same address.
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
        # Now 0.0.0.0 and :: can both be bound, whatever net.ipv6.bindv6only is.
        listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.setsockopt(socket.IPPROTO_IPV6, _IPV6_FREEBIND, 1)
    else:
        # An address that is not configured yet at boot can be bound, ip(7).
        listener.setsockopt(socket.IPPROTO_IP, _IP_FREEBIND, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)


def _set_client_options(listener: socket.socket) -> None:
    """Set options that accepted sockets inherit: no system call is needed for each client."""
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # Otherwise the kernel takes a byte of urgent data out of a payload: RFC 6093, 6.
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
    for option, value in _KEEPALIVE:
        listener.setsockopt(socket.IPPROTO_TCP, option, value)
    # What a client does not read stays with ackd as a number. The kernel would keep it as bytes, up
    # to net.ipv4.tcp_wmem, which is 4 MiB for each client: tcp(7).
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _MOST_UNSENT)
    # Replies are written whole; Nagle's algorithm would only delay the second.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


# EADDRNOTAVAIL if IPv6 is disabled only for the interfaces: net.ipv6.conf.*.disable_ipv6.
_NO_FAMILY = (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL)
_ADVICE = {
    errno.EADDRINUSE: "another program listens there: `ss -ltnp`, of iproute2, shows which",
    errno.EACCES: "ports below 1024 need privileges: choose a higher one",
    errno.EAFNOSUPPORT: "this host has no IPv6: leave the address out of `bind`",
}


def _listen_error(address: str, port: int, error: OSError) -> AddressError:
    advice = _ADVICE.get(error.errno or 0, "")
    reason = f"{error.strerror}; {advice}" if advice else str(error.strerror)
    kind = NoFamilyError if error.errno in _NO_FAMILY else AddressError
    return kind(endpoint(address, port), reason)
