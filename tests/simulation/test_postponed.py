"""With `durability: disk`, records are sent to the journal when acks pause, or after a second."""

from ackd.config import Config
from tests.simulation.durable import DurableWorld
from tests.simulation.test_journal_queue import connect


def test_fast_acks_postpone_the_journal_for_a_second_at_most() -> None:
    world = DurableWorld(Config(), seed=0)
    (client,) = connect(world, 1)
    acknowledged_at: list[float] = []
    waited: list[float] = []
    for _ in range(300):
        client.send(b"one at a time\n")
        while client.replies < len(client.lines):
            world.go_round()
        acknowledged_at.append(world.clock.now)
        world.pass_time(0.009)
        if len(client.stored) < len(acknowledged_at):
            waited.append(world.clock.now - acknowledged_at[len(client.stored)])
    assert len(waited) > 200
    assert 0.9 < max(waited) <= 1.01
    world.pass_time(0.02)  # a pause
    assert len(client.stored) == len(acknowledged_at)
    world.finish()
    world.close()


def test_slow_acks_postpone_nothing() -> None:
    world = DurableWorld(Config(), seed=0)
    (client,) = connect(world, 1)
    for _ in range(20):
        client.send(b"one at a time\n")
        while client.replies < len(client.lines):
            world.go_round()
        world.pass_time(0.02)
        assert len(client.stored) == len(client.lines)
    world.finish()
    world.close()
