"""A disk with a volatile write cache, whose power can be cut.

The image file has what is on the medium. A completed write is in the cache until a flush. At a
power cut the cache is lost, but a disk can have written any part of it before, in any order. So of
each block that was not flushed, chance decides whether the medium has it.
"""

import os
import random
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class PowerCut:
    """The fate of the blocks that were in the cache when the power was cut."""

    kept: int
    lost: int


class VirtualDisk:
    """A disk over an image file; one thread at a time may use it.

    A power cut tears no block: the medium has a whole version of each. `block_size` is in bytes.
    """

    def __init__(self, image: Path, chance: random.Random, block_size: int = 4096) -> None:
        self.size = image.stat().st_size
        self._chance = chance
        self._block_size = block_size
        self._cache: dict[int, bytes] = {}
        self._medium = os.open(image, os.O_RDWR | os.O_CLOEXEC)

    def close(self) -> None:
        os.close(self._medium)

    def read(self, offset: int, length: int) -> bytes:
        """Return bytes of the latest versions, from the cache or from the medium."""
        first, end = self._blocks(offset, length)
        if self._cache.keys().isdisjoint(range(first, end)):
            return os.pread(self._medium, length, offset)
        blocks = b"".join(self._block(number) for number in range(first, end))
        skipped = offset - first * self._block_size
        return blocks[skipped : skipped + length]

    def write(self, offset: int, data: bytes) -> None:
        """Write to the cache. The medium may have got an earlier version from the cache before."""
        first, end = self._blocks(offset, len(data))
        before = offset - first * self._block_size
        after = end * self._block_size - offset - len(data)
        if before:
            data = self._block(first)[:before] + data
        if after:
            data += self._block(end - 1)[-after:]
        for index, number in enumerate(range(first, end)):
            if number in self._cache and self._chance.random() < 0.5:
                self._store(number)
            start = index * self._block_size
            self._cache[number] = data[start : start + self._block_size]

    def flush(self) -> None:
        """Write everything in the cache to the medium."""
        for number in list(self._cache):
            self._store(number)

    def cut_power(self, share: float | None = None) -> PowerCut:
        """Lose the cache, but for blocks that are on the medium by chance.

        `share` is the probability for a block, 0 to 1; by default it is random too.
        """
        share = self._chance.random() if share is None else share
        unflushed = list(self._cache)
        kept = [number for number in unflushed if self._chance.random() < share]
        for number in kept:
            self._store(number)
        self._cache.clear()
        return PowerCut(len(kept), len(unflushed) - len(kept))

    def _blocks(self, offset: int, length: int) -> tuple[int, int]:
        """Return the number of the first block of a range, and of the first block after it."""
        return offset // self._block_size, -(-(offset + length) // self._block_size)

    def _block(self, number: int) -> bytes:
        start = number * self._block_size
        return self._cache.get(number) or os.pread(self._medium, self._block_size, start)

    def _store(self, number: int) -> None:
        os.pwrite(self._medium, self._cache.pop(number), number * self._block_size)
