"""Fixtures of the tests in booted Debian systems."""

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.obstacle import obstacle

from .support.base_root import Release
from .support.campaign import LONG, CampaignTable, long_or_short
from .support.install import BIND, install
from .support.machine import DeadlineError, Machine, boot
from .support.workshop import Versions, versions_in

LONGEST_TEST = long_or_short(3000, 1200)  # seconds


class ByMachine(LoadScopeScheduling):  # type: ignore[misc] # xdist has no types
    """Gives the tests of one module and release to one worker: they share a machine."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        return next((f"{module} {r.value}" for r in Release if r.value in test), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByMachine:
    """Distribute the tests over the workers by `ByMachine`."""
    return ByMachine(config, log)


@pytest.fixture(scope="session", autouse=True)
def machines() -> None:
    """Skip all tests here, by name, on a host that can't boot systems."""
    if obstacle():
        pytest.skip(f"no namespaces: {obstacle()}")


@pytest.fixture(scope="session", params=list(Release), ids=lambda release: str(release.value))
def release(request: pytest.FixtureRequest) -> Release:
    """Each supported release; the session scope orders the tests by release."""
    chosen: Release = request.param
    return chosen


@pytest.fixture(scope="module")
def machine(release: Release) -> Iterator[Machine]:
    """A booted system of each release; every module gets a new one."""
    with boot(release) as machine:
        yield machine


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    """A machine with the ackd of this checkout installed and not started."""
    install(machine)
    return machine


@pytest.fixture
def server(installed: Machine) -> Iterator[Machine]:
    """A machine on which ackd has just been started, and listens on the machine's address."""
    installed.put("/etc/ackd.yaml", BIND)
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.run("systemctl", "stop", "ackd")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """The packages of each version, built once for all workers."""
    own = tmp_path_factory.getbasetemp()
    return versions_in(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(scope="session")
def table() -> Iterator[CampaignTable]:
    """The table of results; long campaigns write it to RESULTS.md."""
    results = CampaignTable()
    yield results
    if LONG:
        results.write()


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Fail a test that takes too long, for example one that reads a pipe without a writer."""

    def fail(number: int, frame: FrameType | None) -> None:
        raise DeadlineError(f"the test took over {LONGEST_TEST} s")

    before = signal.signal(signal.SIGALRM, fail)
    signal.alarm(LONGEST_TEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
