"""A service manager for tests: a real datagram socket that receives sd_notify(3) messages."""

import contextlib
import socket
from pathlib import Path

from tests.support.journal_socket import DEADLINE


class ManagerSocket:
    """A socket bound at `path`, for $NOTIFY_SOCKET.

    The kernel may have room for a dozen messages only: net.unix.max_dgram_qlen.
    """

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

    def fill(self) -> int:
        """Leave no room for another message, as a manager that hangs; return how many are new.

        The kernel bounds the messages of each sender, and those of the socket.
        """
        count = 0
        while sent := self._send_all():
            count += sent
        return count

    def _send_all(self) -> int:
        """Send from a new socket until there is no room; return how many messages were sent."""
        count = 0
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            sender.connect(str(self.path))
            with contextlib.suppress(BlockingIOError):
                while True:
                    sender.send(b"X=1")
                    count += 1
        return count

    def close(self) -> None:
        self._socket.close()
