"""A journal for tests: a real datagram socket that reads journald's native protocol."""

import select
import socket
import threading
from collections import deque
from collections.abc import Callable
from pathlib import Path

from ackd.journal.entry import payloads_of
from ackd.records import Kind

Entry = dict[str, bytes]
DEADLINE = 20.0  # seconds until a waiting test fails


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
    """A socket bound at `path`, which a thread reads like journald, except while it is held."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._entries: deque[Entry] = deque()
        self._news = threading.Condition()
        self._gate = threading.Event()
        self._gate.set()
        self.open()

    def open(self) -> None:
        """Bind the socket, and start to read."""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.path.unlink(missing_ok=True)
        self._socket.bind(str(self.path))
        self._end, self._ended = socket.socketpair()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def close(self) -> None:
        """Remove the socket, as systemd does when it stops journald's socket."""
        self.path.unlink(missing_ok=True)
        self._end.close()
        self._gate.set()
        self._reader.join()
        self._socket.close()
        self._ended.close()

    def hold(self) -> None:
        """Stop reading, so that the queue fills, as with a frozen journald."""
        self._gate.clear()

    def go_on(self) -> None:
        """Read again."""
        self._gate.set()

    def next(self, kind: Kind) -> Entry:
        """Wait for the next entry of this kind and return it; keep the others."""
        return self.wait_for(lambda entry: entry["MESSAGE_ID"] == kind.value.encode())

    def wait_for(self, wanted: Callable[[Entry], bool]) -> Entry:
        """Wait for the next entry that is wanted and return it; keep the others."""
        with self._news:
            found = self._news.wait_for(lambda: next(filter(wanted, self._entries), None), DEADLINE)
            assert found, f"no such entry within {DEADLINE:g} s; there are {self._entries}"
            self._entries.remove(found)
            return found

    def payloads(self, count: int) -> list[bytes]:
        """Wait for so many payloads and return them, in the order of their records."""
        payloads: list[bytes] = []
        while len(payloads) < count:
            payloads += [payload for _, payload in payloads_of(self.next(Kind.PAYLOAD))]
        assert len(payloads) == count
        return payloads

    def waiting(self) -> list[Entry]:
        """Return the entries that no test has asked for yet, without waiting."""
        with self._news:
            entries = list(self._entries)
            self._entries.clear()
            return entries

    def _read(self) -> None:
        while True:
            ready, _, _ = select.select([self._socket, self._ended], [], [])
            self._gate.wait()
            if self._ended in ready:
                return
            datagram = self._socket.recv(1 << 20)
            if not datagram:  # journald ignores an empty datagram
                continue
            entry = parse(datagram)
            with self._news:
                self._entries.append(entry)
                self._news.notify_all()
