"""A service manager's ear for tests: a real datagram socket that takes sd_notify(3)."""

import socket
from pathlib import Path

from tests.support.journal_socket import DEADLINE


class ManagerSocket:
    """Bound at `path`, which goes into $NOTIFY_SOCKET; it hears far less than its queue holds."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE)
        self._socket.bind(str(path))

    def wait_for(self, assignment: str) -> str:
        """Wait for a message that has a line beginning so; return the line."""
        while True:
            for line in self._socket.recv(65536).decode().splitlines():
                if line.startswith(assignment):
                    return line

    def close(self) -> None:
        self._socket.close()
