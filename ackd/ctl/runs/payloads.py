"""The payloads of a run, as `ping` and `probe` send and `verify` looks for them.

    ackctl run=1a2b3c4d number=17 crc32=ef223ec7
    ackctl run=1a2b3c4d end=100 crc32=0b7a47bb

The numbers begin at 1. The last payload says how many there were before it.
"""

import os
import re
from binascii import b2a_base64, crc32
from dataclasses import dataclass, field

_NAME = r"[0-9A-Za-z._-]{1,64}"
_BODY = re.compile(rf"ackctl run=({_NAME}) (number|end)=(\d{{1,18}})( [0-9A-Za-z+/]*)?")
# What an altered payload is known by: its beginning or its end, or something between them.
_TRACE = re.compile(rb"ackctl run=|run=\S+ (?:number|end)=|crc32=[0-9a-f]{8}\Z")
_LEGIBLE_RUN = re.compile(rf"run=({_NAME})")
_LEGIBLE_NUMBER = re.compile(r"number=(\d{1,18})")


@dataclass(frozen=True, slots=True)
class Run:
    """What one call of ackctl sends, by its name; raises ValueError where that can't be one."""

    name: str = field(default_factory=lambda: os.urandom(4).hex())

    def __post_init__(self) -> None:
        if not re.fullmatch(_NAME, self.name):
            raise ValueError(f"{self.name!r} is not 1 to 64 letters, digits, '.', '_' or '-'")

    def payload(self, number: int, size: int = 0) -> bytes:
        """Return the payload of this number, of `size` bytes, or more if it needs more."""
        return _sealed(f"ackctl run={self.name} number={number}", size)

    def end(self, count: int) -> bytes:
        """Return the last payload: `count` are those before it."""
        return _sealed(f"ackctl run={self.name} end={count}")


@dataclass(frozen=True, slots=True)
class Part:
    """A payload of a run as it was received.

    `number` is its own or, with `end`, how many came before it. Of an `altered` one, `run` and
    `number` are as far as legible, "" and 0 where not; either may be what was altered.
    """

    run: str
    number: int
    end: bool = False
    altered: bool = False


def parse(payload: bytes) -> Part | None:
    """Return what a payload is in its run; None where it does not even look like one of a run."""
    if not _TRACE.search(payload):
        return None
    text = payload.decode("ascii", "replace")
    body = _BODY.fullmatch(text.rpartition(" crc32=")[0])
    if not body or payload != _checked(body[0]):
        run, number = _LEGIBLE_RUN.search(text), _LEGIBLE_NUMBER.search(text)
        return Part(run[1] if run else "", int(number[1]) if number else 0, altered=True)
    return Part(body[1], int(body[3]), end=body[2] == "end")


def _sealed(body: str, size: int = 0) -> bytes:
    need = size - len(_checked(body))
    if need <= 0:
        return _checked(body)
    # At random, so that a tunnel that compresses has to carry it all the same.
    padding = b2a_base64(os.urandom(need), newline=False).decode().rstrip("=")
    return _checked(f"{body} {padding[: need - 1]}")


def _checked(body: str) -> bytes:
    return b"%b crc32=%08x" % (body.encode(), crc32(body.encode()))
