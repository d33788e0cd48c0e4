"""The exchange that all competitors share."""

import contextlib
import socket
import sys

GREETING = b"Connect\n"
ACK = b"thank you client, you data is Received success\n"
CHUNK = 65536
BACKLOG = 4096


class Lines:
    """Counts the lines of one client; at EOF, a rest without a line end counts as a line."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = False

    def receive_data(self, data: bytes) -> bytes:
        """Return the acks for the lines that end in `data`."""
        self._begun = not data.endswith(b"\n")
        return ACK * data.count(b"\n")

    def receive_eof(self) -> bytes:
        """Return the ack for the rest, if there is one."""
        return ACK if self._begun else b""


def listener() -> socket.socket:
    """Return a listener on the port that the command line names."""
    opened = socket.create_server(("127.0.0.1", int(sys.argv[1])), backlog=BACKLOG)
    # Accepted sockets inherit the option. asyncio sets it too.
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return opened


def serve(client: socket.socket) -> None:
    """Serve one client with blocking calls."""
    lines = Lines()
    with client, contextlib.suppress(ConnectionError):
        client.sendall(GREETING)
        while data := client.recv(CHUNK):
            client.sendall(lines.receive_data(data))
        client.sendall(lines.receive_eof())
