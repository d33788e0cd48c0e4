"""A client for tests that speaks bytes, so that a test reads like a transcript."""

import contextlib
import select
import socket
import struct
from typing import Self

from tests.support.journal_socket import DEADLINE

GREETING = b"Connect\n"
ACK = b"thank you client, you data is Received success\n"


class Peer:
    """One connection; what is expected must come to the byte, within the deadline."""

    def __init__(self, port: int, host: str = "127.0.0.1", source: str = "") -> None:
        own = (source, 0) if source else None
        self.socket = socket.create_connection((host, port), DEADLINE, own)

    @classmethod
    def over(cls, connected: socket.socket) -> "Peer":
        """Return a client that speaks over this connection."""
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
        """Read that the server has closed, and nothing before that."""
        assert self.socket.recv(1000) == b""

    def read_to_loss(self) -> bytes:
        """Return all that comes until the server is gone: closed or reset, as its kernel has it."""
        received = b""
        with contextlib.suppress(ConnectionResetError):
            while chunk := self.socket.recv(65536):
                received += chunk
        return received

    def half_close(self) -> None:
        """End the sending, and go on reading."""
        self.socket.shutdown(socket.SHUT_WR)

    def send_until_stuck(self, data: bytes) -> int:
        """Send this over and over until the server takes no more; return how many bytes it took."""
        count = 0
        with select.epoll() as room:
            room.register(self.socket, select.EPOLLOUT)
            while room.poll(0.5):
                count += self.socket.send(data, socket.MSG_DONTWAIT)
        return count

    def reset(self) -> None:
        """Close so that the server gets a reset: SO_LINGER with no time, socket(7)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def readable(self) -> bool:
        """Say whether anything has come that was not expected yet."""
        self.socket.setblocking(False)
        try:
            return len(self.socket.recv(1, socket.MSG_PEEK)) >= 0
        except BlockingIOError:
            return False
        finally:
            self.socket.settimeout(DEADLINE)
