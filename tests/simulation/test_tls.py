"""The whole server over TLS in random schedules: the promises are those of plain TCP."""

from itertools import count

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import initialize

from ackd.config import Config
from tests.simulation.test_simulation import LONG_FORM, Schedule, configs
from tests.simulation.tls import TlsWorld
from tests.support.certificates import Authority, needs_openssl


@pytest.fixture(scope="module", autouse=True)
def certificates(tmp_path_factory: pytest.TempPathFactory) -> None:
    TlsWorld.prepare(Authority(tmp_path_factory.mktemp("tls") / "ca"))


class TlsSchedule(Schedule):
    """The same, over TLS."""

    world: TlsWorld

    @initialize(config=configs)
    def begin(self, config: Config) -> None:
        self.world = TlsWorld(config)
        self.numbers = count(1)
        self.world.connect()


TestTlsSchedule = needs_openssl(TlsSchedule.TestCase)
TestTlsSchedule.settings = settings(
    max_examples=5000 if LONG_FORM else 60,
    stateful_step_count=100 if LONG_FORM else 50,
    derandomize=not LONG_FORM,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
