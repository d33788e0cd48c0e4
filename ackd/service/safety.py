"""With `durability: disk`, what ties the log to the files of the journal: recovery and archives."""

import logging
import os
from functools import partial

from ackd.journal.archives import Archives
from ackd.journal.files import journal_files
from ackd.journal.reader import last_entries
from ackd.journal.recorder import Recorder
from ackd.journal.recovery import Recovery
from ackd.log.storage import Found
from ackd.loop import Loop
from ackd.service import systemd
from ackd.service.rotation import Rotation

log = logging.getLogger("ackd")


def recovery(recorder: Recorder) -> Recovery | None:
    """Return what recovers the records of an unclean end; None if nothing must be recovered.

    To be called before anything is recorded.
    """
    records, sink = recorder.log, recorder.sink
    if not recorder.acks_wait or records.found in (Found.NEW, Found.CLEAN):
        return None
    if records.read == records.appended or not sink.confirms:
        records.set_recovered()  # nothing can be compared with a terminal or a syslog daemon
        return None
    return Recovery(recorder, partial(last_entries, os.geteuid(), sink.unit))


def watch_archives(recorder: Recorder, loop: Loop) -> None:
    """Have records leave the log when they are safe in archived files of the journal."""
    sink = recorder.sink
    if not (recorder.acks_wait and sink.confirms):
        return
    if not sink.journald:
        log.warning("the log only grows: it is unknown which journald has ackd's socket")
        return
    try:
        files = journal_files(sink.journald, os.geteuid())
    except OSError as error:
        log.warning("the log only grows: %s: %s", error.filename, error.strerror)
        return
    Archives(loop, recorder, files)
    if directory := systemd.runtime_directory(os.environ):
        Rotation(loop, recorder.log, directory)
