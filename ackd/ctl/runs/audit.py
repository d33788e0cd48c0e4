"""Whether a run has been recorded as it was sent."""

from dataclasses import dataclass, field

from ackd.ctl.runs.payloads import Part, parse
from ackd.ctl.runs.ranges import Ranges

# Connections that may still turn out to be the run's; most of what a server gets is of no run.
_STRANGERS = 10_000


@dataclass(slots=True)
class _Connection:
    sequences: Ranges = field(default_factory=Ranges)
    furthest: dict[str, int] = field(default_factory=dict)  # the highest number, in each journal
    altered: int = 0


class Audit:
    """Counts what there is of a run; to be given all payloads of the journal, oldest first.

    `twice` are the numbers that have been recorded more than once, without those that ackd marks as
    `repeated`. `sent` is what the end says, if it has been `ended`.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._ours: dict[str, _Connection] = {}
        self._strangers: dict[str, _Connection] = {}
        self._first = Ranges()
        self._there = Ranges()
        self.ended = False
        self.sent = 0
        self.twice = Ranges()
        self.out_of_order = 0
        self.repeated = 0

    def add(
        self,
        connection: str,
        sequence: int,
        payload: bytes,
        repeated: bool = False,
        journal: str = "",
    ) -> bool:
        """Take a payload, the `sequence`-th of its connection; return whether it is the run's."""
        part = parse(payload)
        named = part is not None and part.run == self._run
        place = self._place(connection, named)
        new = place.sequences.add(sequence)
        if part and not part.altered:
            if named:
                self._take(part, place, repeated, journal)
        elif new or not repeated:
            place.altered += 1
        return named

    @property
    def seen(self) -> bool:
        """Whether there is anything of the run."""
        return bool(self._ours)

    @property
    def connections(self) -> int:
        """How many connections the run had."""
        return len(self._ours)

    @property
    def recorded(self) -> int:
        """How many numbers are there as they were sent."""
        return len(self._there)

    @property
    def highest(self) -> int:
        """The highest number that is there."""
        return self._there.highest

    @property
    def missing(self) -> Ranges:
        """The numbers that are not there, up to the end or, if that is not there, the highest."""
        return self._there.gaps(1, max(self.sent, self.highest))

    @property
    def altered(self) -> int:
        """How many payloads of the run's connections are not as ackctl has made them."""
        return sum(place.altered for place in self._ours.values())

    @property
    def lost(self) -> int:
        """How many were acknowledged between others of their connection, and have no record."""
        return sum(len(_within(place.sequences)) for place in self._ours.values())

    @property
    def whole(self) -> bool:
        """Whether all is there, once, in order, and as it was sent."""
        faults = (self.missing, self.twice, self.out_of_order, self.altered, self.lost)
        return self.ended and self.highest == self.sent and not any(faults)

    def _place(self, connection: str, named: bool) -> _Connection:
        if connection in self._ours:
            return self._ours[connection]
        place = self._strangers.pop(connection, None) or _Connection()
        (self._ours if named else self._strangers)[connection] = place
        if len(self._strangers) > _STRANGERS:
            del self._strangers[next(iter(self._strangers))]
        return place

    def _take(self, part: Part, place: _Connection, repeated: bool, journal: str) -> None:
        if part.end:
            self.ended, self.sent = True, max(self.sent, part.number)
        else:
            self._there.add(part.number)
        # The end is behind all others of its connection.
        number = part.number + part.end
        if repeated:  # at the end of the queue, and not where it was sent
            self.repeated += 1
        elif not part.end and not self._first.add(number):
            self.twice.add(number)
        else:
            # Two journals have been written side by side: theirs is no order between them.
            furthest = place.furthest.get(journal, 0)
            self.out_of_order += number < furthest
            place.furthest[journal] = max(furthest, number)


def _within(sequences: Ranges) -> Ranges:
    lowest, _ = next(iter(sequences))
    return sequences.gaps(lowest, sequences.highest)
