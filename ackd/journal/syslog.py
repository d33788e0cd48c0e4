"""Records for a syslog daemon on a host without systemd, in the form of syslog(3)."""

import os
import time

from ackd.journal.lines import LineFormat
from ackd.printable import printable
from ackd.records import Origin, Priority, Record

SOCKET = "/dev/log"
_FACILITY_DAEMON = 3 << 3


class SyslogFormat(LineFormat):
    """Writes records as lines of RFC 3164."""

    def prefix(self, origin: Origin) -> bytes:
        """Return the text before each payload of one connection."""
        return f"{origin.peer} port {origin.peer_port} {origin.connection}".encode()

    def payload(self, prefix: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the line of one payload."""
        text = f"{prefix.decode()} #{sequence} Buffer: {printable(payload)}"
        return _line(Priority.INFO, text)

    def record(self, record: Record) -> bytes:
        """Return the line of any other record."""
        prefix = self.prefix(record.origin).decode() + " " if record.origin else ""
        return _line(record.priority, prefix + printable(record.text))


def _line(priority: Priority, text: str) -> bytes:
    now = time.strftime("%b %e %H:%M:%S")
    return f"<{_FACILITY_DAEMON | priority}>{now} ackd[{os.getpid()}]: {text}".encode()
