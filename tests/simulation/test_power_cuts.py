"""The log on a simulated disk: what was synced outlives power cuts, crashes and errors."""

import errno
import os
from contextlib import suppress
from itertools import count
from random import Random

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.storage import Found
from tests.simulation.disk import PowerCutError, SimulatedDisk, SimulatedWorker

LONG_FORM = bool(os.environ.get("ACKD_CAMPAIGN"))
SEGMENT = 8192
SEGMENTS = 4


class SmallFiles(FileStorage):
    """The log in files that are soon full."""

    segment_size = SEGMENT


class LogSchedule(RuleBasedStateMachine):
    """The log is used, while commits fail, the process is killed and the power is cut.

    `records` are those that the log has had; those from `safe` to the one before `durable` must
    outlive everything. `given_up` are those of failed commits: they may come back until a later
    commit has succeeded. `ghosts` are those that have come back without a power cut: the disk may
    not have them. `banned` must never come back. `missing` are the numbers of the gaps so far.
    """

    @initialize(seed=st.integers(0, 2**32), block=st.sampled_from([512, 4096]))
    def begin(self, seed: int, block: int) -> None:
        self.boots = count(1)
        self.ids = count(1)
        self.disk = SimulatedDisk(Random(seed), block)
        self.records: dict[int, bytes] = {}
        self.given_up: set[bytes] = set()
        self.banned: set[bytes] = set()
        self.ghosts: set[int] = set()
        self.missing: set[int] = set()
        self.durable = self.safe = 0
        self.boot()
        self.open()
        assert self.log.found is Found.NEW

    def boot(self) -> None:
        self.boot_id = next(self.boots).to_bytes(16)

    def open(self) -> None:
        self.worker = SimulatedWorker()
        storage = SmallFiles(self.disk, SEGMENTS * SEGMENT, self.worker, self.boot_id)
        self.log = Log(storage)
        self.reader = self.log.reader(self.log.sent)

    # What ackd does

    @rule(sizes=st.lists(st.sampled_from([1, 20, 300, 700, 3000, 8000]), min_size=1, max_size=9))
    def append(self, sizes: list[int]) -> None:
        for size in sizes:
            record = (b"%d " % next(self.ids)).ljust(size, b"x")
            number = self.log.appended
            if self.log.append(record):
                self.records[number] = record

    @rule(size=st.sampled_from([1, 300, 8000]))
    def append_and_withdraw(self, size: int) -> None:
        if self.log.append(b"w" * size):
            self.log.withdraw()

    @rule()
    def commit(self) -> None:
        self.log.commit()

    @precondition(lambda self: self.worker.jobs)
    @rule(jobs=st.integers(1, 4))
    def work(self, jobs: int) -> None:
        for _ in range(min(jobs, len(self.worker.jobs))):
            self.worker.work()

    @precondition(lambda self: self.worker.reported)
    @rule()
    def collect(self) -> None:
        error = self.log.collect()
        if error:
            assert error.errno in (errno.EIO, errno.ENOSPC)
            assert self.log.appended == self.log.synced == self.durable
            lost = [number for number in self.records if number >= self.durable]
            self.given_up.update(self.records.pop(number) for number in lost)
        else:
            assert self.durable <= self.log.synced <= self.log.appended
            self.durable = self.log.synced
            self.banned |= self.given_up
            self.given_up.clear()

    @rule(most=st.sampled_from([1, 5, 1000]))
    def send(self, most: int) -> None:
        with suppress(OSError):  # can't be read now; the next time it can
            while most and (record := self.reader.peek()) is not None:
                assert self.reader.number < self.durable
                assert record == self.records[self.reader.number]
                self.reader.advance()
                most -= 1
        self.log.set_sent(self.reader.number)

    @rule(share=st.floats(0, 1))
    def read(self, share: float) -> None:
        self.log.set_read(self.log.read + int(share * (self.log.sent - self.log.read)))

    @rule(share=st.floats(0, 1))
    def be_safe(self, share: float) -> None:
        self.log.set_safe(self.log.safe + int(share * (self.log.read - self.log.safe)))
        self.safe = max(self.safe, self.log.safe)

    @rule(rounds=st.integers(1, 20), share=st.floats(0, 1))
    def go_on(self, rounds: int, share: float) -> None:
        """Use many segments while the journal follows."""
        for _ in range(rounds):
            self.append([20, 700, 1])
            self.commit()
            self.worker.work_off()
            self.collect_if_ended()
            self.send(1000)
            self.read(1)
            self.be_safe(share)

    # What happens to it

    @rule(after=st.integers(0, 8), error=st.sampled_from([errno.EIO, errno.ENOSPC]))
    def fail(self, after: int, error: int) -> None:
        self.disk.failing[after] = error

    @rule(space=st.sampled_from([0, 1, SEGMENT, 1 << 40, 1 << 40]))
    def leave_space(self, space: int) -> None:
        self.disk.space = self.disk.used() + space

    @rule(after=st.integers(0, 20), power=st.booleans(), starts=st.lists(st.integers(0, 12)))
    def end_in_the_middle(self, after: int, power: bool, starts: list[int]) -> None:
        """End after some operations of the worker; then also while the next processes start."""
        self.disk.end = after
        with suppress(PowerCutError):
            self.worker.work_off()
        self.collect_if_ended()
        self.end_process(power)
        for self.disk.end in starts:
            with suppress(PowerCutError):
                self.open()
            self.end_process(power)
        before = self.log.found
        self.open()
        # A killed process may not have written yet that it had recovered from another boot.
        expected = Found.OTHER_BOOT if power else Found.SAME_BOOT
        assert self.log.found is expected or self.log.found is before is Found.OTHER_BOOT
        self.check(power)

    @rule(power=st.booleans())
    def close(self, power: bool) -> None:
        self.disk.failing = {}
        self.collect_if_ended()
        self.log.close(clean=True)
        if power:
            self.end_process(power)
        self.open()
        assert self.log.found is (Found.OTHER_BOOT if power else Found.CLEAN)
        self.check(power)

    def collect_if_ended(self) -> None:
        if self.worker.reported:
            self.collect()

    def end_process(self, power: bool) -> None:
        self.disk.end, self.disk.failing = None, {}
        self.disk.space = 1 << 40
        if power:
            self.disk.cut_power()
            self.boot()

    def check(self, power: bool) -> None:
        """Compare what the log has with what it must have."""
        assert self.safe >= self.log.safe <= self.log.read <= self.log.sent <= self.log.appended
        assert self.log.synced == self.log.appended
        assert self.ghosts.issuperset(range(self.log.synced, self.durable))
        found = {}
        reader = self.log.reader(0)
        while (record := reader.peek()) is not None:
            found[reader.number] = record
            reader.advance()
        durable = range(self.safe, self.durable)
        for number in self.records.keys() & set(durable) - self.ghosts:
            assert found[number] == self.records[number]
        for number, record in found.items():
            assert record not in self.banned
            assert record in self.given_up or record == self.records[number]
        for gap in self.log.gaps:
            missing = set(range(gap.first, gap.next)) - self.ghosts - self.missing
            assert not missing & found.keys()
            assert min(missing, default=self.durable) >= self.durable
            self.missing |= missing
        # A failed commit's records can come back if no later one succeeds before ackd is killed.
        # Nothing was acknowledged from them. A power cut can take them away again.
        back = {number for number, record in found.items() if record in self.given_up}
        self.ghosts = set() if power else self.ghosts | back
        self.given_up.difference_update(found.values())
        self.records, self.durable = found, self.log.synced
        self.log.set_recovered()


TestLogSchedule = LogSchedule.TestCase
TestLogSchedule.settings = settings(
    max_examples=5000 if LONG_FORM else 300,
    stateful_step_count=100 if LONG_FORM else 50,
    derandomize=not LONG_FORM,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)
