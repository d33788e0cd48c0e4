"""Builds all base systems in parallel, before the tests need them; runs as a program, as root."""

import os
from concurrent.futures import ThreadPoolExecutor

from .base_root import Release, base_root
from .workshop import TOOLS

BASES: tuple[tuple[Release, tuple[str, ...]], ...] = (
    *((release, ()) for release in Release),
    (Release.TRIXIE, TOOLS),
)


def build(release: Release, tools: tuple[str, ...]) -> None:
    """Build a base system if it does not exist yet."""
    with base_root(release, tools):
        pass


if __name__ == "__main__" and os.geteuid() == 0:
    with ThreadPoolExecutor() as pool:
        list(pool.map(build, *zip(*BASES, strict=True)))
