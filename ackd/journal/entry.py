"""Records in journald's native protocol, https://systemd.io/JOURNAL_NATIVE_PROTOCOL/.

One datagram is one entry. libsystemd's sd_journal_send is not used: it blocks while journald is
frozen, and returns success where there is no journald.
"""

import struct
from collections.abc import Iterator, Mapping
from functools import lru_cache
from itertools import groupby

from ackd.records import Kind, Origin, Priority, Record

# The label before each payload in a message.
_LABEL = b"Buffer: "
# Additional bytes for each payload in a shared message: the label and a newline.
_LINE = len(_LABEL) + 1
# Bytes of all other fields of a payload's entry: under 400 with the longest IPv6 addresses, and
# under 800 with the longest facts.
_FIELDS = 1024


def field(name: str, value: bytes) -> bytes:
    """Return one field in the form of journald's datagrams.

    A value with a newline is sent with its length. Otherwise the value could forge fields.
    """
    if b"\n" in value:
        return b"%b\n%b%b\n" % (name.encode(), len(value).to_bytes(8, "little"), value)
    return b"%b=%b\n" % (name.encode(), value)


def fields_of(record: bytes) -> dict[str, bytes]:
    """Return the fields of a record; raises ValueError if it is not an entry of `field`s."""
    fields: dict[str, bytes] = {}
    start = 0
    while start < len(record):
        end = record.index(b"\n", start)
        name, equals, value = record[start:end].partition(b"=")
        if not equals:
            first = end + 9
            end = first + int.from_bytes(record[end + 1 : first], "little")
            value = record[first:end]
        fields[name.decode()] = value
        start = end + 1
    return fields


def _common_fields(kind: Kind, priority: Priority) -> bytes:
    return b"SYSLOG_IDENTIFIER=ackd\nPRIORITY=%d\nMESSAGE_ID=%b\n" % (priority, kind.value.encode())


# The constant parts are filled in once, not for each payload.
_PAYLOAD, _PAYLOADS = (
    _common_fields(Kind.PAYLOAD, Priority.INFO) + b"%bACKD_SEQUENCE=%d\n" + rest
    for rest in (b"%b%b\n", b"ACKD_BYTES=%d\nACKD_COUNT=%d\nMESSAGE\n%b%b\n")
)
# The length of a value, before the value itself.
_length = struct.Struct("<Q").pack


@lru_cache(maxsize=1024)  # payloads of one device often have the same size
def _before_payload(size: int) -> bytes:
    """Return the part of an entry that depends on the size of its one payload only."""
    return b"ACKD_BYTES=%d\nMESSAGE\n%b%b" % (size, _length(size + len(_LABEL)), _LABEL)


class JournalFormat:
    """Writes records as journal entries."""

    def prefix(self, origin: Origin) -> bytes:
        """Return the fields that the entries of all payloads of one connection share."""
        return b"".join(
            (
                field("ACKD_PEER", origin.peer.encode()),
                field("ACKD_PEER_PORT", b"%d" % origin.peer_port),
                field("ACKD_LISTENER", origin.listener.encode()),
                field("ACKD_CONNECTION", origin.connection.encode()),
                *(field(name, value.encode()) for name, value in origin.facts),
            )
        )

    def unterminated(self, prefix: bytes) -> bytes:
        """Return the prefix for a last line that the client's close has ended, not LF."""
        return prefix + b"ACKD_UNTERMINATED=1\n"

    def payload(self, prefix: bytes, sequence: int, payload: bytes) -> bytes:
        """Return the entry of one payload."""
        return next(self.payloads(prefix, sequence, [payload]))

    def payloads(self, prefix: bytes, sequence: int, payloads: list[bytes]) -> Iterator[bytes]:
        """Yield an entry for each payload; the first is number `sequence`."""
        for payload in payloads:
            yield _PAYLOAD % (prefix, sequence, _before_payload(len(payload)), payload)
            sequence += 1

    def batches(
        self, prefix: bytes, sequence: int, payloads: list[bytes], room: int
    ) -> Iterator[tuple[int, bytes]]:
        """Yield entries with as many payloads as possible, each with the number of its payloads."""
        for batch in _batches(payloads, room - _FIELDS):
            if len(batch) == 1:
                yield 1, self.payload(prefix, sequence, batch[0])
            else:
                yield len(batch), self._shared(prefix, sequence, batch)
            sequence += len(batch)

    def _shared(self, prefix: bytes, sequence: int, batch: list[bytes]) -> bytes:
        """Return the entry of several payloads, a line for each."""
        count, message = len(batch), _LABEL + b"\nBuffer: ".join(batch)
        size = len(message) - count * _LINE + 1
        return _PAYLOADS % (prefix, sequence, size, count, _length(len(message)), message)

    def longest(self, payload: int) -> int:
        """Return the most bytes that the entry of a payload of `payload` bytes can have."""
        return payload + _FIELDS

    def record(self, record: Record) -> bytes:
        """Return the entry of any other record."""
        return b"".join(
            (
                _common_fields(record.kind, record.priority),
                self.prefix(record.origin) if record.origin else b"",
                *(field(name, str(value).encode()) for name, value in record.fields),
                field("MESSAGE", record.text_with_client),
            )
        )


def payloads_of(entry: Mapping[str, bytes]) -> list[tuple[int, bytes]]:
    """Return the payloads of an entry as (number in the connection, payload).

    Raises ValueError or KeyError if the entry is not of ackd.
    """
    message, sequence = entry["MESSAGE"], int(entry["ACKD_SEQUENCE"])
    if "ACKD_COUNT" not in entry and message.startswith(_LABEL):  # usually
        return [(sequence, message[len(_LABEL) :])]
    lines = message.split(b"\n") if "ACKD_COUNT" in entry else [message]
    if len(lines) != int(entry.get("ACKD_COUNT", 1)):
        raise ValueError("ACKD_COUNT is not the number of lines of the message")
    if not all(line.startswith(_LABEL) for line in lines):
        raise ValueError(f"a line does not begin with {_LABEL.decode()!r}")
    return [(number, line[len(_LABEL) :]) for number, line in enumerate(lines, sequence)]


def _batches(payloads: list[bytes], room: int) -> Iterator[list[bytes]]:
    """Yield the payloads in groups that can share a message of up to `room` bytes."""
    # Usually all payloads are plain, and one check of all is faster than a check of each.
    if _is_plain(b" ".join(payloads)):
        yield from _portions(payloads, room)
        return
    for plain, group in groupby(payloads, _is_plain):
        yield from _portions(list(group), room if plain else 0)


def _is_plain(text: bytes) -> bool:
    """Return whether a payload can share a message with others.

    Readers could take a line with control characters, or a line that is not UTF-8, for several
    lines. journalctl would show "[13B blob data]" instead of the whole message.
    """
    try:
        return text.replace(b"\t", b" ").decode().isprintable()
    except UnicodeDecodeError:
        return False


def _portions(payloads: list[bytes], room: int) -> Iterator[list[bytes]]:
    """Yield the payloads in groups of at most `room` bytes; a longer payload is alone."""
    portion: list[bytes] = []
    size = 0
    for payload in payloads:
        size += _LINE + len(payload)
        if size > room and portion:
            yield portion
            portion, size = [], _LINE + len(payload)
        portion.append(payload)
    yield portion
