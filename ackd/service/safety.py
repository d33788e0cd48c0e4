"""With `durability: disk`, what ties the log to the files of the journal: recovery and archives.

The modules that do this are imported where they are needed: most starts need none of them.
"""

import logging
import os
from functools import partial
from typing import TYPE_CHECKING

from ackd.journal.recorder import Recorder
from ackd.log.storage import Found
from ackd.loop import Loop

if TYPE_CHECKING:
    from ackd.journal.recovery import Recovery

log = logging.getLogger("ackd")


def recovery(recorder: Recorder) -> "Recovery | None":
    """Return what recovers the records of an unclean end; None if nothing must be recovered.

    To be called before anything is recorded.
    """
    records, sink = recorder.log, recorder.sink
    if not recorder.acks_wait or records.found in (Found.NEW, Found.CLEAN):
        return None
    if records.read == records.appended or not sink.confirms:
        records.set_recovered()  # nothing can be compared with a terminal or a syslog daemon
        return None
    from ackd.journal.reader import last_entries
    from ackd.journal.recovery import Recovery

    return Recovery(recorder, partial(last_entries, os.geteuid(), sink.unit))


def watch_archives(recorder: Recorder, loop: Loop) -> None:
    """Have records leave the log when they are safe in archived files of the journal."""
    sink = recorder.sink
    if not (recorder.acks_wait and sink.confirms):
        return
    if not sink.journald:
        log.warning("the log only grows: it is unknown which journald has ackd's socket")
        return
    from ackd.journal.archives import Archives
    from ackd.journal.files import journal_files

    try:
        files = journal_files(sink.journald, os.geteuid())
    except OSError as error:
        log.warning("the log only grows: %s: %s", error.filename, error.strerror)
        return
    Archives(loop, recorder, files)
