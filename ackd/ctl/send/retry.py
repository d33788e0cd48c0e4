"""Whether to try once more, and when."""

from ackd.client.errors import (
    ClientError,
    NoServerError,
    RejectedError,
    TlsError,
    UnexpectedReplyError,
)
from ackd.protocol import LASTING_REASONS, NOT_CONNECT

_FIRST, _LONGEST = 0.2, 10.0  # seconds


class Retry:
    """Up to `most` tries in a row, with pauses that grow. A reply begins the count anew."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tries = 0

    def replied(self) -> None:
        """Note that the server has replied."""
        self.tries = 0

    def pause(self, error: ClientError) -> float | None:
        """Return for how many seconds to wait after this error, or None to give up."""
        if self.tries >= self.most or not _may_pass(error):
            return None
        self.tries += 1
        return min(_FIRST * float(1 << min(self.tries - 1, 10)), _LONGEST)


def _may_pass(error: ClientError) -> bool:
    """Return whether another try may succeed: a server that is full now may have room then."""
    if isinstance(error, NoServerError):
        return any(_may_pass(each) for _, each in error.failures)
    if isinstance(error, RejectedError):
        return not any(map(error.gives_reason, LASTING_REASONS))
    if isinstance(error, TlsError):
        said = error.fault.said
        if said.startswith(NOT_CONNECT):  # an ackd rejects a client before the handshake
            return _may_pass(RejectedError(said))
        return error.end is not None  # a certificate or a setting stays as it is
    return not isinstance(error, UnexpectedReplyError)
