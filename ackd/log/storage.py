"""Where the log's segments are: in memory or in files."""

from collections.abc import Iterable
from enum import Enum, auto
from typing import NamedTuple, Protocol

from ackd.log.format import Header


class LogError(Exception):
    """The log can't be used: `place` names the log or its directory, `problem` says why.

    `errno` is the error of the operating system, or None.
    """

    def __init__(self, place: str, problem: str, errno: int | None = None) -> None:
        super().__init__(f"{place}: {problem}")
        self.place = place
        self.problem = problem
        self.errno = errno


class Found(Enum):
    """What an ackd finds when it opens the log."""

    NEW = auto()  # no log
    CLEAN = auto()  # the previous ackd has closed the log, since this machine was booted
    SAME_BOOT = auto()  # the previous ackd has not closed the log
    OTHER_BOOT = auto()  # this machine was booted since then; a power cut may be the reason


# Named tuples, here and below: the decorator `dataclass` would delay each start noticeably.
class Gap(NamedTuple):
    """Records that can't be read: from `first` to the one before `next`."""

    first: int
    next: int


class Segment:
    """One use of a segment. All its records are before number `end`, and before byte `used`.

    `view` has its bytes while they are in memory. `written` is how many of them commits have been
    given. `slot` is the place of its bytes, known to the storage only. A `spoiled` segment belongs
    to a failed commit: its place is not used again.
    """

    __slots__ = ("end", "header", "slot", "spoiled", "used", "view", "written")

    def __init__(
        self, header: Header, view: memoryview | None, end: int, used: int, slot: int = -1
    ) -> None:
        self.header = header
        self.view = view
        self.end = end
        self.used = used
        self.written = 0
        self.slot = slot
        self.spoiled = False


class Part(NamedTuple):
    """Bytes of a segment, which a commit must write."""

    segment: Segment
    start: int
    data: memoryview


# The places of the cursors in `Storage.cursors`.
SENT, READ, SAFE = range(3)


class Storage(Protocol):
    """The bytes of the log. At most `limit` segments of `segment_size` bytes are in use.

    `durable` says whether records outlive the power after a commit. `cursors` are numbers that the
    next process finds again; `found` says what the storage was before. `place` names it.
    """

    place: str
    segment_size: int
    limit: int
    durable: bool
    found: Found
    cursors: memoryview

    def stored(self) -> Iterable[Segment]:
        """Return the segments that are there, in any order; `end` and `used` are not yet known."""

    def begin(self, header: Header) -> Segment:
        """Return a new segment with its header; fewer than `limit` are in use. Never blocks.

        Raises OSError if there is no room for it.
        """

    def load(self, segment: Segment) -> memoryview:
        """Return a segment's bytes. Raises OSError."""

    def free(self, segment: Segment) -> None:
        """Let other segments use this one's place. Never blocks."""

    def commit(self, parts: list[Part]) -> None:
        """Begin to write, so that the parts outlive the power; never blocks."""

    @property
    def descriptors(self) -> list[int]:
        """All open descriptors."""

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a commit has ended."""

    def collect(self) -> OSError | None:
        """Return the error of the commit that has ended."""

    def set_recovered(self) -> None:
        """Let the next process not find what this one has found. Never blocks."""

    def close(self, clean: bool) -> None:
        """Close everything; for a `clean` end the next process finds Found.CLEAN."""
