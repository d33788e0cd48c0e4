"""What a client of tests does with TLS, and Python's ssl module does not offer."""

import ctypes
import socket
import ssl
from functools import cache


def send_close_notify(client: ssl.SSLSocket) -> None:
    """Send close_notify, and go on to read. SSLSocket.unwrap() would also read the answer.

    It fails if the answer is payload: SSL_shutdown(3).
    """
    assert _libssl().SSL_shutdown(_pointer(client)) == 0


def half_close(client: socket.socket) -> None:
    """End the sending side of TLS, or of TCP without TLS; reading continues."""
    if isinstance(client, ssl.SSLSocket):
        send_close_notify(client)
    else:
        client.shutdown(socket.SHUT_WR)


def receive(client: socket.socket) -> bytes:
    """Return bytes that have come, or none at the end of TLS, or of TCP without TLS."""
    try:
        return client.recv(65536)
    except ssl.SSLZeroReturnError:  # the end of TLS, after a close_notify of this side
        return b""


def update_keys(client: ssl.SSLSocket, ask: bool) -> None:
    """Use new keys from now on, and `ask` the other end for new keys as well: RFC 8446, 4.6.3."""
    assert _libssl().SSL_key_update(_pointer(client), int(ask)) == 1
    assert _libssl().SSL_do_handshake(_pointer(client)) == 1


def renegotiate(client: ssl.SSLSocket) -> None:
    """Ask for another handshake, SSL_renegotiate(3); the next reading goes on with it."""
    assert _libssl().SSL_renegotiate(_pointer(client)) == 1
    _libssl().SSL_do_handshake(_pointer(client))


@cache
def _libssl() -> ctypes.CDLL:
    library = ctypes.CDLL("libssl.so.3")
    library.SSL_key_update.argtypes = [ctypes.c_void_p, ctypes.c_int]
    library.SSL_do_handshake.argtypes = library.SSL_shutdown.argtypes = [ctypes.c_void_p]
    library.SSL_renegotiate.argtypes = [ctypes.c_void_p]
    return library


def _pointer(client: ssl.SSLSocket) -> ctypes.c_void_p:
    """Return OpenSSL's SSL of a socket: PySSLSocket in Modules/_ssl.c of Python."""
    inner = client._sslobj  # type: ignore[attr-defined]
    return ctypes.c_void_p.from_address(id(inner) + object.__basicsize__ + 8)
