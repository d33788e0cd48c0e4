"""Reads payloads out of the journals of this host, as ackd has recorded them."""

import select
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from functools import lru_cache, partial
from typing import Any, NamedTuple

from ackd.ctl.journal.belief import Belief, Doubt
from ackd.journal.entry import payloads_of
from ackd.journal.reader import (
    HOSTNAME,
    MACHINE,
    NAMESPACE,
    TIME,
    UNIT,
    cursor_of,
    directories,
    next_entry,
    open_journals,
)
from ackd.printable import printable
from ackd.records import Kind

# The entries with payloads.
PAYLOADS = {"MESSAGE_ID": Kind.PAYLOAD.value}
# Bytes of a value that is remembered: a forged entry can have much longer ones.
_SHORT = 256


# A dataclass would take several times as long to make.
class RecordedPayload(NamedTuple):
    """A payload in the journal of a namespace, or in the system's journal if `journal` is "".

    `microseconds` is when journald got the record, since the epoch. `repeated` says that ackd has
    recorded the payload again because journald may have lost the first record, `unterminated` that
    the client's close has ended the payload, not LF: it may be only the beginning of one. `unit` is
    "" if journald did not know it. `doubt` is None for a record that is believed. `proxy` is the
    load balancer whose PROXY header names the peer, `tls_name` the name in the peer's certificate;
    "" if there is none. `hostname` and `machine` are those of the node that has recorded the
    payload. At a collector, `node` is the name of this node, and `source` stands for all journal
    files that were uploaded with the same certificate, or from the same address.
    """

    microseconds: int
    peer: str
    port: int
    listener: str
    connection: str
    sequence: int
    payload: bytes
    repeated: bool
    unterminated: bool
    journal: str
    unit: str
    doubt: Doubt | None
    proxy: str = ""
    tls_name: str = ""
    hostname: str = ""
    machine: str = ""
    source: str = ""
    node: str = ""

    @property
    def time(self) -> datetime:
        """When journald got the record, in the local time zone."""
        return moment(self.microseconds)


def moment(microseconds: int) -> datetime:
    """Return a time since the epoch in the local time zone."""
    return datetime.fromtimestamp(microseconds / 1e6).astimezone()


class Entries:
    """The payloads in all journals of this host, or in the journal of one namespace, oldest first.

    `unit` is a pattern, as in glob(7), for the units that are believed; "" stands for ackd's own
    units. `since` is in seconds since the epoch. Raises NotReadableError also where python-systemd
    would find no entries and report nothing.
    """

    def __init__(self, namespace: str = "", unit: str = "", since: float = 0) -> None:
        self._belief = Belief(partial(open_journals, namespace, {}), unit)
        self._namespace = namespace
        self._since = since
        self._cursor = ""
        self._open()

    def __iter__(self) -> Iterator[RecordedPayload]:
        """Yield the payloads that have not been yielded yet; raises NotReadableError."""
        read = False
        while entry := next_entry(self._reader):
            read = True
            yield from payloads_in(entry, self._belief)
        if read:
            self._cursor = cursor_of(self._reader) or self._cursor

    def last(self, count: int, wanted: Callable[[RecordedPayload], bool]) -> list[RecordedPayload]:
        """Return the last `count` wanted payloads; an iteration then begins after the last one."""
        self._reader.seek_tail()
        entry = next_entry(self._reader, -1)
        newest = cursor_of(self._reader) if entry else ""
        found: list[RecordedPayload] = []
        while entry and entry[TIME] >= self._since * 1e6:
            found.extend(filter(wanted, reversed(payloads_in(entry, self._belief))))
            if len(found) >= count:
                break
            entry = next_entry(self._reader, -1)
        self._seek(newest)
        return found[count - 1 :: -1] if count else []

    def wait(self, seconds: float = 1.0) -> None:
        """Wait until there may be more payloads, or for so many seconds."""
        # Ctrl-C does not end Reader.wait().
        poll = select.poll()
        poll.register(self._reader, self._reader.get_events())
        poll.poll(seconds * 1000)
        self._reader.process()
        if directories(self._namespace) != self._directories:
            self._open()

    def _open(self) -> None:
        """Open the journals; libsystemd does not notice a namespace that is created later."""
        self._directories = directories(self._namespace)
        self._reader = open_journals(self._namespace, PAYLOADS)
        self._seek(self._cursor)

    def _seek(self, cursor: str) -> None:
        """Go on after the entry with this cursor or, if that is "", at the time `since`."""
        self._cursor = cursor
        if cursor:
            self._reader.seek_cursor(cursor)
            next_entry(self._reader)
        else:
            self._reader.seek_realtime(self._since)


def payloads_in(
    entry: Mapping[str, Any], belief: Belief, source: str = "", node: str = ""
) -> list[RecordedPayload]:
    """Return the payloads of an entry; [] if the entry is not one that ackd writes.

    Without a name for the node, this name is the host name that the entry has.
    """
    get = entry.get
    try:
        doubt = belief.doubt(entry)
        time, peer, port = entry[TIME], _text(entry["ACKD_PEER"]), int(entry["ACKD_PEER_PORT"])
        listener, connection = _text(entry["ACKD_LISTENER"]), _text(entry["ACKD_CONNECTION"])
        repeated, unterminated = "ACKD_REPEATED" in entry, "ACKD_UNTERMINATED" in entry
        journal, unit = _text(get(NAMESPACE, b"")), _text(get(UNIT, b""))
        proxy, tls_name = _text(get("ACKD_PROXY", b"")), _text(get("ACKD_TLS_NAME", b""))
        hostname, machine = _text(get(HOSTNAME, b"")), _text(get(MACHINE, b""))
        name = node or (hostname if source else "")
        return [
            RecordedPayload(
                *(time, peer, port, listener, connection, sequence, payload),
                *(repeated, unterminated, journal, unit, doubt),
                *(proxy, tls_name, hostname, machine, source, name),
            )
            for sequence, payload in payloads_of(entry)
        ]
    except (KeyError, ValueError):
        return []
    except (AttributeError, TypeError):
        # A field that an entry has more than once is a list; ackd writes each field once.
        return []


def _text(value: bytes) -> str:
    return _short_text(value) if len(value) < _SHORT else printable(value)


@lru_cache(maxsize=4096)
def _short_text(value: bytes) -> str:
    return printable(value)
