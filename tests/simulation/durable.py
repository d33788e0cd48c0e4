"""The simulation with a log on a disk: slow, failing, or without power."""

import os
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from random import Random
from unittest.mock import patch

from ackd.config import Config
from ackd.log.files import FileStorage
from ackd.log.log import Log
from tests.simulation.disk import SimulatedDisk, SimulatedWorker
from tests.simulation.simulation import LONG_TIME, World

SEGMENT, SEGMENTS = 32 * 1024, 6


class SmallFiles(FileStorage):
    """The log in files that are soon full."""

    segment_size = SEGMENT


class Worker(SimulatedWorker):
    """A worker with a descriptor for the loop; when `prompt`, it does each job at once."""

    def __init__(self) -> None:
        super().__init__()
        self.prompt = True
        self._event = os.eventfd(0, os.EFD_NONBLOCK)

    def do(self, job: Callable[[], None]) -> None:
        super().do(job)
        if self.prompt:
            self.work_off()

    def report(self) -> None:
        os.eventfd_write(self._event, 1)

    def fileno(self) -> int:
        return self._event

    def acknowledge(self) -> None:
        with suppress(BlockingIOError):
            os.eventfd_read(self._event)

    def stop(self, seconds: float) -> bool:
        super().stop(seconds)
        self.kill()
        return True

    def kill(self) -> None:
        """End with the process: no further job is done."""
        self.jobs.clear()
        os.close(self._event)


class DurableWorld(World):
    """A world in which acks wait for the disk."""

    acks_wait = True
    refusals = (
        b"not received: the log is full",
        b"not received: the disk is full",
        b"not received: the disk failed: Input/output error",
    )
    rejections = (
        b"not connect: the log is full",
        b"not connect: the disk is full",
        b"not connect: the disk failed: Input/output error",
        b"not connect: the disk does not answer",
    )

    def __init__(self, config: Config, seed: int) -> None:
        self.disk = SimulatedDisk(Random(seed), 4096)
        self._boots = count(1)
        self._boot = next(self._boots)
        super().__init__(config)
        bound = patch("ackd.journal.recorder._MOST_UNSYNCED", 2 * SEGMENT)
        self._patches.enter_context(bound)

    # What happens to the disk

    def hold_or_release_disk(self) -> None:
        """Let the disk do nothing from now on, or do again what it is asked to."""
        self.worker.prompt = not self.worker.prompt
        if self.worker.prompt:
            self.worker.work_off()

    def work(self) -> None:
        """Let a disk that is held do one job."""
        if self.worker.jobs:
            self.worker.work()

    def fail(self, operation: int, error: int) -> None:
        """Let one of the next operations of the disk fail."""
        self.may_repeat = True  # it can be the one that writes the cursors
        self.disk.failing[operation] = error

    def fill_disk(self) -> None:
        self.disk.space = self.disk.used()

    def cut_power(self) -> None:
        """Start the next server on what the disk has stored: any blocks of a failed commit."""
        for client in self.clients:
            client.torn = True
        self._boot = next(self._boots)
        self.crash()

    # As in the world without a disk

    def crash(self) -> None:
        self.may_repeat = True  # the cursors on the disk are those of the last commit
        super().crash()

    def be_silent(self) -> None:
        if self.worker.prompt:
            super().be_silent()
        else:  # clients that wait for the disk are not idle
            self.pass_time(LONG_TIME)

    def do_without_journal(self) -> None:
        if self.worker.prompt:
            super().do_without_journal()
        else:  # no client is answered before the disk
            self.journal.leave()
            self.pass_time(2 * self.longest_wait + 1)

    def hand_over(self, lose_state: bool) -> None:
        self.worker.prompt = True
        self.worker.work_off()
        super().hand_over(lose_state)

    def heal(self) -> None:
        super().heal()
        self.disk.failing = {}
        self.disk.space = 1 << 40
        self.worker.prompt = True
        self.worker.work_off()

    def _open_log(self) -> Log:
        self.worker = Worker()
        self.disk.failing = {}  # a start that fails is tried again until it succeeds
        boot = self._boot.to_bytes(16, "big")
        self._log_boot = self._boot
        return Log(SmallFiles(self.disk, SEGMENTS * SEGMENT, self.worker, boot))

    def _close_log(self, clean: bool) -> None:
        if clean:
            self._recorder.log.close(clean)
            return
        self.worker.kill()
        if self._log_boot == self._boot:
            self.disk.kill_process()
        else:
            self.disk.cut_power()
