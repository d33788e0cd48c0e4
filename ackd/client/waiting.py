"""Steps: work that waits now and then, so that one thread can do several at once.

A step is a generator. If it can't go on, it yields an `Awaited`, and is resumed when the descriptor
is ready or the deadline has passed, or earlier. Its value is the result. `run` does one step and
waits for it; a loop with a selector can do many.
"""

import select
from collections.abc import Generator
from math import inf
from time import monotonic
from typing import NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")


class Awaited(NamedTuple):
    """What a step waits for: a descriptor, also for writing or not, until a time of monotonic()."""

    descriptor: int
    writing: bool
    deadline: float


Steps: TypeAlias = Generator[Awaited, None, T]


def run(steps: Steps[T]) -> T:
    """Do a step to its end; raises what the step raises."""
    try:
        while True:
            wait = next(steps)
            poll = select.poll()
            poll.register(wait.descriptor, select.POLLIN | select.POLLOUT * wait.writing)
            poll.poll(milliseconds(wait.deadline - monotonic()))
    except StopIteration as end:
        result: T = end.value
        return result
    finally:
        steps.close()


def milliseconds(seconds: float) -> float | None:
    """Return a time as poll() takes it: None for ever."""
    return None if seconds == inf else max(0.0, seconds * 1000)
