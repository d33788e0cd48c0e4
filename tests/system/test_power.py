"""Acks outlive power cuts: virtual machines lose their power, boot again, and recover."""

import random
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from ackd.records import Kind
from tests.power.clients import compare_runs, total
from tests.power.cuts import (
    Cut,
    History,
    cut_during_recovery,
    cut_under_load,
    cut_with_a_torn_header,
    torn_files,
)
from tests.power.image import DISK_PORT, JOURNAL_PORT, make_image
from tests.power.initramfs import make_kernel
from tests.power.machine import Hardware, VirtualMachine

from .support.audit import assert_promise_kept
from .support.base_root import Release, kernel_root
from .support.campaign import LONG, CampaignTable, long_or_short
from .support.machine import wait_until
from .support.workshop import Versions

RECOVERED = f"MESSAGE_ID={Kind.REPEATED.value}"
# A cut during the recovery has more effect after a cut under load.
CUTS: list[Cut] = long_or_short(
    [cut_under_load, cut_during_recovery, cut_with_a_torn_header, cut_during_recovery] * 3,
    [cut_under_load],
)


@pytest.fixture(scope="module")
def hardware(release: Release, packages: Versions) -> Iterator[Hardware]:
    """A machine that has never had power."""
    with tempfile.TemporaryDirectory() as name, kernel_root(release) as root:
        directory = Path(name)
        kernel = make_kernel(root, directory)
        make_image(release, packages.first, directory / "image")
        yield Hardware(release, kernel, directory / "image", (DISK_PORT, JOURNAL_PORT))


@pytest.fixture
def chance() -> random.Random:
    """A source of chance whose seed is in the report of a failure."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def await_recovery(machine: VirtualMachine) -> None:
    """Wait until ackd has compared its log with the journal, and recorded what was missing."""
    machine.await_greeting(DISK_PORT)
    query = ("journalctl", "--quiet", "--boot", RECOVERED)
    wait_until("ackd has recovered", lambda: machine.run(*query).stdout, 300)


def test_acks_outlive_power_cuts(
    hardware: Hardware, chance: random.Random, table: CampaignTable
) -> None:
    """Each boot recovers from the cut before, and meanwhile clients already send."""
    past = History()
    for cut in CUTS:
        began, slow = monotonic(), LONG and chance.random() < 0.5
        block_size = chance.choice((512, 4096))
        with hardware.power_on(chance, block_size=block_size, slow=slow) as machine:
            cut(machine, chance, past)
        print(f"{cut.__name__}: {past.cuts[-1]}, {slow=}, {monotonic() - began:.0f} s")
    with hardware.power_on(chance) as machine:
        await_recovery(machine)
        audits = compare_runs(machine, past.durable)
        print("missing of each run of clients:", [audit.missing for audit in audits.values()])
        result = total(audits)
        lost = total(compare_runs(machine, past.volatile)).missing
        torn = torn_files(machine)
        table.add(machine, f"{len(CUTS)} power cuts", result, notes(past, lost, torn))
    assert_promise_kept(result)
    assert lost > 0
    assert torn > 0 or cut_with_a_torn_header not in CUTS


def notes(past: History, lost: int, torn: int) -> str:
    kept = sum(cut.kept for cut in past.cuts)
    unflushed = kept + sum(cut.lost for cut in past.cuts)
    return (
        f"the disks kept {kept} of {unflushed} unflushed blocks;"
        f" torn files of the journal: {torn};"
        f" acks that did not wait for the disk: {10 * len(past.volatile)}, lost: {lost}"
    )
