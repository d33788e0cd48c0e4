"""ackctl behind a load balancer that sends a PROXY header in front of what its clients send."""

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest

from ackd.client import Client, RejectedError
from ackd.protocol import NO_PROXY_PROTOCOL
from tests.conftest import StartDaemon
from tests.support.ackctl_process import ackctl
from tests.support.fake_server import FakeServer, scripted_server
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING, Peer

HEADER = b"PROXY TCP4 127.0.0.1 127.0.0.1 51000 10008\r\n"
SAID = f"not connect: {NO_PROXY_PROTOCOL}"


def copy(source: socket.socket, target: socket.socket) -> None:
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # the other direction has ended the connection


@contextmanager
def balancer(server: int, at_once: bool) -> Iterator[int]:
    """Pass one client on to a server; send the header at once, or before the first payload."""
    with FakeServer() as front, ThreadPoolExecutor(2) as pool:

        def serve() -> None:
            with front.accept() as client, Peer(server) as back:
                header = b"" if at_once else HEADER
                if at_once:
                    back.send(HEADER)
                replies = pool.submit(copy, back.socket, client.socket)
                if header and (data := client.socket.recv(65536)):
                    back.send(header + data)
                copy(client.socket, back.socket)
                replies.result(DEADLINE)

        served = pool.submit(serve)
        yield front.port
        served.result(DEADLINE)


@pytest.mark.parametrize("at_once", [True, False])
def test_no_reply_is_taken_for_the_ack_of_a_payload(start: StartDaemon, at_once: bool) -> None:
    ackd = start()
    with balancer(ackd.port, at_once) as port:
        status, out, err = ackctl("send", "--port", str(port), "hello")
    assert (status, out) == (1, "")
    assert SAID in err


@pytest.mark.parametrize("at_once", [True, False])
def test_probe_names_the_balancer(start: StartDaemon, at_once: bool) -> None:
    ackd = start()
    with balancer(ackd.port, at_once) as port:
        status, out, _ = ackctl("probe", "--port", str(port))
    assert status == 1
    assert [line for line in out.splitlines() if "failed" in line and line.endswith(SAID)]
    assert "load balancer does with the PROXY protocol" in " ".join(out.split())


def test_the_library_raises_the_rejection(start: StartDaemon) -> None:
    ackd = start()
    with balancer(ackd.port, at_once=False) as port, Client("127.0.0.1", port) as client:
        with pytest.raises(RejectedError) as caught:
            client.send(b"hello")
        assert caught.value.gives_reason(NO_PROXY_PROTOCOL)


def test_replies_before_the_rejection_stay_true() -> None:
    def script(caller: Peer) -> None:
        caller.send(GREETING)
        caller.expect(b"one\ntwo\n")
        caller.send(ACK + SAID.encode() + b"\n")

    with scripted_server(script) as port:
        status, out, err = ackctl("send", "--port", str(port), "one", "two")
    assert (status, out) == (1, ACK.decode())
    assert SAID in err
