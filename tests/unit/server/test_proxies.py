"""The reading of a PROXY header, which never takes too much or leaves too little."""

import select
import socket
from contextlib import suppress
from ipaddress import ip_network

import pytest

from ackd.protocol import EXPECTS_PROXY_HEADER
from ackd.records import Origin
from ackd.server.arrivals import Preliminary, PreliminaryError
from ackd.server.proxies import from_proxies
from tests.support.proxy_headers import NOOP, field, line, proxied
from tests.support.tls import tcp_pair

begin = from_proxies((ip_network("192.168.150.0/24"),), timeout=10)
HEADERS = (line("192.0.2.7"), proxied("192.0.2.7"), proxied("192.0.2.7", field(NOOP, bytes(4000))))


def reader(stream: socket.socket, peer: str = "192.168.150.9") -> Preliminary:
    stream.setblocking(False)
    preliminary = begin(stream, Origin(peer, 7, "192.168.150.1:10008", "x-1"))
    assert preliminary
    return preliminary


@pytest.mark.parametrize("peer", ["192.168.151.9", "::1", "fe80::1%eth0", "::ffff:192.0.2.7"])
def test_other_addresses_send_no_header(peer: str) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        assert begin(theirs, Origin(peer, 7, "192.168.150.1:10008", "x-1")) is None


@pytest.mark.parametrize("header", HEADERS, ids=len)
@pytest.mark.parametrize("piece", [1, 13, 100, 256, 300, 5000])
def test_the_header_is_read_and_nothing_behind_it(header: bytes, piece: int) -> None:
    with tcp_pair() as (ours, theirs), select.epoll() as readable:
        preliminary = reader(theirs, "::ffff:192.168.150.9")
        readable.register(theirs, select.EPOLLIN)
        whole = header + b"hello\n"
        steps = 0
        for start in range(0, len(whole), piece):
            ours.send(whole[start : start + piece])
            while readable.poll(0) and preliminary.origin.peer != "192.0.2.7":
                steps += 1
                with suppress(BlockingIOError):
                    preliminary.go_on()
        while preliminary.origin.peer != "192.0.2.7":
            assert readable.poll(20)
            preliminary.go_on()
        assert preliminary.origin.facts == (("ACKD_PROXY", "[::ffff:192.168.150.9]:7"),)
        assert theirs.recv(100) == b"hello\n"
        assert steps <= len(whole) // piece + len(whole) // 256 + 2


def test_the_rest_of_a_long_header_stays_in_the_kernel_until_it_is_whole() -> None:
    header = HEADERS[-1]
    with tcp_pair() as (ours, theirs), select.epoll() as readable:
        preliminary = reader(theirs)
        readable.register(theirs, select.EPOLLIN)
        ours.send(header[:300])
        assert readable.poll(20)
        with pytest.raises(BlockingIOError):
            preliminary.go_on()
        ours.send(header[300:-1])
        assert not readable.poll(0.1)
        ours.send(header[-1:])
        assert readable.poll(20)
        assert preliminary.go_on()
        ours.send(b"h")
        assert readable.poll(20)


def test_bytes_of_a_header_that_the_kernel_does_not_keep_are_read() -> None:
    """The kernel reports any byte as readable if it lacks memory, and AF_UNIX always does so."""
    header = HEADERS[-1]
    ours, theirs = socket.socketpair()
    with ours, theirs, select.epoll() as readable:
        preliminary = reader(theirs)
        readable.register(theirs, select.EPOLLIN)
        finished, steps = False, 0
        for start in range(0, len(header), 100):
            ours.send(header[start : start + 100])
            while readable.poll(0):
                steps += 1
                with suppress(BlockingIOError):
                    finished = preliminary.go_on()
        assert finished
        assert steps <= len(header) // 100 + 3


@pytest.mark.parametrize("sent", [1, 100, 300, 4000])
def test_a_header_that_is_cut_off_ends_the_connection(sent: int) -> None:
    with tcp_pair() as (ours, theirs), select.epoll() as readable:
        preliminary = reader(theirs)
        readable.register(theirs, select.EPOLLIN)
        ours.send(HEADERS[-1][:sent])
        assert readable.poll(20)
        with suppress(BlockingIOError):
            preliminary.go_on()
        ours.shutdown(socket.SHUT_WR)
        assert readable.poll(20)
        with pytest.raises(PreliminaryError, match="it is cut off"):
            preliminary.go_on()


def test_a_header_that_is_late_ends_the_connection() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        preliminary = reader(theirs)
        with pytest.raises(BlockingIOError):
            preliminary.go_on()
        with pytest.raises(PreliminaryError, match=EXPECTS_PROXY_HEADER):
            preliminary.on_deadline()
        ours.send(b"PROXY ")
        assert not preliminary.go_on()
        with pytest.raises(
            PreliminaryError, match="wrong PROXY header: it is not whole after 10 s"
        ):
            preliminary.on_deadline()
