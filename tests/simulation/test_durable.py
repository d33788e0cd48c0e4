"""The whole server with `durability: disk` in random schedules: slow and failing disks, power cuts.

An ack is only sent when the record outlives all of these.
"""

import errno
from itertools import count

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from ackd.config import Config, Recording
from tests.simulation.durable import DurableWorld
from tests.simulation.test_simulation import LONG_FORM, Schedule, configs

recording = configs.filter(lambda config: config.record is not Recording.NONE)


class DurableSchedule(Schedule):
    """The disk acts in random order, too."""

    world: DurableWorld

    @initialize(config=recording, seed=st.integers(0, 2**32))
    def begin(self, config: Config, seed: int = 0) -> None:
        self.world = DurableWorld(config, seed)
        self.numbers = count(1)
        self.world.connect()

    def serving(self) -> bool:
        return not self.world.draining

    @rule()
    def hold_or_release_the_disk(self) -> None:
        self.world.hold_or_release_disk()

    @rule(jobs=st.integers(1, 3))
    def let_the_disk_work(self, jobs: int) -> None:
        for _ in range(jobs):
            self.world.work()

    @rule(operation=st.integers(0, 4), error=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def fail(self, operation: int, error: int) -> None:
        self.world.fail(operation, error)

    @rule()
    def fill_the_disk(self) -> None:
        self.world.fill_disk()

    @rule()
    def make_room(self) -> None:
        self.world.disk.space = 1 << 40

    @precondition(serving)
    @rule()
    def cut_the_power(self) -> None:
        self.world.cut_power()

    @precondition(serving)
    @rule(config=recording)
    def reload(self, config: Config, move: bool = False) -> None:
        self.world.reload(config, move)


TestDurableSchedule = DurableSchedule.TestCase
TestDurableSchedule.settings = settings(
    max_examples=5000 if LONG_FORM else 60,
    stateful_step_count=100 if LONG_FORM else 50,
    derandomize=not LONG_FORM,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
