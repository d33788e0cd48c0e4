"""A service manager for tests: a real datagram socket that receives sd_notify(3) messages."""

import socket
from pathlib import Path

from tests.support.journal_socket import DEADLINE


class ManagerSocket:
    """A socket bound at `path`, for $NOTIFY_SOCKET; its queue is larger than any test needs."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE)
        self._socket.bind(str(path))

    def wait_for(self, assignment: str) -> str:
        """Wait for a message with a line that begins with `assignment`; return the line."""
        while True:
            for line in self._socket.recv(65536).decode().splitlines():
                if line.startswith(assignment):
                    return line

    def close(self) -> None:
        self._socket.close()
