"""Three machines become a fleet by the commands of ackd-fleet(7), and lose nothing under load."""

import re
from collections.abc import Iterator

import pytest

from .support.base_root import Release
from .support.fleet import NAMES, Fleet, boot_fleet
from .support.install import put_packages
from .support.machine import wait_until
from .support.workshop import Versions

COLLECTED = ("journalctl", "--directory=/var/log/journal/remote", "--output=cat", "--quiet")
STEPS = (
    "2. The collector",
    "3. The uploaders",
    "4. The nodes and the balancer",
)


@pytest.fixture(scope="module")
def fleet(
    release: Release, packages: Versions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three machines on which an administrator has followed the page."""
    with boot_fleet(release, tmp_path_factory.mktemp("fleet")) as fleet:
        for machine in fleet.machines.values():
            put_packages(machine, packages.first)
        fleet.follow("1. Names and certificates")
        copy_certificates(fleet)
        for step in STEPS:
            fleet.follow(step)
        yield fleet


def copy_certificates(fleet: Fleet) -> None:
    """Do what the page describes: copy the files from the first machine to each machine."""
    directory = "/etc/ssl/fleet"
    for name in NAMES:
        for source, target in (("ca.pem", "ca.pem"), (f"{name}.pem", "own.pem")):
            content = fleet.run("cat", f"{directory}/{source}").stdout
            fleet.machines[name].put(f"{directory}/{target}", content, 0o600)


def await_collected(fleet: Fleet, *payloads: str) -> None:
    """Wait until the collector has these payloads."""

    def collected() -> bool:
        shown = fleet.machines["three"].run(*COLLECTED).stdout.splitlines()
        return {f"Buffer: {payload}" for payload in payloads} <= set(shown)

    wait_until(f"the collector has {payloads}", collected, 60)


def test_the_page_makes_a_fleet_of_three_machines(fleet: Fleet) -> None:
    await_collected(fleet, "hello from two", "hello, without TLS", "hello, over TLS")


def test_only_ackds_journal_leaves_a_node(fleet: Fleet) -> None:
    fleet.machines["two"].run("logger", "a secret of the machine")
    fleet.machines["two"].run("ackctl", "send", "--host", "two", "--port", "10018", "after it")
    await_collected(fleet, "after it")
    shown = fleet.machines["three"].run(*COLLECTED, "--output=json", "--output-fields=_COMM").stdout
    assert set(re.findall(r'"_COMM" ?: ?"(.*?)"', shown)) <= {"ackd", "systemd-journal"}


# TLS to the nodes


def test_the_balancer_can_pass_tls_through(fleet: Fleet) -> None:
    fleet.follow("TLS PASSED THROUGH")
    await_collected(fleet, "hello, over TLS to a node")
