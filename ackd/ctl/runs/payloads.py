"""The payloads of a run, which `ping`, `probe` and `bench` send and `verify` looks for.

    ackctl run=1a2b3c4d number=17 crc32=ef223ec7
    ackctl run=1a2b3c4d end=100 crc32=0b7a47bb

The numbers begin at 1. The last payload, the end, says how many payloads were sent before it.
"""

import os
import re
from binascii import b2a_base64, crc32
from dataclasses import dataclass, field

_NAME = r"[0-9A-Za-z._-]{1,64}"
# As `Run` writes them: without leading zeros, and no payload has the number 0.
_BODY = re.compile(
    rf"ackctl run=({_NAME}) (?:number=([1-9]\d{{0,17}})( [0-9A-Za-z+/]*)?|end=(0|[1-9]\d{{0,17}}))"
)
# Marks an altered payload of a run: the beginning, the end, or something between them. The bound of
# the name keeps the time linear for a payload of nothing but `run=run=run=`.
_TRACE = re.compile(rb"ackctl run=|run=\S{1,64} (?:number|end)=|crc32=[0-9a-f]{8}\Z")
_LEGIBLE_RUN = re.compile(rf"run=({_NAME})")
_LEGIBLE_NUMBER = re.compile(r"number=(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Run:
    """The payloads that one call of ackctl sends; raises ValueError if `name` can't be a name."""

    name: str = field(default_factory=lambda: os.urandom(4).hex())

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"{self.name!r} is not 1 to 64 letters, digits, '.', '_' or '-'")

    def payload(self, number: int, size: int = 0) -> bytes:
        """Return the payload with this number, of `size` bytes, or more if it needs more."""
        return _padded(f"ackctl run={self.name} number={number}", size)

    def end(self, count: int) -> bytes:
        """Return the last payload, after `count` others."""
        return _with_checksum(f"ackctl run={self.name} end={count}")


@dataclass(frozen=True, slots=True)
class ReceivedPayload:
    """A payload of a run as it has arrived.

    `number` is the payload's own number or, for an `end`, the number of payloads before it. Of an
    `altered` payload, `run` and `number` are what can be read, "" and 0 if nothing can be; both may
    be wrong.
    """

    run: str
    number: int
    end: bool = False
    altered: bool = False


def parse(payload: bytes) -> ReceivedPayload | None:
    """Return a payload's place in its run; None if the payload does not look like one of a run."""
    if not _TRACE.search(payload):
        return None
    text = payload.decode("ascii", "replace")
    body = _BODY.fullmatch(text.rpartition(" crc32=")[0])
    if not body or payload != _with_checksum(body[0]):
        run, number = _LEGIBLE_RUN.search(text), _LEGIBLE_NUMBER.search(text)
        return ReceivedPayload(run[1] if run else "", int(number[1]) if number else 0, altered=True)
    return ReceivedPayload(body[1], int(body[2] or body[4]), end=not body[2])


def _padded(body: str, size: int) -> bytes:
    missing = size - len(_with_checksum(body))
    if missing <= 0:
        return _with_checksum(body)
    # Random, so that a tunnel with compression has to carry the whole size.
    padding = b2a_base64(os.urandom(missing), newline=False).decode().rstrip("=")
    return _with_checksum(f"{body} {padding[: missing - 1]}")


def _with_checksum(body: str) -> bytes:
    return b"%b crc32=%08x" % (body.encode(), crc32(body.encode()))
