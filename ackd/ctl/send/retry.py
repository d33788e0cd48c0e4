"""Whether, and when, to try once more."""

from ackd.client.client import ClientError, NotAckdError, TurnedAwayError

_FIRST, _LONGEST = 0.2, 10.0  # seconds
_NOT_ALLOWED = b"not allowed"


class Retry:
    """So many tries in a row, with a pause that grows; a reply begins them anew."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.tries = 0

    def replied(self) -> None:
        """Note that it works again."""
        self.tries = 0

    def pause(self, error: ClientError) -> float | None:
        """Return for how many seconds to wait after this error, or None to give up."""
        if self.tries >= self.most or not _may_pass(error):
            return None
        self.tries += 1
        return min(_FIRST * float(1 << min(self.tries - 1, 10)), _LONGEST)


def _may_pass(error: ClientError) -> bool:
    """Whether it may go otherwise next time: what is full now may have room then."""
    if isinstance(error, TurnedAwayError):
        return _NOT_ALLOWED not in error.said
    return not isinstance(error, NotAckdError)
