"""A front that ends TLS and forwards what is in it to a server without TLS."""

import contextlib
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import Self

from tests.support.certificates import Issued
from tests.support.journal_socket import DEADLINE

_CHUNK = 65536


def server_context(own: Issued, client_ca: Path | None = None) -> ssl.SSLContext:
    """Return the context of a server, which may want a certificate of its clients."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.certificate, own.key)
    context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF  # tell TCP's end from that of TLS
    if client_ca:
        context.load_verify_locations(client_ca)
        context.verify_mode = ssl.CERT_REQUIRED
    return context


class TlsFront:
    """Takes TLS connections on `port`, and forwards what is in them to `server`, on loopback.

    With `ragged`, it ends connections without the end that TLS has. `failures` are the errors of
    its handshakes.
    """

    def __init__(self, server: int, context: ssl.SSLContext, ragged: bool = False) -> None:
        self.failures: list[OSError] = []
        self._server, self._context, self._ragged = server, context, ragged
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        self._sockets: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for each in self._sockets:
            with contextlib.suppress(OSError):
                # SSLSocket.shutdown() would take TLS away from the thread that uses the socket.
                socket.socket.shutdown(each, socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        self._listener.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self._sockets.append(client)
                thread = threading.Thread(target=self._serve, args=[client])
                self._threads.append(thread)
                thread.start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with self._context.wrap_socket(
                client, server_side=True, suppress_ragged_eofs=False
            ) as tls:
                self._sockets.append(tls)
                with socket.create_connection(("127.0.0.1", self._server)) as server:
                    self._sockets.append(server)
                    self._forward(tls, server)
        except OSError as error:
            self.failures.append(error)

    def _forward(self, tls: ssl.SSLSocket, server: socket.socket) -> None:
        sources: list[socket.socket] = [tls, server]
        while server in sources:
            ready = [tls] if tls in sources and tls.pending() else select.select(sources, [], [])[0]
            for source in ready:
                other = server if source is tls else tls
                if data := source.recv(_CHUNK):
                    other.sendall(data)
                elif source is tls:
                    sources.remove(tls)
                    server.shutdown(socket.SHUT_WR)
                else:
                    sources.remove(server)
        if not self._ragged:
            tls.unwrap()
