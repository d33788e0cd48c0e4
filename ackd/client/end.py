"""How a connection can end, as facts. The sentences are in `errors`."""

from enum import Enum
from typing import NamedTuple

from ackd.protocol import Violation


class EndKind(Enum):
    """Why nothing more can be exchanged over a connection."""

    CLOSED = "closed"  # by the server
    RESET = "reset"  # by the server, or by something in between
    BROKEN = "broken"  # another error of the socket
    TIMED_OUT = "timed out"  # something was due and did not come
    REJECTED = "rejected"  # the server said `not connect`
    UNEXPECTED = "unexpected"  # the server sent what no ackd sends


class End(NamedTuple):
    """How a connection ended.

    `errno` belongs to BROKEN, `seconds` (the length of the wait) to TIMED_OUT, and `violation` to
    UNEXPECTED. `line` is the rejection, or what had come of a line whose end did not come.
    """

    how: EndKind
    errno: int = 0
    seconds: float = 0.0
    violation: Violation | None = None
    line: bytes = b""


def end_of(error: OSError, line: bytes) -> End:
    """Return how a connection ended whose socket raised this error."""
    if isinstance(error, BrokenPipeError):
        return End(EndKind.CLOSED, line=line)
    if isinstance(error, ConnectionResetError):
        return End(EndKind.RESET, line=line)
    return End(EndKind.BROKEN, errno=error.errno or 0, line=line)
