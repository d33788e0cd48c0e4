"""The journals of a collector, which a real systemd-journal-remote writes."""

import struct
import subprocess
from collections.abc import Iterable, Iterator
from itertools import count
from pathlib import Path

import pytest

from ackd.journal.entry import JournalFormat, fields_of
from ackd.records import Origin

REMOTE = Path("/usr/lib/systemd/systemd-journal-remote")
needs_journal_remote = pytest.mark.skipif(
    not REMOTE.exists(), reason="systemd-journal-remote is not installed"
)
# What journald adds to a record of ackd. The user is one of those of DynamicUser=.
TRUSTED = {
    "_UID": "61337",
    "_SYSTEMD_UNIT": "ackd.service",
    "_SYSTEMD_INVOCATION_ID": "aabbccddeeff00112233445566778899",
    "_TRANSPORT": "journal",
}
_BEGIN = 1_764_150_000_000_000  # the time of the first entry, in microseconds since the epoch


class Node:
    """A node with an ackd, whose journal is uploaded.

    `id` makes its machine and its boot. Each of its entries is a second after the one before.
    """

    def __init__(self, hostname: str, id: int, begin: int = 0) -> None:  # noqa: A002
        self.machine, self.boot = f"{id:032x}", f"{id + 4096:032x}"
        self._hostname = hostname
        self._seconds = count(begin)

    def entries(
        self,
        payloads: Iterable[bytes],
        connection: str = "a1b2c3-1",
        first: int = 1,
        **fields: str,
    ) -> list[bytes]:
        """Return an entry for each payload, in the form of `journalctl --output=export`.

        `fields` are added to those of ackd and of journald, or replace them.
        """
        prefix = JournalFormat().prefix(Origin("192.0.2.1", 4711, "192.0.2.2:10008", connection))
        records = JournalFormat().payloads(prefix, first, list(payloads))
        return [self.entry(record, **fields) for record in records]

    def entry(self, record: bytes, **fields: str) -> bytes:
        """Return the entry of a record."""
        second = next(self._seconds) * 1_000_000
        node = {"_HOSTNAME": self._hostname, "_MACHINE_ID": self.machine, "_BOOT_ID": self.boot}
        added = {name: text.encode() for name, text in {**TRUSTED, **node, **fields}.items()}
        head = f"__REALTIME_TIMESTAMP={_BEGIN + second}\n__MONOTONIC_TIMESTAMP={second + 1}\n"
        return head.encode() + b"".join(_exported({**fields_of(record), **added})) + b"\n"


def _exported(fields: dict[str, bytes]) -> Iterator[bytes]:
    """Yield fields as in https://systemd.io/JOURNAL_EXPORT_FORMATS/, and as journalctl does.

    systemd 257 finds the boot only if it is text.
    """
    for name, value in fields.items():
        if value.isascii() and value.decode().isprintable():
            yield b"%b=%b\n" % (name.encode(), value)
        else:
            size = struct.pack("<Q", len(value))
            yield b"%b\n%b%b\n" % (name.encode(), size, value)


def collect(file: Path, entries: Iterable[bytes]) -> None:
    """Have systemd-journal-remote add entries to a journal file."""
    command = (REMOTE, "--split-mode=none", f"--output={file}", "-")
    subprocess.run(command, input=b"".join(entries), check=True, capture_output=True)
