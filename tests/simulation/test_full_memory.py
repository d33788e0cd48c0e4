"""The log in memory has no room: its file system is full, and journald hangs."""

import errno
import os

from ackd.config import Config
from ackd.log.format import Header
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.log.storage import Segment
from tests.simulation.simulation import HANGS, World, first_line

ROOM = 2  # segments


class FullMemory(MemoryStorage):
    """The log in a file system that has no room for a third segment."""

    def begin(self, header: Header) -> Segment:
        if self._free[0] >= ROOM:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return super().begin(header)


class FullWorld(World):
    """A world with little room for the log."""

    def _open_log(self) -> Log:
        return Log(FullMemory(os.dup(self._log)))


def test_ackd_does_not_spin_while_a_full_log_waits_for_a_journal_that_hangs() -> None:
    world = FullWorld(Config())
    world.connect()
    (client,) = world.clients
    world.journal.hangs = True
    while client.replies == len(client.lines):
        client.send(b"".join(b"%d\n" % number for number in range(100)))
        world.pass_time(1)
    world.pass_time(20)
    assert client.replies < len(client.lines)
    assert first_line(world) == HANGS
    world.journal.hangs = False
    world.pass_time(1)
    assert first_line(world) == b"Connect"
    world.finish()
    world.close()
