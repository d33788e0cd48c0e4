"""A connection, and the waiting for its server."""

import select
from math import inf
from time import monotonic
from typing import Generic

from ackd.client.addresses import Destination, Order
from ackd.client.end import End, EndKind
from ackd.client.errors import Unexpected, UnexpectedReplyError, error_of
from ackd.client.opening import finished, open_transport
from ackd.client.transport import Transport
from ackd.client.waiting import milliseconds, run
from ackd.protocol import Reply, TagT, Violation

# Seconds for the end of a connection whose replies have all come. An ackd closes at once; something
# between may keep the connection open.
_END = 1.0


class Session(Generic[TagT]):
    """Waits for the server at the other end of a greeted transport.

    The caller offers payloads to the `transport`. `advance` sends and receives what can be at
    once, and `wait` waits until there is something to do.
    """

    def __init__(self, transport: Transport[TagT]) -> None:
        self.transport = transport
        self._left = monotonic()  # when the last wait ended

    def advance(self) -> list[tuple[TagT, Reply]]:
        """Send and receive what can be at once; return the tag and the reply of each payload.

        Raises RejectedError, UnknownOutcomeError or UnexpectedReplyError when the connection has
        ended; replies that have come before are returned first.
        """
        transport = self.transport
        transport.flush()
        answers = transport.receive()
        if transport.ended and not answers:
            raise error_of(transport.ended)
        return answers

    def wait(self, source: int = -1, most: float = inf) -> bool:
        """Wait until `advance` has something to do, or the descriptor `source` is readable.

        Return whether `source` is. It takes `most` seconds at most. Raises what `advance` does,
        also when a reply is overdue.
        """
        transport = self.transport
        # Only the time in here counts: a caller that is busy between two waits does not wait.
        transport.waiting_since += monotonic() - max(self._left, transport.waiting_since)
        if transport.ended:
            raise error_of(transport.ended)
        poll = select.poll()
        poll.register(transport, select.POLLIN | select.POLLOUT * transport.writing)
        if source >= 0:
            poll.register(source, select.POLLIN)
        ready = dict(poll.poll(milliseconds(min(most, transport.deadline - monotonic()))))
        self._left = monotonic()
        if transport.fileno() not in ready:
            transport.expire()
            if transport.ended:
                raise error_of(transport.ended)
        return source in ready

    def finish(self) -> None:
        """End the sending, with no reply due, and wait until the server has closed.

        An ackd closes without a further word; then each reply was that to its payload. A server
        that has greeted may also stay silent. Raises UnexpectedReplyError.
        """
        transport = self.transport
        if transport.greeted:
            transport.timeout = min(transport.timeout, _END)
        end = run(finished(transport))
        if end.how in (EndKind.UNEXPECTED, EndKind.REJECTED):
            raise error_of(end)
        if end.line:  # a further reply whose end has not come
            raise error_of(End(EndKind.UNEXPECTED, violation=Violation.EXCESS_REPLY, line=end.line))
        if end.how is not EndKind.CLOSED and not transport.greeted:
            raise UnexpectedReplyError(end, Unexpected.LAST)

    def close(self) -> list[TagT]:
        """Close the connection; return the tags of the payloads without a reply."""
        return self.transport.close()


def open_session(destination: Destination, order: Order | None = None) -> Session[TagT]:
    """Return a greeted session; raises what `open_transport` raises."""
    transport: Transport[TagT] = run(open_transport(destination, order=order))
    return Session(transport)
