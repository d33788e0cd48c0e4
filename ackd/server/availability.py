"""Whether the journal takes records and stores them."""

import logging
from collections.abc import Callable
from math import inf
from time import monotonic

from ackd.journal.recorder import Recorder
from ackd.loop import WRITABLE, Loop
from ackd.protocol import HANGS, unreachable
from ackd.records import Kind

log = logging.getLogger("ackd")

# Seconds between attempts to reach a journal that is away: nothing reports that it is back.
RETRY = 0.25
# Seconds without progress after which a journal or a disk that is there counts as hung, at least.
# A busy disk alone can make pauses of some seconds.
HUNG = 5.0


class Availability:
    """Resumes recording when the journal takes records again.

    While the journal is full, its socket is watched for room. While it can't be reached, or while
    the log that has its records can't be read, a timer tries again and again. `on_change` is called
    when the journal is lost and when it is back.
    """

    def __init__(self, loop: Loop, recorder: Recorder, on_change: Callable[[], None]) -> None:
        self.deadline = self.scheduled = inf
        self._loop = loop
        self._recorder = recorder
        self._on_change = on_change
        self.lost = False  # whether the journal can't be reached
        self._obstacle = ""
        self._watched = False
        # Since when nothing can be recorded, and how far the recorder had come then; or None.
        self._since = inf
        self._stopped_at: tuple[int, int, int] | None = None

    @property
    def trouble(self) -> str:
        """Why the journal takes or stores no records, as text; empty if it does."""
        recorder, sink = self._recorder, self._recorder.sink
        if not self.lost:
            hangs = f"{sink.name}{HANGS}, payloads wait" if self._seconds >= HUNG else ""
            return recorder.obstacle or hangs
        what = "payloads" if recorder.must_wait else "records"
        if recorder.unreadable:
            return f"the log can't be read, {what} wait: {recorder.unreadable}"
        return f"{unreachable(sink.name)}, {what} wait: {sink.why}"

    def check(self) -> None:
        """Note whether the journal takes records after a round; call this before the loop waits."""
        recorder = self._recorder
        if recorder.obstacle != self._obstacle:
            self._report_obstacle()
        if not (recorder.blocked or recorder.full or self._watched or self.lost):
            return
        self._note_progress()
        if self._unreachable and not self.lost:
            recorder.resume()  # it may only have been restarted
        if self._unreachable is not self.lost:
            self._change()
        holds = recorder.sink.holds
        self._watch_for_room(recorder.blocked and not (self.lost or holds))

    def obstacle(self, wait: float) -> str:
        """Return why a new client's payloads would wait in vain, as text; empty if they would not.

        That is so when the journal has taken nothing for `wait` seconds, or has stored nothing of
        a full log. A journal that is there has some time more.
        """
        seconds, name = self._seconds, self._recorder.sink.name
        if self.lost and seconds >= wait:
            return "" if self._recorder.resume() else unreachable(name)  # it may be back already
        return f"{name}{HANGS}" if seconds >= max(wait, HUNG) else ""

    def on_deadline(self) -> None:
        """Try again to reach the journal."""
        self._recorder.resume()
        self.deadline = monotonic() + RETRY

    @property
    def _unreachable(self) -> bool:
        recorder = self._recorder
        return recorder.blocked and bool(recorder.unreadable or not recorder.sink.reachable)

    @property
    def _seconds(self) -> float:
        """How long the journal has taken nothing although payloads must wait; -1: it takes them."""
        waits = self._recorder.must_wait and self._stopped_at == self._recorder.progress
        return monotonic() - self._since if waits else -1.0

    def _note_progress(self) -> None:
        """Note since when nothing can be recorded: the journal is away or full, or the log is."""
        recorder = self._recorder
        if not (recorder.blocked or recorder.full):
            self._stopped_at = None
        elif self._stopped_at != recorder.progress:
            self._since, self._stopped_at = monotonic(), recorder.progress

    def _change(self) -> None:
        self.lost = self._unreachable
        self._on_change()
        if self.lost:
            self.deadline = monotonic() + RETRY
            self._loop.timers.watch(self)
            log.error(self.trouble, extra={"kind": Kind.JOURNAL_LOST})
        else:
            self.deadline = inf
            text = "%s takes records again"
            log.warning(text, self._recorder.sink.name, extra={"kind": Kind.JOURNAL_BACK})

    def _report_obstacle(self) -> None:
        self._obstacle = self._recorder.obstacle
        if self._obstacle:
            log.error(self._obstacle, extra={"kind": Kind.NOT_STORED})
        else:
            log.warning("the journal stores payloads again", extra={"kind": Kind.STORED_AGAIN})

    def _watch_for_room(self, wanted: bool) -> None:
        if wanted and not self._watched:
            self._loop.watch(self._recorder.sink, WRITABLE, self._recorder.resume)
        elif self._watched and not wanted:
            self._loop.unwatch(self._recorder.sink)
        self._watched = wanted
