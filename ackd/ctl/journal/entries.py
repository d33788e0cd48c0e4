"""Reads payloads out of the journal, as ackd has recorded them."""

import argparse
import re
import select
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ackd.ctl.journal.belief import Belief, Doubt
from ackd.ctl.journal.since import since
from ackd.journal.entry import payloads_of
from ackd.journal.reader import FIELDS, NAMESPACE, UNIT, directories, next_entry, open_journals
from ackd.printable import printable
from ackd.records import Kind


@dataclass(frozen=True, slots=True)
class RecordedPayload:
    """A payload in the journal of a namespace, or in the system's journal if `journal` is "".

    `time` is when journald got the record. `repeated` says that ackd has recorded the payload again
    because journald may have lost the first record, `unterminated` that the client's close has
    ended the payload, not LF: it may be only the beginning of one. `unit` is "" if journald did not
    know it. `doubt` is None for a record that is believed. `proxy` is the load balancer whose PROXY
    header names the peer, `tls_name` the name in the peer's certificate; "" if there is none.
    """

    time: datetime
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


class Entries:
    """The payloads in all journals of this host, or in the journal of one namespace, oldest first.

    `unit` is a pattern, as in glob(7), for the units that are believed; "" stands for ackd's own
    units. `since` is in seconds since the epoch. Raises NotReadableError also where python-systemd
    would find no entries and report nothing.
    """

    def __init__(self, namespace: str = "", unit: str = "", since: float = 0) -> None:
        self._belief = Belief(namespace, unit)
        self._namespace = namespace
        self._since = since
        self._cursor = ""
        self._open()

    def __iter__(self) -> Iterator[RecordedPayload]:
        """Yield the payloads that have not been yielded yet; raises NotReadableError."""
        while entry := self._step(1):
            yield from self._payloads(entry)

    def last(self, count: int, wanted: Callable[[RecordedPayload], bool]) -> list[RecordedPayload]:
        """Return the last `count` wanted payloads; an iteration then begins after the last one."""
        self._reader.seek_tail()
        newest = entry = self._step(-1)
        found: list[RecordedPayload] = []
        while entry and entry["__REALTIME_TIMESTAMP"].timestamp() >= self._since:
            found.extend(filter(wanted, reversed(self._payloads(entry))))
            if len(found) >= count:
                break
            entry = self._step(-1)
        self._seek(newest["__CURSOR"] if newest else "")
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
        self._reader = open_journals(self._namespace, {"MESSAGE_ID": Kind.PAYLOAD.value})
        self._seek(self._cursor)

    def _seek(self, cursor: str) -> None:
        """Go on after the entry with this cursor or, if that is "", at the time `since`."""
        if cursor:
            self._reader.seek_cursor(cursor)
            self._step(1)
        else:
            self._reader.seek_realtime(self._since)

    def _step(self, skip: int) -> Any:
        entry = next_entry(self._reader, skip)
        self._cursor = entry.get("__CURSOR", self._cursor)
        return entry

    def _payloads(self, entry: Mapping[str, Any]) -> list[RecordedPayload]:
        """Return the payloads of an entry; [] if the entry is not one that ackd writes."""
        # A field that an entry has twice is a list; ackd writes each field once.
        fields = {name: entry[name] for name in FIELDS if isinstance(entry.get(name), bytes)}
        try:
            doubt = self._belief.doubt(fields)
            return [
                RecordedPayload(
                    entry["__REALTIME_TIMESTAMP"],
                    printable(fields["ACKD_PEER"]),
                    int(fields["ACKD_PEER_PORT"]),
                    printable(fields["ACKD_LISTENER"]),
                    printable(fields["ACKD_CONNECTION"]),
                    sequence,
                    payload,
                    "ACKD_REPEATED" in fields,
                    "ACKD_UNTERMINATED" in fields,
                    printable(fields.get(NAMESPACE, b"")),
                    printable(fields.get(UNIT, b"")),
                    doubt,
                    printable(fields.get("ACKD_PROXY", b"")),
                    printable(fields.get("ACKD_TLS_NAME", b"")),
                )
                for sequence, payload in payloads_of(fields)
            ]
        except (KeyError, ValueError):
            return []


def add_journal_options(parser: argparse.ArgumentParser) -> None:
    """Add the options for the part of the journal to be read, and for the units to be believed."""
    # A time such as -1min is the value of --since, and no option.
    parser._negative_number_matcher = re.compile("-[0-9]")
    option = parser.add_argument
    option("--since", metavar="T", type=since, default=0.0, help="only from this time on")
    option("--namespace", metavar="N", default="", help="only the journal of this namespace")
    option("--unit", metavar="U", default="", help="whose records to believe: a unit, or a pattern")
