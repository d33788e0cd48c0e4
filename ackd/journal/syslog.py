"""Records for a syslog daemon on a host without systemd, in the form that syslog(3) sends."""

import os
import time
from collections.abc import Iterator

from ackd.printable import printable
from ackd.records import Origin, Priority, Record

SOCKET = "/dev/log"
_FACILITY_DAEMON = 3 << 3


class SyslogFormat:
    """Writes records as lines of RFC 3164, the payloads escaped."""

    def origin(self, origin: Origin) -> bytes:
        """Return the words that stand before each payload of one connection."""
        return f"{origin.peer} port {origin.peer_port} {origin.connection}".encode()

    def payload(self, origin: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the line of one payload."""
        text = f"{origin.decode()} #{sequence} Buffer: {printable(payload)}"
        return _line(Priority.INFO, text)

    def batches(
        self, origin: bytes, sequence: int, payloads: list[bytes], _room: int
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the line of each payload: a line has one."""
        for number, payload in enumerate(payloads, sequence):
            yield 1, self.payload(origin, number, payload)

    def longest(self, payload: int) -> int:
        """Return the bytes that the record of a payload of so many bytes has at most."""
        return 4 * payload + 1024  # a byte that isn't text becomes four: \x00

    def record(self, record: Record) -> bytes:
        """Return the line of any other record."""
        origin = self.origin(record.origin).decode() + " " if record.origin else ""
        return _line(record.priority, origin + printable(record.text))


def _line(priority: Priority, text: str) -> bytes:
    now = time.strftime("%b %e %H:%M:%S")
    return f"<{_FACILITY_DAEMON | priority}>{now} ackd[{os.getpid()}]: {text}".encode()
