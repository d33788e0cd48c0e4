"""Builds all base systems in parallel, before the tests need them; runs as a program, as root."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path

from tests.bench.places import DURABLE_SERVERS, own_release
from tests.support.obstacle import obstacle

from .base_root import (
    BALANCER,
    CERTIFICATE_TOOLS,
    EXPORTER,
    FLEET,
    LOG_DAEMONS,
    Release,
    base_root,
    kernel_root,
    minimal_root,
)
from .workshop import TOOLS

BASES: tuple[AbstractContextManager[Path], ...] = (
    *(base_root(release) for release in Release),
    *(minimal_root(release) for release in Release),
    *(kernel_root(release) for release in Release),
    *(base_root(release, CERTIFICATE_TOOLS) for release in Release),
    base_root(Release.TRIXIE, TOOLS),
    *(base_root(release, packages) for release, packages in LOG_DAEMONS.items()),
    *(base_root(release, BALANCER) for release in Release),
    base_root(Release.TRIXIE, EXPORTER),
    *(base_root(release, FLEET) for release in Release),
    base_root(own_release(), DURABLE_SERVERS),
)


def build(base: AbstractContextManager[Path]) -> None:
    """Build a base system if it does not exist yet."""
    with base:
        pass


if __name__ == "__main__" and not obstacle():
    with ThreadPoolExecutor() as pool:
        list(pool.map(build, BASES))
