"""With `durability: disk`, asks for an archived file of the journal before the log is full.

The log keeps a record until journald has archived the file that has it. journald does so when the
file is large enough. But journald compresses payloads, and stores equal ones once, so the log can
be full long before: without more records journald would never archive the file, and ackd would
refuse payloads for ever.

Only root may have journald archive its file. ackd asks for it by a file in its runtime directory:
ackd-rotate@.path waits for this file.
"""

import os
from contextlib import suppress
from math import inf
from time import monotonic
from typing import Protocol

from ackd.loop import Loop

_NAME = "rotate"
# The share of the log in use from which on ackd asks.
_SHARE = 0.5
# Seconds between two looks, and after a request: it shows its effect after ten seconds.
_INTERVAL, _PAUSE = 1.0, 15.0


class FilledLog(Protocol):
    """The log, as far as it matters here."""

    read: int
    safe: int

    @property
    def size(self) -> int:
        """The bytes in use."""

    @property
    def room(self) -> int:
        """The bytes that are left."""


class Rotation:
    """A timer that asks for an archived file while so much of the log is in use."""

    def __init__(self, loop: Loop, log: FilledLog, directory: str) -> None:
        self.deadline = 0.0
        self.scheduled = inf
        self._log = log
        self._path = os.path.join(directory, _NAME)
        loop.timers.watch(self)

    def on_deadline(self) -> None:
        """Ask, if it is time."""
        log = self._log
        asks = log.safe < log.read and log.size >= _SHARE * (log.size + log.room)
        if asks:
            with suppress(OSError):  # the log gets full, and ackd says so
                os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        self.deadline = monotonic() + (_PAUSE if asks else _INTERVAL)
