"""Acks outlive power cuts: virtual machines lose their power, are switched on again, and recover."""

import random
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.power.clients import compare_runs, total
from tests.power.cuts import (
    Acks,
    cut_under_load,
)
from tests.power.image import DISK_PORT, JOURNAL_PORT, make_image
from tests.power.initramfs import make_kernel
from tests.power.machine import Hardware, VirtualMachine

from .support.audit import assert_promise_kept
from .support.base_root import Release, kernel_root
from .support.campaign import CampaignTable
from .support.machine import wait_until
from .support.workshop import Versions

RECOVERED = f"MESSAGE_ID={Kind.REPEATED.value}"


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
    acks = Acks()
    for cut in (cut_under_load,):
        with hardware.power_on(chance) as machine:
            cut(machine, chance, acks)
    with hardware.power_on(chance) as machine:
        await_recovery(machine)
        result = total(list(compare_runs(machine, acks.durable).values()))
        lost = total(list(compare_runs(machine, acks.volatile).values())).missing
        table.add(machine, "power cut", result, f"{acks.cuts}")
    assert_promise_kept(result)
    assert lost > 0
