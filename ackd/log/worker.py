"""A thread for all that waits for the disk."""

import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from threading import Thread
from typing import Protocol

# Seconds for which another thread may go on with the interpreter while this one waits for it. Each
# system call of the loop wakes this thread, mostly too late to get the interpreter. With Python's
# 5 ms this would use CPU for nothing, and the disk would wait.
_SWITCH = 0.0002


class Worker(Protocol):
    """Does jobs one after the other, while its owner goes on; they wait until it is started.

    A job raises nothing.
    """

    def start(self) -> None:
        """Begin to do jobs, unless it has begun. Raises OSError."""

    def do(self, job: Callable[[], None]) -> None:
        """Do a job after all earlier ones. Never blocks."""

    def report(self) -> None:
        """Make the descriptor readable; a job calls this."""

    def fileno(self) -> int:
        """Return the descriptor that `report` makes readable."""

    def acknowledge(self) -> None:
        """Make the descriptor unreadable again."""

    def stop(self, seconds: float) -> bool:
        """End when all jobs are done; return whether that is so, after so many seconds at most."""


class WorkerThread:
    """A worker in a thread of this process."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._event = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._thread: Thread | None = None

    def start(self) -> None:
        """Begin to do jobs, unless it has begun: after os.fork(), which takes no thread along.

        Raises OSError if the process may have no more threads.
        """
        if self._thread:
            return
        thread = Thread(target=self._run, name="ackd-log", daemon=True)
        # Signals must interrupt the main thread's select; a new thread inherits the mask.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        try:
            thread.start()
        except RuntimeError as error:
            raise OSError(errno.EAGAIN, str(error)) from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        self._thread = thread
        sys.setswitchinterval(_SWITCH)

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
        """Make the descriptor unreadable again."""
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def stop(self, seconds: float) -> bool:
        """End when all jobs are done; return whether that is so, after so many seconds at most.

        Otherwise the thread ends with the process.
        """
        if self._thread:
            self._jobs.put(None)
            self._thread.join(seconds)
            if self._thread.is_alive():
                return False
        os.close(self._event)
        return True

    def _run(self) -> None:
        while job := self._jobs.get():
            job()
