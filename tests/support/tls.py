"""TLS for tests: contexts, and a handshake."""

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ackd.server.tls_stream import EncryptedStream
from tests.support.certificates import Authority, Issued
from tests.support.journal_socket import DEADLINE

Version = ssl.TLSVersion


def server_context(own: Issued, clients: Authority | None = None) -> ssl.SSLContext:
    """Return a context as ackd has it; it wants certificates of `clients`, if given."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = Version.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.num_tickets = 0
    context.load_cert_chain(own.certificate, own.key)
    if clients:
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(clients.certificate)
    return context


def client_context(
    servers: Authority, own: Issued | None = None, version: Version = Version.TLSv1_3
) -> ssl.SSLContext:
    """Return a client's context that trusts `servers`, and presents `own`."""
    context = ssl.create_default_context(cafile=servers.certificate)
    context.check_hostname = False
    context.minimum_version = context.maximum_version = version
    if own:
        context.load_cert_chain(own.certificate, own.key)
    return context


@contextmanager
def tcp_pair(buffers: int = 0) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open a TCP connection over loopback; its second end is non-blocking, like ackd's.

    `buffers` is the size of the kernel's buffers on the way to the first end.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
        if buffers:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffers)
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        client.settimeout(DEADLINE)
        client.connect(listener.getsockname())
        with listener.accept()[0] as server:
            server.setblocking(False)
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            yield client, server


def shake_hands(
    client: socket.socket, server: EncryptedStream, context: ssl.SSLContext
) -> ssl.SSLSocket:
    """Do the handshake of both ends; return the client's end, which blocks."""
    client.setblocking(False)
    ours = context.wrap_socket(client, do_handshake_on_connect=False, suppress_ragged_eofs=False)
    finished = False
    while not finished:
        with suppress(ssl.SSLWantReadError):
            ours.do_handshake()
        with suppress(BlockingIOError):
            finished = server.handshake()
    ours.settimeout(DEADLINE)
    return ours
