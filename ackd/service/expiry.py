"""Certificates expire while ackd runs: the log and the status say so, weeks before as well.

The dates of a certificate never keep ackd from starting or from reloading. The clients decide
whether they accept the certificate; a host without a battery for its clock starts in 1970; and a
failed start would also end the clients that are connected.
"""

import logging
import time
from collections.abc import Sequence
from math import inf
from time import monotonic
from typing import NamedTuple

from ackd.deadlines import Deadlines
from ackd.loop import Timer

log = logging.getLogger("ackd")

# Seconds before the end of a certificate: it should have been renewed by then.
_SOON = 14 * 86400
# Seconds between two looks at the clock at most: another program can set the clock at any time.
_INTERVAL = 3600.0


# A named tuple: the decorator `dataclass` would delay each start noticeably.
class Validity(NamedTuple):
    """The time in which a certificate is valid, in seconds since 1970.

    `certificate` names it; `harm` says what happens outside of this time.
    """

    certificate: str
    harm: str
    begin: float
    end: float

    def trouble(self, now: float) -> tuple[int, str]:
        """Return what is wrong now, and its priority in logging; an empty text for nothing."""
        if now < self.begin:
            text = f"is not valid before {date(self.begin)}, by this host's clock: {self.harm}"
            return logging.ERROR, f"{self.certificate} {text}"
        if now >= self.end:
            return (
                logging.ERROR,
                f"{self.certificate} has expired at {date(self.end)}: {self.harm}",
            )
        if now >= self.end - _SOON:
            return logging.WARNING, f"{self.certificate} expires at {date(self.end)}: renew it"
        return logging.NOTSET, ""

    def next_change(self, now: float) -> float:
        """Return when the trouble changes; inf for never."""
        return min((t for t in (self.begin, self.end - _SOON, self.end) if t > now), default=inf)


def date(seconds: float) -> str:
    """Return a time in seconds since 1970 as text."""
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def troubles(validities: Sequence[Validity], now: float) -> list[tuple[int, str]]:
    """Return what is wrong with certificates at a time, each with its priority in logging."""
    return [trouble for v in validities if (trouble := v.trouble(now))[1]]


class Expiry:
    """A timer that logs when the dates of the certificates in force begin to matter."""

    def __init__(self, timers: Deadlines[Timer]) -> None:
        self.deadline = self.scheduled = inf
        self.trouble = ""  # what is wrong now, as text
        self.validities: Sequence[Validity] = ()
        self._timers = timers

    def watch(self, validities: Sequence[Validity]) -> None:
        """Watch these certificates from now on, and no others; log what is wrong with them."""
        self.validities = validities
        self.trouble = ""
        self.on_deadline()
        self._timers.watch(self)

    def on_deadline(self) -> None:
        """Log what has changed; look again at the next change, or after an hour."""
        now = time.time()
        found = troubles(self.validities, now)
        before, self.trouble = self.trouble, "; ".join(text for _, text in found)
        if self.trouble != before:
            for priority, text in found:
                log.log(priority, text)
            if not found:
                log.info("the dates of all certificates are right now")
        changes = (validity.next_change(now) - now for validity in self.validities)
        self.deadline = monotonic() + min(_INTERVAL, *changes) if self.validities else inf
