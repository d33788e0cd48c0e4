"""Servers with TLS for tests: each script plays one, right or wrong."""

import contextlib
import socket
import ssl
from collections.abc import Callable

from tests.support.fake_server import Caller
from tests.support.peer import ACK, GREETING

Script = Callable[[Caller], None]


def over_tls(context: ssl.SSLContext, script: Script) -> Script:
    """Return a script for a connection with TLS; a client that gives up ends it."""

    def wrapped(caller: Caller) -> None:
        with contextlib.suppress(ssl.SSLError, ConnectionResetError):
            caller.socket = context.wrap_socket(
                caller.socket, server_side=True, suppress_ragged_eofs=False
            )
            script(caller)

    return wrapped


def acknowledge(caller: Caller) -> None:
    """Greet, acknowledge each line, and end as an ackd does."""
    caller.send(GREETING)
    acknowledge_lines(caller)


def acknowledge_lines(caller: Caller) -> None:
    """Acknowledge each line, and end as an ackd does."""
    while data := caller.socket.recv(65536):
        caller.send(ACK * data.count(b"\n"))
    end(caller)


def end(caller: Caller) -> None:
    """Send the end that TLS has, and wait for that of the client."""
    assert isinstance(caller.socket, ssl.SSLSocket)
    with contextlib.suppress(OSError):
        caller.socket.unwrap()


class Buffered:
    """The server's side of TLS in memory: a test decides which bytes go out together."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake_hands(self) -> None:
        """Make the handshake, but keep the last bytes of it."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self.flush()
                self._incoming.write(self._socket.recv(65536))
            else:
                return

    def write(self, data: bytes) -> None:
        """Encrypt, and keep what is encrypted."""
        assert self._tls.write(data) == len(data)

    def end(self) -> None:
        """Add the end that TLS has, and keep it."""
        with contextlib.suppress(ssl.SSLWantReadError):
            self._tls.unwrap()

    def read(self) -> bytes:
        """Wait for data, and decrypt it."""
        while True:
            with contextlib.suppress(ssl.SSLWantReadError):
                return self._tls.read(65536)
            self._incoming.write(self._socket.recv(65536))

    def flush(self) -> None:
        """Send all at once."""
        self._socket.sendall(self._outgoing.read())
