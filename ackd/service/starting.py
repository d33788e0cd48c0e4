"""Starting again and again under systemd: a wrong configuration must not flood the journal.

The first start that fails ends at once, so that `systemctl restart` reports why. It leaves a mark
in the descriptor store. The next process, which systemd starts by itself, finds the mark. It stays,
and tries again more and more rarely, until the start succeeds. Clients and connections wait in the
store. RestartSteps= of systemd.service(5) would do less, and exists only since systemd 254.
"""

import os
import signal
import sys
from collections.abc import Callable
from time import monotonic
from typing import TypeVar

from ackd.config import ConfigError
from ackd.server.listener import ListenError
from ackd.service import systemd
from ackd.service.disk_log import DiskLogError
from ackd.service.service import CapacityError
from ackd.service.store import START_FAILED

# Seconds between two attempts, at first and at most.
_FIRST_PAUSE, _LONGEST_PAUSE = 1.0, 15.0
# Seconds between two reports of the error, at least.
_REPORT_INTERVAL = 60.0

START_ERRORS = (ConfigError, CapacityError, ListenError, DiskLogError)
_STOPS = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2, signal.SIGHUP)
StartedT = TypeVar("StartedT")


def start(attempt: Callable[[], StartedT], marked: bool) -> StartedT:
    """Return what `attempt` returns; raises its error, unless an earlier start has failed as well.

    `marked` is whether the mark is in the store.
    """
    try:
        started = attempt()
    except START_ERRORS as error:
        if not marked:
            _mark()
            raise
        started = _try_again(attempt, error)
    if marked:
        systemd.remove_descriptors(START_FAILED)
    return started


def _mark() -> None:
    """Leave the mark for the next process, if there is a store."""
    if not systemd.listens(os.environ):
        return
    mark = os.memfd_create(START_FAILED)
    systemd.store_descriptors(START_FAILED, [mark])
    systemd.barrier()
    os.close(mark)


def _try_again(attempt: Callable[[], StartedT], error: Exception) -> StartedT:
    signal.pthread_sigmask(signal.SIG_BLOCK, _STOPS)
    pause, next_report = _FIRST_PAUSE, 0.0
    while True:
        if monotonic() >= next_report:
            next_report = monotonic() + _REPORT_INTERVAL
            first, *more = str(error).splitlines()
            others = f" (and {len(more)} more)" if more else ""
            print(f"ackd: still can't start, clients wait: {first}{others}", file=sys.stderr)
            systemd.notify(f"STATUS=can't start, clients wait: {first}")
        # systemd waits that much longer for READY=1, sd_notify(3).
        systemd.notify(f"EXTEND_TIMEOUT_USEC={round(2e6 * (pause + _LONGEST_PAUSE))}")
        _sleep(pause)
        pause = min(2 * pause, _LONGEST_PAUSE)
        try:
            started = attempt()
        except START_ERRORS as again:
            error = again
        else:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _STOPS)
            return started


def _sleep(seconds: float) -> None:
    """Sleep; when a blocked signal asks for a stop or a restart, remove the mark and end.

    An administrator has asked for that, so the next start reports its outcome at once.
    """
    received = signal.sigtimedwait(_STOPS, seconds)
    if received and received.si_signo != signal.SIGHUP:
        systemd.remove_descriptors(START_FAILED)
        systemd.barrier()
        sys.exit(0)
