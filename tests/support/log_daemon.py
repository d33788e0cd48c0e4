"""A log daemon for tests: a real datagram socket that is read only when a test says so."""

import select
import socket
from pathlib import Path


class LogDaemon:
    """Bound at `path`, in the place of whoever was there; what is not read stays in its queue."""

    def __init__(self, path: Path) -> None:
        path.unlink(missing_ok=True)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind(str(path))

    def read(self) -> bytes:
        """Return the oldest datagram, which must be there."""
        return self._socket.recv(1 << 20)

    def read_all(self) -> list[bytes]:
        """Return what is there, without waiting for more."""
        datagrams = []
        while select.select([self._socket], [], [], 0)[0]:
            datagrams.append(self.read())
        return datagrams

    def close(self) -> None:
        """Be there no more; the path stays, as after a crash."""
        self._socket.close()
