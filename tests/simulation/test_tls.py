"""The whole server over TLS in random schedules: the promises are those of plain TCP."""

from itertools import count
from math import inf

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize

from ackd.config import Config
from tests.simulation.simulation import MOMENT
from tests.simulation.test_simulation import LONG_FORM, Schedule, configs
from tests.simulation.tls import TlsClient, TlsWorld
from tests.support.certificates import Authority, needs_openssl

pytestmark = needs_openssl


@pytest.fixture(scope="module", autouse=True)
def certificates(tmp_path_factory: pytest.TempPathFactory) -> None:
    TlsWorld.prepare(Authority(tmp_path_factory.mktemp("tls") / "ca"))


@pytest.mark.parametrize("away", [False, True], ids=["full", "away"])
def test_a_turn_for_half_a_record_does_not_make_the_server_spin(away: bool) -> None:
    world = TlsWorld(Config(journal_wait=1))
    for _ in range(2):
        world.connect()
    first, second = world.clients
    assert isinstance(second, TlsClient)
    if away:
        world.journal.leave()
    else:
        world.journal.make_room(0)
    first.send(b"1\n")
    world.go_round(1)  # it waits for the journal
    second.let_go(0)
    second.send(b"2\n")
    second.let_go(10)
    world.go_round(1)  # it waits as well
    if away:
        world.pass_time(5)  # both waits end
    world.heal()
    world.pass_time(1)  # raises an error if the server spins
    second.let_go(inf)
    world.finish()
    world.close()


@pytest.mark.parametrize("reads", [True, False], ids=["reading", "not reading"])
def test_a_hand_over_acknowledges_what_has_come_and_then_ends_tls(reads: bool) -> None:
    world = TlsWorld(Config(ack="thank you " * 30))
    world.connect()
    (client,) = world.clients
    assert isinstance(client, TlsClient)
    if not reads:
        client.stop_or_start_reading()
        while client.replies == 0 and len(client.lines) < 2000:
            client.send(b"more than the kernel has room for\n")
            world.go_round()
    client.send(b"1\n2\n3\nhalf")
    before = world.clock.now
    world.hand_over(lose_state=False)
    assert world.clock.now - before < 4
    world.heal()
    while not client.ended:
        world.go_round(MOMENT)
    assert client.stored.keys() >= client.promised.keys()
    assert list(client.stored.values())[-3:] == [b"1", b"2", b"3"]
    if reads:
        assert client.replies == 3
        assert client.said_end
    world.finish()
    world.close()


class TlsSchedule(Schedule):
    """The same, over TLS."""

    world: TlsWorld

    @initialize(config=configs)
    def begin(self, config: Config) -> None:
        self.world = TlsWorld(config)
        self.numbers = count(1)
        self.world.connect()


TestTlsSchedule = TlsSchedule.TestCase
TestTlsSchedule.settings = settings(
    max_examples=5000 if LONG_FORM else 60,
    stateful_step_count=100 if LONG_FORM else 50,
    derandomize=not LONG_FORM,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
