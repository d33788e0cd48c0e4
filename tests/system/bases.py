"""Builds the base systems side by side, before the tests need them: `python -m`, as root."""

import os
from concurrent.futures import ThreadPoolExecutor

from .base_root import Release, base_root
from .workshop import TOOLS

BASES: tuple[tuple[Release, tuple[str, ...]], ...] = (
    *((release, ()) for release in Release),
    (Release.TRIXIE, TOOLS),
)


def build(release: Release, tools: tuple[str, ...]) -> None:
    """Build one, unless it is there."""
    with base_root(release, tools):
        pass


if __name__ == "__main__" and os.geteuid() == 0:
    with ThreadPoolExecutor() as pool:
        list(pool.map(build, *zip(*BASES, strict=True)))
