"""Which connection has payloads recorded next when the journal can't take all at once."""

import pytest

from ackd.config import Config
from tests.simulation.simulation import Client, World


@pytest.mark.parametrize("refusals", [0, 1], ids=["whole turn", "turn cut short"])
def test_a_client_with_one_payload_does_not_wait_for_all_clients_with_thousands(
    refusals: int,
) -> None:
    world = World(Config())
    crowd = connect(world, 50)
    world.journal.make_room(0)
    for client in crowd:
        client.send(b"one of thousands\n" * 2000)
    grant(world, 6000)  # each client has had a turn, and has more to record
    (newcomer,) = connect(world, 1)
    before = stored(crowd)
    newcomer.send(b"just one\n")
    world.go_round()
    world.journal.refuse(refusals)
    while not newcomer.stored:
        grant(world, 10)
    assert stored(crowd) - before <= 100
    while not newcomer.replies:
        world.go_round()
    for client in crowd:
        client.reset()
    world.finish()
    world.close()


def test_a_waiting_connection_is_served_before_later_ones() -> None:
    world = World(Config())
    crowd = connect(world, 60)
    world.journal.make_room(0)
    sent_at = {}
    for number in range(400):
        for client in crowd:
            if client.replies == len(client.lines):
                client.send(b"one at a time\n")
                sent_at[client] = stored(crowd)
        world.go_round()
        if not world.journal.room:
            world.journal.make_room(7 + number % 40)
        waiting = [client for client in crowd if len(client.stored) < len(client.lines)]
        assert all(stored(crowd) - sent_at[client] < 60 for client in waiting)
    world.finish()
    world.close()


def connect(world: World, count: int) -> list[Client]:
    """Let `count` clients connect and be greeted."""
    for _ in range(count):
        world.connect()
    while world.go_round(0.001):
        pass
    return world.clients[-count:]


def grant(world: World, records: int) -> None:
    """Let the journal take `records` records and no more."""
    world.journal.make_room(records)
    for _ in range(records):
        world.go_round()
        if not world.journal.room:
            return


def stored(clients: list[Client]) -> int:
    return sum(len(client.stored) for client in clients)
