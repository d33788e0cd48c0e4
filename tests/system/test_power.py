"""Power cuts: which acks outlive them, in virtual machines whose power the tests cut."""

import random
import secrets
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.power.clients import clients_of, compare_runs
from tests.power.image import JOURNAL_PORT, make_image
from tests.power.initramfs import make_kernel
from tests.power.machine import Hardware

from .support.base_root import Release, kernel_root
from .support.campaign import CampaignTable
from .support.workshop import Versions


@pytest.fixture(scope="module")
def original(release: Release, packages: Versions) -> Iterator[Hardware]:
    """A machine that has never had power."""
    with tempfile.TemporaryDirectory() as name, kernel_root(release) as root:
        directory = Path(name)
        kernel = make_kernel(root, directory)
        make_image(release, packages.first, directory / "image")
        yield Hardware(release, kernel, directory / "image", (JOURNAL_PORT,))


@pytest.fixture
def hardware(original: Hardware) -> Iterator[Hardware]:
    """A machine of the test's own."""
    image = original.image.with_name("copy")
    subprocess.run(["cp", "--sparse=always", original.image, image], check=True)
    yield Hardware(original.release, original.kernel, image, original.ports)
    image.unlink()


@pytest.fixture
def chance() -> random.Random:
    """A source of chance whose seed is in the report of a failure."""
    seed = secrets.randbits(32)
    print(f"seed {seed}")
    return random.Random(seed)


def test_a_power_cut_loses_acks_that_did_not_wait_for_the_disk(
    hardware: Hardware, chance: random.Random, table: CampaignTable
) -> None:
    with hardware.power_on(chance) as machine:
        machine.await_greeting(JOURNAL_PORT)
        with clients_of(machine, JOURNAL_PORT, "journal", clients=4, depth=8) as clients:
            clients.await_acks(500)
            machine.cut_power()
            reports = {"journal": clients.finish()}
    with hardware.power_on(chance) as machine:
        machine.await_boot()
        result = compare_runs(machine, reports)["journal"]
        table.add(machine, "power cut, durability: journal", result)
    assert result.missing > 0
