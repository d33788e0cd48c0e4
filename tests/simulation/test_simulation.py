"""The whole server in random schedules: each promise holds in each of them."""

import os
import sys
from collections.abc import Callable
from functools import partial
from itertools import count
from math import inf
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ackd.config import Config, Recording
from tests.simulation.simulation import Client, Journal, World

LONG_FORM = bool(os.environ.get("ACKD_CAMPAIGN"))
MAX_PAYLOADS = (16, 40)


def _config(settings: dict[str, Any]) -> Config:
    return Config(**settings)


# Not st.builds(Config): that would also choose values for the keys that are not named here.
configs = st.fixed_dictionaries(
    {
        "greeting": st.sampled_from(["Connect", "hello"]),
        "ack": st.sampled_from(["ok", "thank you " * 30]),
        "record": st.sampled_from([*[Recording.EACH, Recording.BATCH] * 3, Recording.NONE]),
        "max_payload": st.sampled_from(MAX_PAYLOADS),
        "idle_timeout": st.sampled_from([0, 0, 30]),
        "journal_wait": st.sampled_from([0.5, 3]),
        "debug": st.booleans(),
    }
).map(_config)
# How much longer a line is than its number; and its end, if it has one.
lengths = st.sampled_from([0, 0, 0, 0, 13, 14, 15, 16, 38, 39, 40, 5000])
ends = st.sampled_from(
    [
        *(b"\n", b"\n", b"\n", b"\r\n", b"\r\r\n", b"\n\n", b"", b"", b"\r"),
        *(b"\0\n", b"\xff\xfe\n", b"\x1b[31m\n", b"=\n", b"\r\rACKD_SEQUENCE=1\n"),
    ]
)
parts = st.tuples(lengths, ends)
clients = st.integers(0, 1000)
leaves = st.sampled_from(
    [
        Client.half_close,
        Client.end_in_the_middle,
        Client.end_in_the_middle,
        Client.close,
        Client.reset,
    ]
)
changes = st.sampled_from(
    [
        Journal.leave,
        Journal.come_back,
        *[partial(Journal.make_room, room=room) for room in (0, 1, 2, 5, inf, inf)],
        *[partial(Journal.refuse, times=times) for times in (1, 3)],
    ]
)


class Schedule(RuleBasedStateMachine):
    """Clients, the journal, the operator and the time act in random order."""

    world: World

    @initialize(config=configs)
    def begin(self, config: Config) -> None:
        self.world = World(config)
        self.numbers = count(1)
        self.world.connect()

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        try:
            if sys.exc_info()[0] is None:
                self.world.finish()
        finally:
            self.world.close()

    def client(self, choice: int) -> Client:
        return self.world.active[choice % len(self.world.active)]

    def has_clients(self) -> bool:
        return bool(self.world.active)

    def serving(self) -> bool:
        return not self.world.draining

    # Clients

    @precondition(serving)
    @rule()
    def connect(self) -> None:
        if len(self.world.active) < 6:
            self.world.connect()

    @precondition(has_clients)
    @rule(choice=clients, parts=st.lists(parts, min_size=1, max_size=6))
    def send(self, choice: int, parts: list[tuple[int, bytes]]) -> None:
        lines = [b"%d%b%b" % (next(self.numbers), b"x" * size, rest) for size, rest in parts]
        self.client(choice).send(b"".join(lines))
        self.world.go_round()

    @precondition(has_clients)
    @rule(choice=clients, lines=st.sampled_from([2, 10, 300, 700]))
    def pipeline(self, choice: int, lines: int) -> None:
        data = b"".join(b"%d\n" % next(self.numbers) for _ in range(lines))
        self.client(choice).send(data)
        self.world.go_round()

    @precondition(has_clients)
    @rule(choice=clients)
    def stop_or_start_reading(self, choice: int) -> None:
        self.client(choice).stop_or_start_reading()

    @precondition(has_clients)
    @rule(choice=clients, leave=leaves)
    def leave(self, choice: int, leave: Callable[[Client], None]) -> None:
        leave(self.client(choice))

    # The journal

    @rule(change=changes)
    def change_the_journal(self, change: Callable[[Journal], None]) -> None:
        change(self.world.journal)

    # Time, and the operator

    @rule(rounds=st.integers(1, 5))
    def go_round(self, rounds: int) -> None:
        for _ in range(rounds):
            self.world.go_round()

    @rule(seconds=st.sampled_from([0.05, 0.3, 1.0, 3.5]))
    def pass_time(self, seconds: float) -> None:
        self.world.pass_time(seconds)

    @rule(long=st.sampled_from(["be_silent", "do_without_journal", "go_round"]))
    def wait_long(self, long: str) -> None:
        getattr(self.world, long)()

    @precondition(serving)
    @rule(config=configs, move=st.booleans())
    def reload(self, config: Config, move: bool) -> None:
        self.world.reload(config, move)

    @precondition(serving)
    @rule(lose_state=st.sampled_from([*[False] * 7, True]))
    def hand_over(self, lose_state: bool) -> None:
        self.world.hand_over(lose_state)

    @precondition(serving)
    @rule(end=st.sampled_from(["crash", "drain", *["go_round"] * 6]))
    def end(self, end: str) -> None:
        getattr(self.world, end)()


TestSchedule = Schedule.TestCase
TestSchedule.settings = settings(
    max_examples=5000 if LONG_FORM else 200,
    stateful_step_count=100 if LONG_FORM else 50,
    derandomize=not LONG_FORM,  # the same schedules for each change of the code
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
