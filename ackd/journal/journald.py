"""journald's socket, and the records that journald may not have stored yet."""

from ackd.journal.datagram import DatagramSocket, unread
from ackd.journal.unconfirmed import Tail

SOCKET = "/run/systemd/journal/socket"
# Before all other fields, where no payload can be.
_REPEATED = b"ACKD_REPEATED=1\n"


class JournalSocket(DatagramSocket):
    """journald's socket; it knows which records are lost, or may be, when journald has gone."""

    def __init__(self, path: str) -> None:
        self.tail = Tail()
        super().__init__(path)

    def put(self, datagram: bytes) -> bool:
        """Say whether the queue has taken the datagram. Never blocks."""
        taken = super().put(datagram)
        if taken:
            self.tail.append(datagram)
        return taken

    def look(self) -> None:
        """Note how much journald has read; it must have been alive since the last call."""
        self.tail.look(unread(self._socket))

    def doubtful(self) -> list[bytes]:
        """Return what may be lost now that journald has gone, marked as being there repeatedly."""
        records = self.tail.doubtful(unread(self._socket))
        return [r if r.startswith(_REPEATED) else _REPEATED + r for r in records]
