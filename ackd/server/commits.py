"""Commits of the log: acks that wait for the disk, with `durability: disk`."""

import errno
import logging
import select
from collections.abc import Callable
from math import inf
from time import monotonic

from ackd.journal.recorder import Recorder
from ackd.loop import READABLE, Loop
from ackd.protocol import DISK_FAILED, DISK_FULL, DISK_HANGS, LOG_FULL
from ackd.records import Kind, Priority, Record
from ackd.server.availability import HUNG
from ackd.server.connection import Connection
from ackd.server.durations import RecentDurations

log = logging.getLogger("ackd")

# The share of the log in use from which on ackd warns, and the share below which the warning ends.
_WARN_SHARE, _QUIET_SHARE = 0.8, 0.7
# Records are sent to the sink when the disk has had nothing to do for `_PAUSE` seconds, after
# `_LATEST` seconds in any case, and from this share of the log in use on.
_PAUSE, _LATEST, _SEND_SHARE = 0.01, 1.0, 0.25
# Seconds between two attempts while commits fail: no new client's payload is an attempt.
_RETRY = 1.0


class Commits:
    """Answers payloads when a commit has put their records on the disk, or has failed.

    What is recorded while a commit runs joins the next commit. `on_change` is called when the log
    is full and when it has room again. Without `acks_wait` in the recorder there are no commits.

    After a failed commit, a note is committed from time to time, until a commit succeeds.
    """

    def __init__(self, loop: Loop, recorder: Recorder, on_change: Callable[[], None]) -> None:
        self.full = False
        self.durations = RecentDurations()
        self.deadline = self.scheduled = inf
        self._timers = loop.timers
        self._latest = inf  # when the records that wait must be sent
        self._synced = 0  # the cursor `synced` at the beginning of this wait
        self._recorder = recorder
        self._on_change = on_change
        # The number of taken payloads of each connection: in the commit that runs, and in the next.
        self._running: dict[Connection, int] = {}
        self._next: dict[Connection, int] = {}
        self._began = 0.0  # when the last commit has begun
        self._full_since = 0.0
        self._retry = _Retry(recorder)
        self._failure = ""  # the reason that the last commit has failed
        self._refused = 0  # since commits fail
        self._warned = False
        if recorder.acks_wait:
            loop.watch(recorder.log, READABLE, self._on_end)

    @property
    def trouble(self) -> str:
        """What is wrong with the log or its disk, as text; empty if nothing is."""
        if not self._recorder.acks_wait:
            return ""
        if self._failure:
            return f"payloads are refused: {self._failure}"
        if self.full:
            return f"{LOG_FULL}, payloads wait for the journal"
        return f"the log is {self._share:.0%} full" if self._share >= _WARN_SHARE else ""

    def obstacle(self, wait: float) -> str:
        """Return why a new client's payloads would be refused, as text; empty if they would not.

        Payloads wait up to `wait` seconds for room in the log. A disk that does not answer has some
        time more.
        """
        if self._failure:
            return self._failure
        now = monotonic()
        if self.full and now - self._full_since >= wait:
            return LOG_FULL
        hangs = self._recorder.log.committing and now - self._began >= max(wait, HUNG)
        return DISK_HANGS if hangs else ""

    def add(self, connection: Connection, count: int) -> None:
        """Answer so many more payloads of a connection with the next commit."""
        self._next[connection] = self._next.get(connection, 0) + count

    def begin(self) -> None:
        """Begin a commit of all that is recorded, unless one runs; to be called each round."""
        if not self._recorder.acks_wait:
            return
        share = self._share
        self._watch_room(share)
        self._commit()
        self._send(share)

    def finish(self, deadline: float) -> None:
        """Wait until all that is recorded is on the disk, at most until `deadline`."""
        if not self._recorder.acks_wait:
            return
        records = self._recorder.log
        poll = select.poll()
        poll.register(records, select.POLLIN)
        while records.synced < records.appended:
            self.begin()
            if not poll.poll(max(0.0, deadline - monotonic()) * 1000):
                return
            self._on_end()

    def _commit(self) -> None:
        """Begin a commit, unless one runs or there is nothing to commit."""
        records = self._recorder.log
        ran = records.committing
        self._recorder.commit()
        if records.committing and not ran:
            self._began = monotonic()
            self._running, self._next = self._next, {}

    # Sending to the sink

    def on_deadline(self) -> None:
        """Send what waits, unless acks still come fast, or a commit runs whose acks are due."""
        now, records = monotonic(), self._recorder.log
        busy = records.committing or records.synced != self._synced
        if busy and now < self._latest:
            self._synced, self.deadline = records.synced, now + _PAUSE
        else:
            self.deadline = inf
            self._recorder.resume()

    def _send(self, share: float) -> None:
        """Have what is on the disk sent to the sink, but not between acks that come fast.

        journald needs more CPU for a record than ackd needs for an ack, and clients wait for acks.
        """
        recorder = self._recorder
        waits = not recorder.blocked and recorder.log.sent < recorder.log.synced
        if waits and share >= _SEND_SHARE:
            recorder.resume()
        elif waits and self.deadline == inf:
            now = monotonic()
            self._synced, self._latest = recorder.log.synced, now + _LATEST
            self.deadline = now + _PAUSE
            self._timers.watch(self)

    def _on_end(self) -> None:
        """Answer the payloads of the commit that has ended."""
        error = self._recorder.collect()
        now = monotonic()
        self.durations.add(now - self._began, now)
        running, self._running = self._running, {}
        if error:
            self._fail(error, running)
            return
        if self._next:
            self._commit()  # while the acks are sent, the disk works
        for connection, count in running.items():
            connection.on_commit(count)
        if self._failure:
            self._failure, self._retry.deadline = "", inf
            text = "payloads are on the disk again, refused meanwhile: %d"
            log.warning(text, self._refused, extra={"kind": Kind.ON_DISK_AGAIN})

    def _fail(self, error: OSError, running: dict[Connection, int]) -> None:
        """Refuse the payloads of a failed commit and those behind it: all are given up."""
        refused = running | self._next
        self._next = {}
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        reason = DISK_FULL if full else f"{DISK_FAILED}{error.strerror}"
        first, self._failure = not self._failure, reason
        self._refused = 0 if first else self._refused
        for connection in refused:
            self._refused += connection.protocol.taken
            connection.on_failed_commit(reason)
        self._retry.deadline = monotonic() + _RETRY
        self._timers.watch(self._retry)
        if first:
            cause, kind = error.__cause__, {"kind": Kind.NOT_ON_DISK}
            log.error("payloads are refused: %s", reason, exc_info=cause, extra=kind)

    # How full the log is

    @property
    def _share(self) -> float:
        records = self._recorder.log
        return records.size / (records.size + records.room)

    def _watch_room(self, share: float) -> None:
        """Notice that the log is full or has room again, and warn before it is full."""
        full = self._recorder.full
        if full is not self.full:
            self.full, self._full_since = full, monotonic()
            self._on_change()
            if full:
                log.error(self.trouble, extra={"kind": Kind.NOT_ON_DISK})
            else:
                log.warning("the log has room again", extra={"kind": Kind.ON_DISK_AGAIN})
        if share >= _WARN_SHARE and not self._warned:
            self._warned = True
            log.warning("the log is %.0f %% full: the journal is behind", 100 * share)
        elif share < _QUIET_SHARE:
            self._warned = False


class _Retry:
    """A timer that has a note committed; if that fails, the note is given up like a payload."""

    def __init__(self, recorder: Recorder) -> None:
        self.deadline = self.scheduled = inf
        self._recorder = recorder

    def on_deadline(self) -> None:
        """Append a note for the next commit."""
        self.deadline = inf
        text = "trying again whether the disk takes records"
        self._recorder.note(Record(Kind.LOG, Priority.INFO, text))
