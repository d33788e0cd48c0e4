"""Fixtures of the tests on real Debian systems."""

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.obstacle import obstacle

from .base_root import Release
from .campaign import far
from .installed import HERE, install
from .machine import DeadlineError, Machine, boot
from .workshop import Versions, versions_in

LONGEST_TEST = far(3000, 600)  # seconds


class ByMachine(LoadScopeScheduling):  # type: ignore[misc] # it has no types
    """Has tests that share a machine, those of a module and a release, run by one worker."""

    def _split_scope(self, nodeid: str) -> str:
        module, _, test = nodeid.partition("::")
        return next((f"{module} {r.value}" for r in Release if r.value in test), module)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ByMachine:
    """Have several workers share the tests so."""
    return ByMachine(config, log)


@pytest.fixture(scope="session", params=list(Release), ids=lambda release: str(release.value))
def release(request: pytest.FixtureRequest) -> Release:
    """Each supported release; being of the session, pytest runs all tests of one, then the next."""
    if obstacle():
        pytest.skip(f"no namespaces: {obstacle()}")
    chosen: Release = request.param
    return chosen


@pytest.fixture(scope="module")
def machine(release: Release) -> Iterator[Machine]:
    """A booted system of each release, fresh for every module: what one installs, none inherits."""
    with boot(release) as machine:
        yield machine


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    """One on which ackd is, from this checkout, and nothing is started."""
    install(machine)
    return machine


@pytest.fixture
def served(installed: Machine) -> Iterator[Machine]:
    """A machine on which ackd has just been started, on the address of the machine."""
    installed.put("/etc/ackd.yaml", HERE)
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.run("systemctl", "stop", "ackd")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Versions:
    """The packages of each version, made once for all tests, whichever worker runs them."""
    if obstacle():
        pytest.skip(f"no namespaces: {obstacle()}")
    own = tmp_path_factory.getbasetemp()
    return versions_in(own.parent if "PYTEST_XDIST_WORKER" in os.environ else own)


@pytest.fixture(autouse=True)
def deadline() -> Iterator[None]:
    """Fail a test that waits too long: reading a pipe, say, whose writer has nothing to say."""

    def late(number: int, frame: FrameType | None) -> None:
        raise DeadlineError(f"the test took over {LONGEST_TEST} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(LONGEST_TEST)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)
