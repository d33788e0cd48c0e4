"""The queue before the journal: which connection has payloads recorded next."""

from collections import OrderedDict
from collections.abc import Iterator, Sized
from itertools import chain
from time import monotonic

from ackd.journal.recorder import Recorder
from ackd.server.budget import Budget
from ackd.server.connection import Connection, Wait
from ackd.server.durations import RecentDurations

# Turns given at least before the loop goes on, where enough connections wait.
_LEAST_TURNS = 16


class JournalQueue:
    """Gives turns to the connections that wait for the journal.

    A connection waits for its first turn if it has had none since it sent something. A connection
    that has had a turn, and has more to record, waits for its next turn. First and next turns
    alternate: a client with little to record waits for a few of the clients with much, not for all,
    and neither kind of turn can starve the other (RFC 8290, 4.2).

    Connections that wait for the same kind of turn have it in the order in which they came. All
    first turns are given before the loop goes on, and while a connection waits for its first turn,
    no other connection is read: otherwise some clients would wait far longer than others.
    """

    def __init__(self, recorder: Recorder, budget: Budget) -> None:
        self._recorder = recorder
        self._budget = budget
        self.waits = RecentDurations()  # for a turn, or in vain
        # Since when each connection waits.
        self._first_turns: OrderedDict[Connection, float] = OrderedDict()
        self._next_turns: OrderedDict[Connection, float] = OrderedDict()

    @property
    def first_turns(self) -> Sized:
        """The connections that wait for their first turn; always the same object."""
        return self._first_turns

    @property
    def can_go_on(self) -> bool:
        """Whether a connection waits although the journal takes payloads."""
        return bool(self._first_turns or self._next_turns) and not self._recorder.must_wait

    def __len__(self) -> int:
        return len(self._first_turns) + len(self._next_turns)

    def __iter__(self) -> Iterator[Connection]:
        return chain(self._first_turns, self._next_turns)

    def join(self, connection: Connection, first: bool) -> None:
        """Let a connection wait, for its `first` turn or for its next."""
        (self._first_turns if first else self._next_turns)[connection] = monotonic()
        self._budget.set_waiting(len(self))

    def leave(self, connection: Connection) -> None:
        """Remove a connection that now waits for something else."""
        now = monotonic()
        since = self._first_turns.pop(connection, now)
        since = self._next_turns.pop(connection, since)
        self.waits.add(now - since, now)
        self._budget.set_waiting(len(self))

    def give_turns(self) -> None:
        """Give as many turns as are due in one round, while the journal takes payloads."""
        if not self.can_go_on:
            return
        next_turns = min(len(self._next_turns), _LEAST_TURNS) // 2 + 1
        for _ in range(max(len(self._first_turns), next_turns)):
            for queue in (self._first_turns, self._next_turns):
                if queue and not self._recorder.must_wait:
                    self._give_turn(queue)

    def _give_turn(self, queue: OrderedDict[Connection, float]) -> None:
        connection = next(iter(queue))
        connection.on_turn()
        # A connection whose turn the journal has cut short stays the first.
        if connection.wait is Wait.JOURNAL and not self._recorder.must_wait:
            now = monotonic()
            self.waits.add(now - queue.pop(connection), now)
            self._next_turns[connection] = now
