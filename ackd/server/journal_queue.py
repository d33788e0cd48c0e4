"""Who waits to have payloads recorded, and whether the journal takes any."""

import logging
import selectors
from collections import OrderedDict
from collections.abc import Sized
from math import inf

from ackd.deadlines import Deadlines
from ackd.journal.recorder import Recorder
from ackd.records import Kind
from ackd.server.connection import Connection, Timeouts, Wait, attempt

log = logging.getLogger("ackd")

# Seconds between attempts to reach a journal that isn't there: nothing tells when it comes back.
RETRY = 0.25
# Turns given before the rest of the loop has its own, at least: two for each who is new.
_AT_ONCE = 16


class Turns:
    """The queue before the journal.

    New is who has not had a turn since it sent something; old who has had one and wants more. Every
    other turn is for a new one: who has little to record waits for a few of those who have much,
    and not for all, and neither can starve the other (RFC 8290, 4.2).

    Who came first is served first. All who are new have their turn before the loop goes round, and
    nobody is read beside the queue while one of them waits: of 1,000 clients who send one payload
    after the other, those whose next came while the queue was long had waited for 260 ms, not 60.

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
        self.due = -inf  # when `attend` must be called at the latest

    @property
    def trouble(self) -> str:
        """What is wrong with the journal, in words; empty if nothing is."""
        why = self._recorder.sink.why
        what = "payloads" if self._recorder.holds_up else "records"
        return f"the journal can't be reached, {what} wait: {why}" if self._lost else ""

    def __len__(self) -> int:
        return len(self._new) + len(self._old)

    @property
    def newcomers(self) -> Sized:
        """Those who wait and are new, always the same object."""
        return self._new

    def join(self, connection: Connection, new: bool) -> None:
        """Let a connection wait until it has its turn."""
        (self._new if new else self._old)[connection] = None

    def leave(self, connection: Connection) -> None:
        """Take a connection out that waits for something else now."""
        self._new.pop(connection, None)
        self._old.pop(connection, None)

    def attend(self, now: float) -> None:
        """Give those who wait their turn, then look after the journal as that has left it."""
        if self._new or self._old:
            self._give_turns()
        if self._recorder.blocked or self._watched or self._lost:
            self._follow_reachable(now)
            self._watch(self._recorder.blocked and not self._lost)
        more = (self._new or self._old) and not self._recorder.holds_up
        self.due = -inf if more else self._retry_at

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
        for _ in range(max(len(self._new), min(len(self._old), _AT_ONCE) // 2 + 1)):
            for queue in (self._new, self._old):
                if queue and not self._recorder.holds_up:
                    self._give_turn(queue)

    def _give_turn(self, queue: OrderedDict[Connection, None]) -> None:
        connection = next(iter(queue))
        attempt(connection, connection.on_turn)
        # Whose turn the journal has cut short stays the first.
        if connection.wait is Wait.JOURNAL and not self._recorder.holds_up:
            self.leave(connection)
            self.join(connection, new=False)
