"""The service manager's side of things; the only room that knows it.

All of it does nothing where no service manager listens: sd_notify(3), without $NOTIFY_SOCKET.
"""

import os
import select
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf

from systemd import daemon

# Descriptors that one message can carry, SCM_MAX_FD in the kernel.
_MESSAGE_DESCRIPTORS = 253
# Seconds that the manager has to take what it was sent.
_BARRIER = 10.0
# Seconds between two changes of the status text.
_STATUS = 1.0


def started_us(environ: Mapping[str, str], pid: int) -> bool:
    """Say whether systemd started this very process, and not a shell that it has started.

    Source: systemd.exec(5), $SYSTEMD_EXEC_PID.
    """
    return environ.get("SYSTEMD_EXEC_PID") == str(pid)


def listens(environ: Mapping[str, str]) -> bool:
    """Say whether there is somebody to tell things to, and to keep descriptors for us."""
    return "NOTIFY_SOCKET" in environ


def tell(*assignments: str, descriptors: Sequence[int] = ()) -> bool:
    """Send assignments as in sd_notify(3); say whether they could be sent to anybody.

    Where they can't, clients are served all the same; the watchdog is there for the worst.
    """
    try:
        return bool(daemon.notify("\n".join(assignments), False, 0, list(descriptors)))
    except OSError:
        return False


def tell_reloading() -> None:
    """Say that a reload has begun; READY=1 says that it is over, sd_notify(3)."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    tell("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def passed() -> Iterator[tuple[str, int]]:
    """Yield the name and number of each descriptor that we were started with.

    Those of a socket unit, and those that we had stored: sd_listen_fds_with_names(3).
    """
    for number, name in daemon.listen_fds_with_names().items():
        yield name, number


def store(name: str, descriptors: Sequence[int]) -> None:
    """Have descriptors kept under a name, for this process's successor."""
    for start in range(0, len(descriptors), _MESSAGE_DESCRIPTORS):
        part = descriptors[start : start + _MESSAGE_DESCRIPTORS]
        tell("FDSTORE=1", f"FDNAME={name}", descriptors=part)


def remove(name: str) -> None:
    """Have all descriptors of this name closed in the store."""
    tell("FDSTOREREMOVE=1", f"FDNAME={name}")


def barrier() -> None:
    """Wait until all that was sent before has been dealt with, sd_notify_barrier(3)."""
    waiting, passed_on = os.pipe()
    sent = tell("BARRIER=1", descriptors=[passed_on])
    os.close(passed_on)
    if sent:
        poll = select.poll()
        poll.register(waiting, 0)  # POLLHUP comes unasked
        poll.poll(_BARRIER * 1000)
    os.close(waiting)


def watchdog_interval(environ: Mapping[str, str]) -> float:
    """Return the seconds between signs of life, half of what is allowed: sd_watchdog_enabled(3)."""
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() else inf


class Supervision:
    """Tells the manager that we are ready, that the loop goes round, and how things stand.

    `describe` returns the status text, `ready` whether clients are served as they should be.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        describe: Callable[[], str],
        ready: Callable[[], bool],
    ) -> None:
        self._describe = describe
        self._ready = ready
        self._ready_told = False
        self._interval = watchdog_interval(environ)
        self._feed_at = 0.0 if self._interval < inf else inf
        self._status = ""
        self._status_at = 0.0
        self.due = 0.0

    def attend(self, now: float) -> None:
        """Send what is due; to be called each time that the loop has gone round."""
        if now >= self._feed_at:
            self._feed_at = now + self._interval
            tell("WATCHDOG=1")
        if not self._ready_told and self._ready():
            self._ready_told = True
            tell("READY=1")
        unreported = now < self._status_at
        if not unreported:
            self._report(now)
        self.due = min(self._feed_at, self._status_at if unreported else inf)

    def _report(self, now: float) -> None:
        status = self._describe()
        if status != self._status:
            self._status, self._status_at = status, now + _STATUS
            tell(f"STATUS={status}")
