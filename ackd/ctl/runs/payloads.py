"""The payloads of a run, which `ping`, `probe` and `bench` send and `verify` looks for.

    ackctl run=1a2b3c4d number=17 crc32=ef223ec7
    ackctl run=1a2b3c4d end=100 crc32=0b7a47bb

The numbers begin at 1. The last payload, the end, says how many payloads were sent before it. With
a key, each payload has an HMAC (RFC 2104) instead of the checksum: only a sender that has the key
can make payloads of the run.

    ackctl run=1a2b3c4d number=17 hmac=fyt5/HbdySSCq1ZO
"""

import os
import re
from binascii import b2a_base64, crc32
from dataclasses import dataclass, field
from typing import NamedTuple

_NAME = r"[0-9A-Za-z._-]{1,64}"
# As `Run` writes them: without leading zeros, and no payload has the number 0.
_FORM = (
    rf"ackctl run=({_NAME}) (?:number=([1-9]\d{{0,17}})( [0-9A-Za-z+/]*)?|end=(0|[1-9]\d{{0,17}}))"
)
_BODY = re.compile(_FORM)
_WITH_CHECKSUM = re.compile(rf"{_FORM} crc32=([0-9a-f]{{8}})".encode())
_CHECKSUM = len(b" crc32=01234567")
# Marks an altered payload of a run: the beginning, the end, or something between them. The bound of
# the name keeps the time linear for a payload of nothing but `run=run=run=`.
_TRACE = re.compile(rb"ackctl run=|run=\S{1,64} (?:number|end)=|crc32=[0-9a-f]{8}\Z|hmac=\S{16}\Z")
_LEGIBLE_RUN = re.compile(rf"run=({_NAME})")
_LEGIBLE_NUMBER = re.compile(r"number=(\d{1,18})")
# Bytes of an HMAC that are sent, in base64: 96 bits, as in RFC 2404.
_HMAC = 12


@dataclass(frozen=True, slots=True)
class Run:
    """The payloads that one call of ackctl sends; raises ValueError if `name` can't be a name.

    With a `key` the payloads have an HMAC, otherwise a checksum. `named` says that the user has
    chosen the name, so that other runs may have the same.
    """

    name: str = field(default_factory=lambda: os.urandom(4).hex())
    key: bytes = field(default=b"", repr=False)
    named: bool = False

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"{self.name!r} is not 1 to 64 letters, digits, '.', '_' or '-'")

    def payload(self, number: int, size: int = 0) -> bytes:
        """Return the payload with this number, of `size` bytes, or more if it needs more."""
        body = f"ackctl run={self.name} number={number}".encode()
        missing = size - len(_checked(body, self.key))
        return _checked(body + _padding(missing) if missing > 0 else body, self.key)

    def end(self, count: int) -> bytes:
        """Return the last payload, after `count` others."""
        return _checked(f"ackctl run={self.name} end={count}".encode(), self.key)


# A dataclass would take several times as long to make.
class ReceivedPayload(NamedTuple):
    """A payload of a run as it has arrived.

    A payload whose checksum is wrong is `altered`. So is a payload of a run with a key, if its HMAC
    is wrong or there is no key to check it; `keyed` says that it has the form of one with an HMAC.
    `number` is the payload's own number or, for an `end`, the number of payloads before it. Of an
    `altered` payload, `run` and `number` are what can be read, "" and 0 if nothing can be; both may
    be wrong.
    """

    run: str
    number: int
    end: bool = False
    altered: bool = False
    keyed: bool = False


def parse(payload: bytes, key: bytes = b"") -> ReceivedPayload | None:
    """Return a payload's place in its run; None if the payload does not look like one of a run.

    With a `key`, only payloads that were made with this key are not altered.
    """
    whole = None if key else _WITH_CHECKSUM.fullmatch(payload)
    if whole and int(whole[5], 16) == crc32(payload[:-_CHECKSUM]):  # almost all payloads of a run
        number = whole[2] or whole[4]
        return ReceivedPayload(whole[1].decode(), int(number), end=not whole[2])
    if not _TRACE.search(payload):
        return None
    text = payload.decode("ascii", "replace")
    start, _, check = text.rpartition(" ")
    keyed = check.startswith("hmac=")
    body = _BODY.fullmatch(start)
    if not body or payload != _checked(start.encode(), key):
        run, digits = _LEGIBLE_RUN.search(text), _LEGIBLE_NUMBER.search(text)
        found = run[1] if run else "", int(digits[1]) if digits else 0
        return ReceivedPayload(*found, altered=True, keyed=keyed and body is not None)
    return ReceivedPayload(body[1], int(body[2] or body[4]), end=not body[2], keyed=keyed)


def is_of_a_run(payload: bytes) -> bool:
    """Return whether a payload is one as `Run` makes them, with any name and any key."""
    received = parse(payload)
    return received is not None and (received.keyed or not received.altered)


def _padding(length: int) -> bytes:
    """Return a blank and random characters; a tunnel with compression has to carry all of them."""
    return (b" " + b2a_base64(os.urandom(length), newline=False).rstrip(b"="))[:length]


def _checked(body: bytes, key: bytes) -> bytes:
    """Return the payload with this body: with an HMAC, or with a checksum if there is no key."""
    if not key:
        return b"%b crc32=%08x" % (body, crc32(body))
    import hmac  # only here: it takes long to load

    return b"%b hmac=%b" % (
        body,
        b2a_base64(hmac.digest(key, body, "sha256")[:_HMAC], newline=False),
    )
