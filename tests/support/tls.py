"""TLS for tests: contexts, a handshake, and what Python's ssl module can't do as a client."""

import ctypes
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache

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


def send_close_notify(client: ssl.SSLSocket) -> None:
    """Send close_notify, and wait for nothing: the client can go on to read."""
    client.setblocking(False)
    with suppress(ssl.SSLWantReadError):
        client.unwrap()
    client.settimeout(DEADLINE)


@cache
def _libssl() -> ctypes.CDLL:
    library = ctypes.CDLL("libssl.so.3")
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = [ctypes.c_void_p]
    return library


def _pointer(client: ssl.SSLSocket) -> ctypes.c_void_p:
    """Return OpenSSL's SSL of a socket: PySSLSocket in Modules/_ssl.c of Python."""
    inner = client._sslobj  # type: ignore[attr-defined]
    return ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + 8)


def update_keys(client: ssl.SSLSocket, ask: bool) -> None:
    """Use new keys from now on, and `ask` the other end for new keys as well: RFC 8446, 4.6.3."""
    assert _libssl().SSL_key_update(_pointer(client), int(ask)) == 1
    assert _libssl().SSL_do_handshake(_pointer(client)) == 1
