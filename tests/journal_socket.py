"""A journal for tests: a real datagram socket that takes journald's native protocol."""

import socket
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ackd.records import Kind

Entry = dict[str, bytes]
DEADLINE = 20.0  # seconds until a test that waits in vain fails


def parse(datagram: bytes) -> Entry:
    """Return the fields of one entry; https://systemd.io/JOURNAL_NATIVE_PROTOCOL/."""
    entry: Entry = {}
    while datagram:
        line, _, datagram = datagram.partition(b"\n")
        name, equals, value = line.partition(b"=")
        if not equals:
            size = int.from_bytes(datagram[:8], "little")
            value = datagram[8 : 8 + size]
            assert datagram[8 + size : 9 + size] == b"\n"
            datagram = datagram[9 + size :]
        assert name.decode() not in entry
        entry[name.decode()] = value
    return entry


class JournalSocket:
    """Bound at `path`. What is not read stays in its queue; closed, nobody is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._unclaimed: deque[Entry] = deque()
        self.open()

    def open(self) -> None:
        """Be there (again)."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.settimeout(DEADLINE)
        self.path.unlink(missing_ok=True)
        self._socket.bind(str(self.path))

    def close(self) -> None:
        """Vanish as a journald does whose socket is stopped."""
        self._socket.close()
        self.path.unlink(missing_ok=True)

    def next(self, kind: Kind) -> Entry:
        """Wait for the next entry of this kind and return it; others are kept for later."""
        return self.wait_for(lambda entry: entry["MESSAGE_ID"] == kind.value.encode())

    def wait_for(self, wanted: Callable[[Entry], bool]) -> Entry:
        """Wait for the next entry that is wanted and return it; others are kept for later."""
        for entry in self._unclaimed:
            if wanted(entry):
                self._unclaimed.remove(entry)
                return entry
        while True:
            entry = parse(self._socket.recv(1 << 20))
            if wanted(entry):
                return entry
            self._unclaimed.append(entry)

    def payloads(self, count: int) -> list[bytes]:
        """Wait for so many payloads and return them in the order of their records."""
        messages = [self.next(Kind.PAYLOAD)["MESSAGE"] for _ in range(count)]
        assert all(message.startswith(b"Buffer: ") for message in messages)
        return [message.removeprefix(b"Buffer: ") for message in messages]

    def waiting(self) -> list[Entry]:
        """Return what is there already, without waiting."""
        self._socket.setblocking(False)
        try:
            while True:
                self._unclaimed.append(parse(self._socket.recv(1 << 20)))
        except BlockingIOError:
            pass
        self._socket.settimeout(DEADLINE)
        entries = list(self._unclaimed)
        self._unclaimed.clear()
        return entries
