"""A common bound on the unfinished lines of all connections."""

from collections import OrderedDict

from ackd.records import Reason
from ackd.server.connection import Connection, Wait

# Bytes of all unfinished lines together. The longest of 4,096 connections would have 512 MiB.
BOUND = 32 * 1024 * 1024


class UnfinishedLines:
    """Counts the bytes of unfinished lines; beyond the bound, it ends the oldest one's connection.

    The line that has been on its way for the longest time is the least likely to be completed.
    Its connection is ended, because the reply to a line can't be sent while others are owed.
    """

    def __init__(self) -> None:
        self.total = 0  # bytes
        self._sizes: OrderedDict[Connection, int] = OrderedDict()

    def note(self, connection: Connection, received: int) -> None:
        """Note a connection's unfinished line, now that so many bytes have been received."""
        size, before = connection.protocol.unfinished, self._sizes.get(connection, 0)
        if not size and not before:
            return
        self.total += size - before
        if size != before + received:  # the previous line has ended
            self._sizes.pop(connection, None)
        if size:
            self._sizes[connection] = size

    def forget(self, connection: Connection) -> None:
        """Forget a connection that is closed or no longer read."""
        self.total -= self._sizes.pop(connection, 0)

    def enforce(self) -> None:
        """End connections until the bound is kept; to be called at the end of a round."""
        if self.total <= BOUND:
            return
        for connection in list(self._sizes):
            if self.total > BOUND and connection.wait is Wait.READ:
                self.forget(connection)
                connection.finish(Reason.UNFINISHED)
