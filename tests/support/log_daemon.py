"""A log daemon for tests: a real datagram socket that a test reads."""

import select
import socket
from pathlib import Path


class LogDaemon:
    """A socket bound at `path`, which replaces an older one; datagrams wait until they are read."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def read(self) -> bytes:
        """Return the oldest datagram; raises BlockingIOError if there is none."""
        return self._socket.recv(1 << 20)

    def read_all(self) -> list[bytes]:
        """Return all datagrams in the queue, without waiting."""
        datagrams = []
        while select.select([self._socket], [], [], 0)[0]:
            datagrams.append(self.read())
        return datagrams

    def read_to_mark(self) -> None:
        """Wait for an empty datagram, and read all before it."""
        while not select.select([self._socket], [], [])[0] or self.read():
            pass

    def close(self) -> None:
        """Close the socket; the path stays, as after a crash."""
        self._socket.close()
