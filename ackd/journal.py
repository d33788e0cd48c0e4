"""Records in journald's native protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.

Not through libsystemd: its sd_journal_send blocks while journald is frozen, and returns as if all
were well where there is no journald. One datagram is one entry.
"""

from ackd.datagram import DatagramSocket, unread
from ackd.records import Kind, Origin, Priority, Record
from ackd.tail import Tail

SOCKET = "/run/systemd/journal/socket"
# Before all other fields, where no payload can be.
_REPEATED = b"ACKD_REPEATED=1\n"


def field(name: str, value: bytes) -> bytes:
    """Return one field as it stands in a datagram.

    A value that holds a newline is sent with its length: it could forge fields otherwise.
    """
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name.encode(), value)


def _head(kind: Kind, priority: Priority) -> bytes:
    return b"SYSLOG_IDENTIFIER=ackd\nPRIORITY=%d\nMESSAGE_ID=%b\n" % (priority, kind.value.encode())


class JournalFormat:
    """Writes records as journal entries."""

    _payload_head = _head(Kind.PAYLOAD, Priority.INFO)

    def origin(self, origin: Origin) -> bytes:
        """Return the part of an entry that all payloads of one connection share."""
        return b"".join(
            (
                field("ACKD_PEER", origin.peer.encode()),
                field("ACKD_PEER_PORT", b"%d" % origin.peer_port),
                field("ACKD_LISTENER", origin.listener.encode()),
                field("ACKD_CONNECTION", origin.connection.encode()),
            )
        )

    def payload(self, origin: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the entry of one payload."""
        size = len(payload)
        return b"%b%bACKD_SEQUENCE=%d\nACKD_BYTES=%d\nMESSAGE\n%bBuffer: %b\n" % (
            self._payload_head,
            origin,
            sequence,
            size,
            (size + 8).to_bytes(8, "little"),  # 8: "Buffer: "
            payload,
        )

    def longest(self, payload: int) -> int:
        """Return the bytes that the record of a payload of so many bytes has at most."""
        return payload + 1024  # the fields, with IPv6 addresses at their longest, take under 400

    def record(self, record: Record) -> bytes:
        """Return the entry of any other record."""
        return b"".join(
            (
                _head(record.kind, record.priority),
                self.origin(record.origin) if record.origin else b"",
                *(field(name, str(value).encode()) for name, value in record.fields),
                field("MESSAGE", record.text),
            )
        )


class JournalSocket(DatagramSocket):
    """journald's socket; it knows which records are lost, or may be, when journald has gone."""

    def __init__(self, path: str) -> None:
        self.tail = Tail()
        super().__init__(path)

    def put(self, datagram: bytes) -> bool:
        """Say whether the queue has taken the datagram. Never blocks."""
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._lost(error)
        self.tail.append(datagram)
        return True

    def look(self) -> None:
        """Note how much journald has read; it must have been alive since the last call."""
        self.tail.look(unread(self._socket))

    def doubtful(self) -> list[bytes]:
        """Return what may be lost now that journald has gone, marked as being there repeatedly."""
        records = self.tail.doubtful(unread(self._socket))
        return [r if r.startswith(_REPEATED) else _REPEATED + r for r in records]
