"""Messages to the service manager, and the descriptors that it passes; only this module knows it.

Without a service manager, so without $NOTIFY_SOCKET, messages are not sent: sd_notify(3).
"""

import array
import os
import select
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from math import inf
from time import monotonic

from ackd.deadlines import Deadlines
from ackd.loop import Timer

# Descriptors in one message at most: SCM_MAX_FD in the kernel's include/net/scm.h.
_MESSAGE_DESCRIPTORS = 253
# Seconds that a message waits for room in the manager's queue, by default. The loop waits so long
# only where the manager hangs, and only for the few messages that must arrive.
_SEND_TIMEOUT = 5.0
# Seconds before a message is sent again that must not wait.
_RETRY = 1.0
# Seconds that the manager has to process all messages.
_BARRIER_TIMEOUT = 10.0
# Seconds between two changes of the status text, at least.
_STATUS_INTERVAL = 1.0


def has_started(environ: Mapping[str, str], pid: int) -> bool:
    """Return whether systemd itself has started the process `pid`, and not a shell under systemd.

    Source: systemd.exec(5), $SYSTEMD_EXEC_PID.
    """
    return environ.get("SYSTEMD_EXEC_PID") == str(pid)


def listens(environ: Mapping[str, str]) -> bool:
    """Return whether a service manager takes messages and stores descriptors."""
    return "NOTIFY_SOCKET" in environ


def runtime_directory(environ: Mapping[str, str]) -> str:
    """Return the first RuntimeDirectory= of the unit, systemd.exec(5); empty without one."""
    return _first(environ, "RUNTIME_DIRECTORY")


def state_directory(environ: Mapping[str, str]) -> str:
    """Return the first StateDirectory= of the unit, systemd.exec(5); empty without one."""
    return _first(environ, "STATE_DIRECTORY")


def _first(environ: Mapping[str, str], directories: str) -> str:
    return environ.get(directories, "").partition(":")[0]


def notify(
    *assignments: str, descriptors: Sequence[int] = (), timeout: float = _SEND_TIMEOUT
) -> bool:
    """Send assignments like READY=1 in one message, sd_notify(3); return whether that worked.

    ackd serves clients even if it did not. If the manager misses WATCHDOG=1 it restarts ackd.

    sd_notify itself would wait without limit while the manager hangs, and ackd with it.
    """
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return False
    rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", descriptors))
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.settimeout(timeout)
            manager.connect("\0" + path[1:] if path.startswith("@") else path)
            data = "\n".join(assignments).encode(errors="backslashreplace")
            manager.sendmsg([data], [rights] if descriptors else [])
    except OSError:
        return False
    return True


def notify_reloading() -> None:
    """Announce that a reload has begun; READY=1 announces its end, sd_notify(3)."""
    microseconds = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
    notify("RELOADING=1", f"MONOTONIC_USEC={microseconds}")


def passed_descriptors() -> Iterator[tuple[str, int]]:
    """Yield the name and number of each descriptor that the manager has passed at the start.

    These are the descriptors of a socket unit, and stored ones: sd_listen_fds_with_names(3).
    """
    if "LISTEN_FDS" not in os.environ:
        return
    from systemd import daemon  # here: libsystemd and its libraries would delay every other start

    for number, name in daemon.listen_fds_with_names().items():
        yield name, number


def store_descriptors(name: str, descriptors: Sequence[int], *, watched: bool = True) -> None:
    """Have the manager store descriptors under a name, for the next process.

    The manager watches a descriptor, and closes it when the other end has gone, unless `watched` is
    False.
    """
    unwatched = () if watched else ("FDPOLL=0",)
    for start in range(0, len(descriptors), _MESSAGE_DESCRIPTORS):
        part = descriptors[start : start + _MESSAGE_DESCRIPTORS]
        notify("FDSTORE=1", f"FDNAME={name}", *unwatched, descriptors=part)


def remove_descriptors(name: str) -> None:
    """Have the manager close all stored descriptors of this name."""
    notify("FDSTOREREMOVE=1", f"FDNAME={name}")


def barrier() -> None:
    """Wait until the manager has processed all earlier messages, sd_notify_barrier(3)."""
    waiting, sent = os.pipe()
    notified = notify("BARRIER=1", descriptors=[sent])
    os.close(sent)
    if notified:
        poll = select.poll()
        poll.register(waiting, 0)  # poll(2) always reports POLLHUP
        poll.poll(_BARRIER_TIMEOUT * 1000)
    os.close(waiting)


def watchdog_interval(environ: Mapping[str, str]) -> float:
    """Return the seconds between WATCHDOG=1 messages: half the limit, sd_watchdog_enabled(3).

    Without a watchdog that is inf.
    """
    microseconds = environ.get("WATCHDOG_USEC", "")
    return int(microseconds) / 2e6 if microseconds.isdigit() else inf


class Watchdog:
    """A timer that reports to the manager that the loop runs, if the manager wants to know."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._interval = watchdog_interval(environ)
        self.deadline = 0.0 if self._interval < inf else inf
        self.scheduled = inf

    def on_deadline(self) -> None:
        """Report that the loop runs."""
        sent = notify("WATCHDOG=1", timeout=0)
        self.deadline = monotonic() + (self._interval if sent else min(self._interval, _RETRY))


class ServiceStatus:
    """Reports to the manager that ackd is ready, and its status when that has changed.

    `describe` returns the status text; `ready` returns whether ackd can serve clients.
    """

    def __init__(
        self,
        environ: Mapping[str, str],
        describe: Callable[[], str],
        ready: Callable[[], bool],
        timers: Deadlines[Timer],
    ) -> None:
        self.deadline = self.scheduled = inf
        self._listens = listens(environ)
        self._describe = describe
        self._ready = ready
        self._timers = timers
        self._reported_ready = False
        self._reported = ""
        self._next_report = 0.0

    def report(self) -> None:
        """Report changes, the status at most once a second; call this in each round."""
        if not self._listens:
            return
        if not self._reported_ready and self._ready():
            self._reported_ready = True
            notify("READY=1")
        if self.deadline < inf:  # the next report reports all changes until then
            return
        if monotonic() < self._next_report:
            self.deadline = self._next_report
            self._timers.watch(self)
        else:
            self._report_status()

    def on_deadline(self) -> None:
        """Report the status although nothing has happened since it could not be reported."""
        self._report_status()

    def _report_status(self) -> None:
        self.deadline = inf
        status = self._describe()
        if status == self._reported:
            return
        self._next_report = monotonic() + _STATUS_INTERVAL
        if notify(f"STATUS={status}", timeout=0):
            self._reported = status
        else:
            self.deadline = self._next_report
            self._timers.watch(self)
