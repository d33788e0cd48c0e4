"""Replies as the client gets them."""

from collections.abc import Iterable

from ackd.protocol import Run


def in_bytes(runs: Iterable[Run]) -> bytes:
    """Return runs of equal lines as bytes."""
    return b"".join(line * count for line, count in runs)
