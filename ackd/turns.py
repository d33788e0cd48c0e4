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
_AT_ONCE = 16


class Turns:
    """The queue before the journal.

    New is who has come with a few payloads, or with the first of many; old who has had a turn and
    wants more. Every other turn is for a new one: whoever has little to record waits for a few of
    those who have much, and not for all, and neither can starve the other (RFC 8290, 4.2).

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
        self._new: OrderedDict[Connection, None] = OrderedDict()
        self._old: OrderedDict[Connection, None] = OrderedDict()
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
        return len(self._new) + len(self._old)

    def join(self, connection: Connection, new: bool) -> None:
        """Let a connection wait until it has its turn."""
        (self._new if new else self._old)[connection] = None

    def leave(self, connection: Connection) -> None:
        """Take a connection out that waits for something else now."""
        self._new.pop(connection, None)
        self._old.pop(connection, None)

    def next(self) -> float:
        """Return when `attend` must be called at the latest, in seconds of time.monotonic()."""
        if (self._new or self._old) and not self._recorder.holds_up:
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
        for connection in (*self._new, *self._old):
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
        for _ in range(min(len(self), _AT_ONCE) // 2 + 1):
            for queue in (self._new, self._old):
                if queue and not self._recorder.holds_up:
                    self._give_turn(queue)

    def _give_turn(self, queue: OrderedDict[Connection, None]) -> None:
        connection, _ = queue.popitem(last=False)
        attempt(connection, connection.on_turn)
        if connection.wait is Wait.JOURNAL:
            self.join(connection, new=False)
