"""A TCP connection for tests that sends and expects bytes: a test reads like a transcript."""

import contextlib
import select
import socket
import struct
from typing import Self

from tests.support.journal_socket import DEADLINE

GREETING = b"Connect\n"
ACK = b"thank you client, you data is Received success\n"


class Peer:
    """One end of a connection; expected bytes must match exactly, and come within DEADLINE."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str = "") -> None:
        own = (source, 0) if source else None
        self.socket = socket.create_connection((host, port), DEADLINE, own)

    @classmethod
    def over(cls, connected: socket.socket) -> "Peer":
        """Return a peer that uses an existing connection."""
        peer = cls.__new__(cls)
        peer.socket = connected
        peer.socket.settimeout(DEADLINE)
        return peer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def expect(self, data: bytes) -> None:
        """Read exactly these bytes."""
        received = b""
        while len(received) < len(data) and (chunk := self.socket.recv(len(data) - len(received))):
            received += chunk
        assert received == data

    def expect_end(self) -> None:
        """Read EOF, and no byte before it."""
        assert self.socket.recv(1000) == b""

    def read_to_loss(self) -> bytes:
        """Return all bytes until EOF or a reset."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.socket.recv(65536):
                received += chunk
        return received

    def half_close(self) -> None:
        """Shut down the sending side; reading continues."""
        self.socket.shutdown(socket.SHUT_WR)

    def send_until_stuck(self, data: bytes) -> int:
        """Send this repeatedly until the server reads no more; return the number of bytes sent."""
        count = 0
        with select.epoll() as room:
            room.register(self.socket, select.EPOLLOUT)
            while room.poll(0.5):
                count += self.socket.send(data, socket.MSG_DONTWAIT)
        return count

    def reset(self) -> None:
        """Close with a reset: SO_LINGER with a timeout of 0, socket(7)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def readable(self) -> bool:
        """Return whether there are unread bytes or EOF."""
        self.socket.setblocking(False)
        try:
            return len(self.socket.recv(1, socket.MSG_PEEK)) >= 0
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(DEADLINE)
