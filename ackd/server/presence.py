"""Addresses that ackd listens on before any interface has them: IP_FREEBIND in ip(7)."""

import errno
import logging
import socket
import sys
from collections.abc import Iterable
from math import inf
from time import monotonic
from typing import Any

from ackd.deadlines import Deadlines
from ackd.loop import Timer
from ackd.server.listener import name

log = logging.getLogger("ackd")

# Seconds: nothing reports that an interface has got an address.
_INTERVAL = 5.0
# asm-generic/socket.h; the socket module does not name it.
_SO_NETNS_COOKIE = 71
NOT_THERE = "not there yet: no interface has this address"


class Presence:
    """Knows which listeners have an address that the host does not have yet.

    It looks again every few seconds while there are any.
    """

    def __init__(self, timers: Deadlines[Timer]) -> None:
        self.deadline = self.scheduled = inf
        self._timers = timers
        self._absent: list[socket.socket] = []

    @property
    def trouble(self) -> str:
        """Which listeners no client can reach yet, as text; empty if there are none."""
        absent = self._open_absent()
        names = " and ".join(map(name, absent))
        return f"{names} {'is' if len(absent) == 1 else 'are'} not there yet" if names else ""

    def describe(self, listeners: Iterable[socket.socket]) -> str:
        """Return the names of listeners, with a word about those whose address is absent."""
        return " and ".join(
            f"{name(listener)} ({NOT_THERE})" if listener in self._absent else name(listener)
            for listener in listeners
        )

    def change(self, listeners: Iterable[socket.socket]) -> None:
        """Look at these listeners from now on."""
        self._absent = [listener for listener in listeners if not _is_present(listener)]
        self._look_again()

    def on_deadline(self) -> None:
        """Look again, and log which addresses the host has now."""
        before = self._open_absent()
        self._absent = [listener for listener in before if not _is_present(listener)]
        for listener in before:
            if listener not in self._absent:
                log.info("%s is there now", name(listener))
        self._look_again()

    def _open_absent(self) -> list[socket.socket]:
        """Return the absent ones that no drain has closed."""
        return [listener for listener in self._absent if listener.fileno() >= 0]

    def _look_again(self) -> None:
        self.deadline = monotonic() + _INTERVAL if self._absent else inf
        self._timers.watch(self)


def has_address(address: str) -> bool:
    """Return whether this host has a numeric address, or may have it where that can't be seen."""
    try:
        found = socket.getaddrinfo(address, 0, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except OSError:  # there is no interface of that name
        return False
    family, *_, where = found[0]
    return _can_bind(family, where, 0)


def _is_present(listener: socket.socket) -> bool:
    where = listener.getsockname()
    return _can_bind(listener.family, (where[0], 0, *where[2:]), _network(listener))


def _can_bind(family: int, where: Any, network: int) -> bool:
    """Return whether an ordinary socket can have an address, in the given network namespace.

    A listener that was passed to ackd can be of another namespace, which can't be seen from here.
    """
    try:
        with socket.socket(family, socket.SOCK_STREAM) as other:
            if network and _network(other) != network:
                return True
            other.bind(where)
    except OSError as error:
        return error.errno != errno.EADDRNOTAVAIL
    return True


def _network(sock: socket.socket) -> int:
    """Return the kernel's number for the network namespace of a socket; 0 before Linux 5.14."""
    try:
        return int.from_bytes(
            sock.getsockopt(socket.SOL_SOCKET, _SO_NETNS_COOKIE, 8), sys.byteorder
        )
    except OSError:
        return 0
