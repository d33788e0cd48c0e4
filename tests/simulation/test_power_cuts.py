"""The log on a simulated disk: what was synced outlives power cuts, crashes and errors."""

import errno
import os
from contextlib import suppress
from itertools import count
from random import Random

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.storage import Found, LogError
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
    commit has succeeded, and those of them that are `erased` only after a power cut. `ghosts` are
    those that have come back without a power cut: the disk may not have them. `banned` must never
    come back. `missing` are the numbers of the gaps so far.
    """

    @initialize(seed=st.integers(0, 2**32), block=st.sampled_from([512, 4096]))
    def begin(self, seed: int, block: int) -> None:
        self.boots = count(1)
        self.ids = count(1)
        self.disk = SimulatedDisk(Random(seed), block)
        self.records: dict[int, bytes] = {}
        self.given_up: set[bytes] = set()
        self.banned: set[bytes] = set()
        self.erased: set[bytes] = set()
        self.failures = 0  # of the disk, when the latest commit began
        self.ghosts: set[int] = set()
        self.missing: set[int] = set()
        self.unrecovered: Found | None = None  # what the log has found, until that is recovered
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

    @rule()
    def commit(self) -> None:
        self.failures = self.failures if self.log.committing else self.disk.failures
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
            given_up = {self.records.pop(number) for number in lost}
            self.given_up |= given_up
            if self.disk.failures == self.failures + 1:  # that of the commit, none after it
                self.erased |= given_up
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
        self.open()
        self.check(power)

    @rule(power=st.booleans())
    def close(self, power: bool) -> None:
        self.disk.failing = {}
        self.collect_if_ended()
        self.log.close(clean=True)
        if power:
            self.end_process(power)
        self.open()
        self.check(power, clean=True)

    def collect_if_ended(self) -> None:
        if self.worker.reported:
            self.collect()

    def end_process(self, power: bool) -> None:
        self.disk.end, self.disk.failing = None, {}
        self.disk.space = 1 << 40
        if power:
            self.disk.cut_power()
            self.boot()

    @precondition(lambda self: self.unrecovered)
    @rule()
    def recover(self) -> None:
        self.disk.failing = {}
        self.log.set_recovered()
        self.worker.work_off()
        self.collect_if_ended()
        self.unrecovered = None

    def check(self, power: bool, clean: bool = False) -> None:
        """Compare what the log has with what it must have."""
        if power or self.unrecovered is Found.OTHER_BOOT:
            self.unrecovered = Found.OTHER_BOOT
        elif not clean:
            self.unrecovered = Found.SAME_BOOT
        assert self.log.found is (self.unrecovered or Found.CLEAN)
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
            assert power or record not in self.erased
            assert record in self.given_up or record == self.records[number]
        for gap in self.log.gaps:
            missing = set(range(gap.first, gap.next)) - self.ghosts - self.missing
            assert not missing & found.keys()
            assert min(missing, default=self.durable) >= self.durable
            self.missing.update(range(gap.first, gap.next))
        # A failed commit's records can come back if no later one succeeds before ackd is killed.
        # Nothing was acknowledged from them. A power cut can take them away again.
        back = {number for number, record in found.items() if record in self.given_up}
        self.ghosts = set() if power else self.ghosts | back
        self.given_up.difference_update(found.values())
        self.records, self.durable = found, self.log.synced


TestLogSchedule = LogSchedule.TestCase
TestLogSchedule.settings = settings(
    max_examples=5000 if LONG_FORM else 300,
    stateful_step_count=100 if LONG_FORM else 50,
    derandomize=not LONG_FORM,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
)


@pytest.mark.parametrize("seed", range(20))
def test_what_a_crash_leaves_is_synced_before_earlier_records_are_recovered(seed: int) -> None:
    disk = SimulatedDisk(Random(seed), 512)

    def opened(boot: bytes) -> tuple[Log, SimulatedWorker]:
        worker = SimulatedWorker()
        log = Log(SmallFiles(disk, SEGMENTS * SEGMENT, worker, boot * 16))
        worker.work_off()
        return log, worker

    opened(b"1")[0].close(clean=False)
    log, worker = opened(b"2")
    assert log.found is Found.OTHER_BOOT
    assert log.append(b"x" * 3000)
    log.commit()
    disk.end = 2  # the file is opened and written, and not synced
    with pytest.raises(PowerCutError):
        worker.work_off()
    disk.end = None
    assert opened(b"2")[0].synced == 1
    disk.cut_power()
    assert list(opened(b"3")[0].records(0, 9)) == [b"x" * 3000]


@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EROFS])
@pytest.mark.parametrize("ending", ["clean", "killed", "power cut"])
def test_an_error_of_the_disk_at_a_start_loses_nothing(ending: str, error: int) -> None:
    disk = SimulatedDisk(Random(ending), 512)
    records = [(b"%d " % number).ljust(700, b"x") for number in range(20)]
    worker = SimulatedWorker()
    log = Log(SmallFiles(disk, SEGMENTS * SEGMENT, worker, bytes(16)))
    for record in records:
        assert log.append(record)
    log.commit()
    worker.work_off()
    assert log.collect() is None
    if ending == "clean":
        log.close(clean=True)
    if ending == "power cut":
        disk.cut_power()
    boot = bytes(16) if ending != "power cut" else b"1" * 16
    for operation in count():
        disk.failing = {operation: error}
        try:
            log = Log(SmallFiles(disk, SEGMENTS * SEGMENT, SimulatedWorker(), boot))
        except LogError as problem:
            assert problem.errno == error  # noqa: PT017
            continue
        too_late = max(disk.failing, default=-1) >= 0
        disk.failing = {}
        assert list(log.records(0, 99)) == records
        if too_late:
            break
    assert operation > 5
