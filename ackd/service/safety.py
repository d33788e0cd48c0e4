"""With `durability: disk`, what ties the log to the files of the journal: recovery and archives.

The modules that do this are imported where they are needed: most starts need none of them.
"""

import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from ackd.journal.recorder import Recorder
from ackd.log.storage import Found
from ackd.loop import Loop
from ackd.service import systemd

if TYPE_CHECKING:
    from ackd.journal.recovery import Entry, Recovery

log = logging.getLogger("ackd")

# A file in the runtime directory, with one byte for each process that was killed while it read the
# journal; and how many processes these may be until the next one does not read it.
_READING = "reading-the-journal"
_MOST_KILLED = 3


def recovery(recorder: Recorder, environ: Mapping[str, str]) -> "Recovery | None":
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

    read = partial(last_entries, os.geteuid(), sink.unit)
    return Recovery(recorder, partial(read_or_give_up, read, environ))


def read_or_give_up(
    read: Callable[[int], Iterable["Entry"]], environ: Mapping[str, str], count: int
) -> "Iterator[Entry]":
    """Yield entries of the journal, unless several processes were killed while they read it.

    libsystemd maps the files of the journal. If the disk can't read a page of them, the kernel
    kills the process: SIGBUS, mmap(2). That would happen to each further process as well. Raises
    NotReadableError.
    """
    from ackd.journal.reader import NotReadableError

    killed = _count_reading(systemd.runtime_directory(environ))
    try:
        if killed >= _MOST_KILLED:
            raise NotReadableError(f"{killed} processes were killed while they read the journal")
        yield from read(count)
    finally:
        note_reading_ended(environ)


def note_reading_ended(environ: Mapping[str, str]) -> None:
    """Note that this process was not killed while it read the journal."""
    if directory := systemd.runtime_directory(environ):
        with suppress(OSError):
            os.unlink(os.path.join(directory, _READING))


def _count_reading(directory: str) -> int:
    """Return how many processes were killed, and note that this one begins to read."""
    killed = 0
    if directory:
        with suppress(OSError), open(os.path.join(directory, _READING), "ab") as file:
            killed = file.tell()
            file.write(b".")
    return killed


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
    from ackd.service.rotation import Rotation

    try:
        files = journal_files(sink.journald, os.geteuid())
    except OSError as error:
        log.warning("the log only grows: %s: %s", error.filename, error.strerror)
        return
    Archives(loop, recorder, files)
    if directory := systemd.runtime_directory(os.environ):
        Rotation(loop, recorder.log, directory)
