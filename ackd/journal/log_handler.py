"""Records the log lines of ackd itself."""

import logging

from ackd.journal.recorder import Recorder
from ackd.records import Kind, Priority, Record

# Characters of a log line. A line that is too long for a datagram would block the backlog for ever.
_MAX_CHARACTERS = 8192
_PRIORITIES = (
    (logging.CRITICAL, Priority.CRITICAL),
    (logging.ERROR, Priority.ERROR),
    (logging.WARNING, Priority.WARNING),
    (logging.INFO, Priority.INFO),
)


class RecordHandler(logging.Handler):
    """Records the program's log lines, in order with all other records.

    `extra={"kind": Kind.X}` in a logging call gives the line its MESSAGE_ID.
    """

    def __init__(self, recorder: Recorder) -> None:
        super().__init__()
        self._recorder = recorder

    def emit(self, record: logging.LogRecord) -> None:
        """Record one log line."""
        priority = next((p for level, p in _PRIORITIES if record.levelno >= level), Priority.DEBUG)
        kind = getattr(record, "kind", Kind.LOG)
        self._recorder.note(Record(kind, priority, self.format(record)[:_MAX_CHARACTERS]))
