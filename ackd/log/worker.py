"""A thread for all that waits for the disk."""

import os
import signal
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Protocol


class Worker(Protocol):
    """Does jobs one after the other, while its owner goes on; they wait until it is started."""

    def start(self) -> None:
        """Begin to do jobs, unless it has begun."""

    def do(self, job: Callable[[], None]) -> None:
        """Do a job after all earlier ones. Never blocks."""

    def report(self) -> None:
        """Make the descriptor readable; a job calls this."""

    def fileno(self) -> int:
        """Return the descriptor that `report` makes readable."""

    def acknowledge(self) -> None:
        """Make the descriptor unreadable again."""

    def stop(self) -> None:
        """Wait until all jobs are done, and end."""


class WorkerThread:
    """A worker in a thread of this process."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._ended = False
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to do jobs, unless it has begun: after os.fork(), which takes no thread along."""
        if self._thread:
            return
        self._thread = Thread(target=self._run, name="ackd-log", daemon=True)
        # Signals must interrupt the main thread's select; a new thread inherits the mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._thread.start()
        signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def do(self, job: Callable[[], None]) -> None:
        """Do a job after all earlier ones. Never blocks."""
        self._jobs.put(job)

    def report(self) -> None:
        """Make the descriptor readable; a job calls this."""
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        """Return the descriptor that `report` makes readable."""
        return self._event

    def acknowledge(self) -> None:
        """Make the descriptor unreadable again. Raises RuntimeError after an error in a job."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)
        if self._ended:
            raise RuntimeError("the thread of the log has ended")

    def stop(self) -> None:
        """Wait until all jobs are done, and end."""
        if self._thread:
            self._jobs.put(None)
            self._thread.join()
        os.close(self._event)

    def _run(self) -> None:
        try:
            while job := self._jobs.get():
                job()
        finally:
            self._ended = True
            self.report()
