"""What the status socket sends. Imported when somebody asks: most ackds are never asked."""

import os
from collections.abc import Iterable, Sequence
from time import monotonic, time

from ackd import __version__
from ackd.journal.recorder import Recorder
from ackd.server.figures import Figures
from ackd.server.listener import name
from ackd.server.server import Server
from ackd.service.expiry import Validity, troubles
from ackd.status import CertificateStatus, DaemonStatus, JournalStatus, LogStatus, to_json

# Certificates that are named: those that expire first.
_CERTIFICATES = 10


def report(
    server: Server,
    recorder: Recorder,
    validities: Sequence[Validity],
    began: float,
    notes: Iterable[str],
) -> bytes:
    """Return the report of an ackd that `began` at this time of time.monotonic(), as JSON."""
    now, clock = monotonic(), time()
    figures = server.figures
    expiring = (text for _, text in troubles(validities, clock))
    return to_json(
        DaemonStatus(
            version=__version__,
            unit=recorder.sink.unit,
            pid=os.getpid(),
            time=clock,
            started=clock - (now - began),
            running=now - began,
            troubles=(*server.troubles, *expiring),
            notes=tuple(filter(None, notes)),
            listeners=tuple(map(name, server.listeners.values())),
            clients=figures.clients(),
            payloads=figures.payloads(),
            rates=figures.rates(now),
            journal=_journal(recorder, figures, now),
            log=_log(recorder),
            commits=figures.commits(now),
            certificates=_certificates(validities),
        )
    )


def _journal(recorder: Recorder, figures: Figures, now: float) -> JournalStatus:
    sink = recorder.sink
    return JournalStatus(
        sink.name,
        sink.journald,
        sink.reachable,
        "" if sink.reachable else sink.why,
        recorder.obstacle,
        recorder.unsettled,
        figures.waiting,
        figures.waits(now),
    )


def _log(recorder: Recorder) -> LogStatus:
    log = recorder.log
    cursors = (log.appended, log.synced, log.sent, log.read, log.safe)
    return LogStatus(log.place, recorder.acks_wait, *cursors, log.size, log.size + log.room)


def _certificates(validities: Sequence[Validity]) -> tuple[CertificateStatus, ...]:
    first = sorted(validities, key=lambda validity: validity.end)[:_CERTIFICATES]
    return tuple(CertificateStatus(each.certificate, each.begin, each.end) for each in first)
