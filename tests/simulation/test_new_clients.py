"""The first line that new clients get while payloads can't be recorded, in simulated time."""

import errno
from collections.abc import Iterator
from contextlib import closing

import pytest

from ackd.config import Config, Recording
from ackd.server.availability import HUNG, RETRY
from tests.simulation.durable import DurableWorld
from tests.simulation.simulation import AWAY, HANGS, World, first_line

GREETING = b"Connect"
WAIT = 8.0
LOG_FULL, DISK_FULL = b"not connect: the log is full", b"not connect: the disk is full"
DISK_FAILED = b"not connect: the disk failed: Input/output error"
DISK_HANGS = b"not connect: the disk does not answer"


@pytest.fixture
def world() -> Iterator[World]:
    with closing(World(Config(journal_wait=WAIT))) as world:
        world.connect()
        yield world
        world.finish()


@pytest.fixture
def durable() -> Iterator[DurableWorld]:
    with closing(DurableWorld(Config(journal_wait=WAIT), seed=1)) as durable:
        durable.connect()
        yield durable
        durable.finish()


def send(world: World, data: bytes = b"hello\n") -> None:
    """Have the first client send this."""
    world.clients[0].send(data)
    world.pass_time(0.01)


def lose_journal(world: World) -> None:
    world.journal.leave()
    send(world)


# The journal


def test_clients_are_rejected_when_the_journal_is_away_for_journal_wait(world: World) -> None:
    lose_journal(world)
    world.pass_time(WAIT - 0.1)
    assert first_line(world) == GREETING
    world.pass_time(0.2)
    assert first_line(world) == AWAY
    world.journal.come_back()
    assert first_line(world) == GREETING  # at once, before the next attempt to reach the journal


def test_the_time_without_a_journal_begins_anew_when_it_was_there(world: World) -> None:
    for _ in range(2):
        lose_journal(world)
        world.pass_time(WAIT - 1)
        assert first_line(world) == GREETING
        world.journal.come_back()
        world.pass_time(RETRY)
    assert first_line(world) == GREETING


def test_a_reload_changes_from_when_on_clients_are_rejected(world: World) -> None:
    lose_journal(world)
    world.pass_time(1)
    assert first_line(world) == GREETING
    world.reload(Config(journal_wait=0.5), move=False)
    assert first_line(world) == AWAY


def test_a_new_process_counts_from_its_start(world: World) -> None:
    lose_journal(world)
    world.pass_time(WAIT)
    assert first_line(world) == AWAY
    world.hand_over(lose_state=False)
    assert first_line(world) == GREETING
    world.pass_time(WAIT)
    assert first_line(world) == AWAY


def test_clients_are_greeted_with_record_none(world: World) -> None:
    world.reload(Config(journal_wait=WAIT, record=Recording.NONE), move=False)
    lose_journal(world)
    world.pass_time(2 * WAIT)
    assert first_line(world) == GREETING
    world.journal.come_back()
    world.pass_time(RETRY)


def test_clients_are_rejected_when_the_journal_hangs(world: World) -> None:
    world.journal.make_room(0)
    send(world)
    world.pass_time(WAIT - 0.1)
    assert first_line(world) == GREETING
    world.pass_time(0.2)
    assert first_line(world) == HANGS
    assert world.trouble == "the journal takes no records, payloads wait"
    world.journal.make_room(1)
    world.pass_time(0)
    assert first_line(world) == GREETING


def test_a_journal_that_is_only_slow_is_no_reason(world: World) -> None:
    world.journal.make_room(0)
    send(world, b"hello\n" * 10)
    for _ in range(8):
        world.pass_time(WAIT - 1)
        assert first_line(world) == GREETING
        world.journal.make_room(1)


def test_a_short_pause_of_the_journal_is_no_reason_without_journal_wait(world: World) -> None:
    world.reload(Config(journal_wait=0), move=False)
    world.journal.make_room(0)
    send(world)
    world.pass_time(HUNG - 0.1)
    assert first_line(world) == GREETING
    world.pass_time(0.2)
    assert first_line(world) == HANGS


# The log on the disk


def test_an_absent_journal_is_no_reason_before_the_log_is_full(durable: DurableWorld) -> None:
    lose_journal(durable)
    durable.pass_time(10 * WAIT)
    assert first_line(durable) == GREETING
    send(durable, b"%b\n" % (b"x" * 5_000) * 60)
    durable.pass_time(WAIT - 0.5)
    assert first_line(durable) == GREETING
    durable.pass_time(1)
    assert first_line(durable) == LOG_FULL
    durable.journal.come_back()
    durable.pass_time(2)
    assert first_line(durable) == GREETING


@pytest.mark.parametrize(
    ("error", "rejection"), [(errno.EIO, DISK_FAILED), (errno.ENOSPC, DISK_FULL)]
)
def test_clients_are_rejected_until_the_disk_takes_records_without_any_payload(
    durable: DurableWorld, error: int, rejection: bytes
) -> None:
    durable.disk.space = 0
    for operation in range(4_000):
        durable.fail(operation, error)
    send(durable)
    assert first_line(durable) == rejection
    durable.pass_time(30)
    assert first_line(durable) == rejection
    durable.disk.failing = {}
    durable.disk.space = 1 << 40
    durable.pass_time(1.1)
    assert first_line(durable) == GREETING


def test_clients_are_rejected_when_the_disk_hangs(durable: DurableWorld) -> None:
    durable.hold_or_release_disk()
    send(durable)
    durable.pass_time(WAIT - 0.1)
    assert first_line(durable) == GREETING
    durable.pass_time(0.2)
    assert first_line(durable) == DISK_HANGS
    durable.hold_or_release_disk()
    durable.pass_time(0)
    assert first_line(durable) == GREETING
