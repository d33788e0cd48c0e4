"""Who waits to have payloads recorded, and whether the journal takes any."""

import logging
import selectors
from collections import OrderedDict
from math import inf

from ackd.connection import Connection, Timeouts, Wait, attempt
from ackd.deadlines import Deadlines
from ackd.recorder import Recorder
from ackd.records import Kind

log = logging.getLogger("ackd")

# Seconds between attempts to reach a journal that isn't there: nothing tells when it comes back.
RETRY = 0.25
# Turns given before the rest of the loop has its own.
ROUND = 16


class Turns:
    """The queue before the journal.

    While the journal is full its socket is watched for room; while it can't be reached it is tried
    again and again, and only then do the waiting connections have a deadline, `journal_wait`.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        recorder: Recorder,
        timeouts: Timeouts,
        deadlines: Deadlines[Connection],
    ) -> None:
        self.journal_wait = inf
        self._selector = selector
        self._deadlines = deadlines
        self._recorder = recorder
        self._timeouts = timeouts
        self._waiting: OrderedDict[Connection, None] = OrderedDict()
        self._watched = False
        self._lost = False
        self._retry_at = inf

    @property
    def trouble(self) -> str:
        """What is wrong with the journal, in words; empty if nothing is."""
        why = self._recorder.sink.why
        what = "payloads" if self._recorder.holds_up else "records"
        return f"the journal can't be reached, {what} wait: {why}" if self._lost else ""

    def __len__(self) -> int:
        return len(self._waiting)

    def join(self, connection: Connection) -> None:
        """Let a connection wait until it has its turn."""
        self._waiting[connection] = None

    def leave(self, connection: Connection) -> None:
        """Take a connection out that waits for something else now."""
        self._waiting.pop(connection, None)

    def next(self) -> float:
        """Return when `attend` must be called at the latest, in seconds of time.monotonic()."""
        if self._waiting and not self._recorder.holds_up:
            return -inf
        return self._retry_at

    def attend(self, now: float) -> None:
        """Give those who wait their turn, then look after the journal as that has left it."""
        self._give_turns()
        self._follow_reachable(now)
        self._watch(self._recorder.blocked and not self._lost)

    @property
    def _unreachable(self) -> bool:
        return self._recorder.blocked and not self._recorder.sink.reachable

    def _follow_reachable(self, now: float) -> None:
        if self._unreachable and (now >= self._retry_at or not self._lost):
            self._recorder.resume()
        lost = self._unreachable
        if not lost:
            self._retry_at = inf
        elif now >= self._retry_at or not self._lost:
            self._retry_at = now + RETRY
        if lost is not self._lost:
            self._lost = lost
            self._set_deadlines()
            self._tell()

    def _set_deadlines(self) -> None:
        """Let payloads wait for ever for a journal that is slow, but not for one that is gone."""
        self._timeouts.journal = self.journal_wait if self._lost else inf
        for connection in self._waiting:
            connection.wait_anew()
            self._deadlines.watch(connection)

    def _tell(self) -> None:
        if self._lost:
            log.error(self.trouble, extra={"kind": Kind.JOURNAL_LOST})
        else:
            log.warning("the journal takes records again", extra={"kind": Kind.JOURNAL_BACK})

    def _watch(self, wanted: bool) -> None:
        if wanted and not self._watched:
            self._selector.register(
                self._recorder.sink, selectors.EVENT_WRITE, self._recorder.resume
            )
        elif self._watched and not wanted:
            self._selector.unregister(self._recorder.sink)
        self._watched = wanted

    def _give_turns(self) -> None:
        for _ in range(min(len(self._waiting), ROUND)):
            if self._recorder.holds_up:
                return
            connection, _ = self._waiting.popitem(last=False)
            attempt(connection, connection.record)
            if connection.wait is Wait.JOURNAL:
                self.join(connection)
