"""Reads the PROXY header of connections that come from load balancers."""

import errno
import socket
from collections.abc import Iterable
from time import monotonic

from ackd.loop import READABLE
from ackd.peers import Network, Networks, address_of
from ackd.protocol import EXPECTS_PROXY_HEADER, WRONG_PROXY_HEADER
from ackd.records import Origin, Reason
from ackd.server.arrivals import BeginPreliminary, PreliminaryError
from ackd.server.listener import endpoint
from ackd.server.proxy_header import ProxyHeader, ProxyHeaderError, header_length, parse_header
from ackd.server.stream import Stream

# Bytes that are looked at, to read those of the header only. A usual header is shorter.
_PEEK = 256


def from_proxies(networks: Iterable[Network], timeout: float) -> BeginPreliminary:
    """Return what begins to read a header, on connections from these networks only.

    The header must be whole after `timeout` seconds.
    """
    proxies = Networks(networks)

    def begin(stream: Stream, origin: Origin) -> ProxyHeaderReader | None:
        peer = address_of(origin.peer)
        return ProxyHeaderReader(stream, origin, timeout) if peer in proxies else None

    return begin


class ProxyHeaderReader:
    """A preliminary: reads the header, and no byte more, and takes the client's address from it.

    A part of the header does not stay in the socket, which would be readable all the time. Once the
    length is known, the kernel keeps the rest until it is whole: here, thousands of long headers
    would take memory.
    """

    finds_client = True

    def __init__(self, stream: Stream, origin: Origin, timeout: float) -> None:
        self.stream = stream
        self.origin = origin
        self.events = READABLE
        self.deadline = monotonic() + timeout
        self._timeout = timeout
        self._header = b""
        self._length: int | None = None  # of the whole header, once it is known
        self._woken_at = 1  # bytes in the socket

    def go_on(self) -> bool:
        """Read once, and return whether the header is whole; raises PreliminaryError, OSError."""
        try:
            self._read()
            if self._length is None or len(self._header) < self._length:
                return False
            self._take(parse_header(self._header))
        except ProxyHeaderError as error:
            raise PreliminaryError(error.reason) from error
        return True

    def on_deadline(self) -> None:
        """Raise PreliminaryError: the header is late."""
        raise PreliminaryError(
            f"{WRONG_PROXY_HEADER}it is not whole after {self._timeout:g} s"
            if self._header or self._length
            else EXPECTS_PROXY_HEADER
        )

    def _read(self) -> None:
        have = len(self._header)
        if self._length is None:
            seen = self._header + self.stream.recv(_PEEK, socket.MSG_PEEK)
            self._length = header_length(seen) if len(seen) > have else None
            if self._length and len(seen) < self._length:
                self._wake_at(self._length - have)
                raise BlockingIOError
            size = min(len(seen), self._length or len(seen)) - have
        else:
            size = self._length - have
        if not size:
            raise self._ended()
        while size:
            piece = self.stream.recv(size)
            if not piece:
                raise self._ended()
            self._header += piece
            size -= len(piece)
            # Less has come at the end of TCP, or if the kernel lacks memory.
            self._wake_at(size or 1)

    def _ended(self) -> Exception:
        """Return what the end of TCP means within the header."""
        if self._header:
            return ProxyHeaderError("it is cut off")
        # A health check that only connects ends so.
        return ConnectionAbortedError(errno.ECONNABORTED, Reason.CLIENT.value)

    def _wake_at(self, count: int) -> None:
        """Count the socket as readable from now on if it has so many bytes, or its end: tcp(7)."""
        if count != self._woken_at:
            self.stream.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, count)
            self._woken_at = count

    def _take(self, header: ProxyHeader) -> None:
        origin, facts = self.origin, header.facts
        if header.address:
            facts = (("ACKD_PROXY", endpoint(origin.peer, origin.peer_port)), *facts)
            origin = origin._replace(peer=header.address, peer_port=header.port)
        self.origin = origin._replace(facts=facts)
