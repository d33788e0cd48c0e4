"""Compares the journal's records of a run with the payloads that were sent."""

from dataclasses import dataclass, field

from ackd.ctl.runs.payloads import ReceivedPayload, Run, parse
from ackd.ctl.runs.ranges import Ranges

# Connections that may still turn out to belong to the run; most payloads belong to no run.
_CANDIDATES = 10_000


@dataclass(slots=True)
class _AuditedConnection:
    sequences: Ranges = field(default_factory=Ranges)
    furthest: dict[str, int] = field(default_factory=dict)  # the highest number in each journal
    altered: int = 0
    unproven: int = 0
    begins: bool = False  # has the run's first payload
    ends: bool = False
    uploads: "Uploads | None" = None


class Uploads:
    """The records of a connection that a collector has. An uploader can send records twice.

    After a failure it goes on where it began, so the collector can have any record again, with the
    same sequence. A record that ackd has repeated is another record.
    """

    def __init__(self) -> None:
        self._records, self._repeated = Ranges(), Ranges()

    def add(self, sequence: int, repeated: bool) -> bool:
        """Add a record; return whether it is new."""
        return (self._repeated if repeated else self._records).add(sequence)


class Audit:
    """Counts the journal's records of a run; takes all payloads of the journal, oldest first.

    `twice` are the numbers that have more than one record, without the records that ackd has marked
    as `repeated`. If the run's end is there, it has `ended`, and `sent` is what the end says.
    `begun` are the connections that have the run's first payload.

    With the run's key, only a payload that was made with the key makes its connection one of the
    run: a stranger who knows the name of the run does not change what is found. Without the key,
    `keyed` counts the run's payloads that only the key can check.

    `collected` says that the records are from a collector: the run's payloads that were
    `uploaded_twice` do not count in any other way.
    """

    def __init__(self, run: Run, collected: bool = False) -> None:
        self._collected = collected
        self.uploaded_twice = 0
        self._run = run
        self._of_run: dict[str, _AuditedConnection] = {}
        self._candidates: dict[str, _AuditedConnection] = {}
        self._first = Ranges()
        self._recorded = Ranges()
        self.ended = False
        self.sent = 0
        self.twice = Ranges()
        self.out_of_order = 0
        self.repeated = 0
        self.keyed = 0
        self.begun = 0
        self._ends = 0
        self._unproven = 0

    def add(
        self,
        connection: str,
        sequence: int,
        payload: bytes,
        repeated: bool = False,
        journal: str = "",
    ) -> ReceivedPayload | None:
        """Add a payload, the `sequence`-th of its connection; return it if it is the run's."""
        received = parse(payload, self._run.key)
        named = received if received and received.run == self._run.name else None
        mine = named if named and not (named.altered and self._run.key) else None
        found = self._connection(connection, mine is not None)
        if self._collected and not self._is_new(found, sequence, repeated):
            self.uploaded_twice += mine is not None
            return None
        new = found.sequences.add(sequence)
        if named:
            self._count_key(named, found)
        if not received or received.altered:
            found.altered += new or not repeated
        elif mine:
            self._add(mine, found, repeated, journal)
        return mine

    @property
    def seen(self) -> bool:
        """Whether the journal has anything of the run."""
        return bool(self._of_run)

    @property
    def connections(self) -> int:
        """How many connections the run had."""
        return len(self._of_run)

    @property
    def recorded(self) -> int:
        """How many numbers are recorded as they were sent."""
        return self._recorded.count

    @property
    def highest(self) -> int:
        """The highest number that is recorded."""
        return self._recorded.highest

    @property
    def missing(self) -> Ranges:
        """The numbers without a record, up to what the end says or, without an end, the highest."""
        return self._recorded.gaps(1, self.sent if self.ended else self.highest)

    @property
    def beyond(self) -> Ranges:
        """The recorded numbers that are higher than what the end says."""
        return self._recorded.beyond(self.sent) if self.ended else Ranges()

    @property
    def altered(self) -> int:
        """How many payloads of the run's connections differ from those that ackctl makes."""
        return sum(connection.altered for connection in self._of_run.values())

    @property
    def runs(self) -> int:
        """How many runs seem to have the name: each has one first payload and one end."""
        return max(self.begun, self._ends)

    @property
    def unproven(self) -> int:
        """How many payloads with the run's name were not made with its key.

        In the run's own connections such a payload is an altered one.
        """
        return self._unproven - sum(each.unproven for each in self._of_run.values())

    @property
    def lost(self) -> int:
        """How many acks a connection has got, between other acks, that have no record.

        ackd numbers a connection's acknowledged payloads without gaps.
        """
        return sum(_inner_gaps(each.sequences).count for each in self._of_run.values())

    @property
    def whole(self) -> bool:
        """Whether each payload is recorded once, in order, and as it was sent."""
        faults = (self.missing, self.beyond, self.twice, self.out_of_order, self.altered, self.lost)
        return self.ended and not any(faults)

    def _connection(self, name: str, of_run: bool) -> _AuditedConnection:
        if name in self._of_run:
            return self._of_run[name]
        connection = self._candidates.pop(name, None) or _AuditedConnection()
        (self._of_run if of_run else self._candidates)[name] = connection
        if len(self._candidates) > _CANDIDATES:
            del self._candidates[next(iter(self._candidates))]
        return connection

    def _is_new(self, found: _AuditedConnection, sequence: int, repeated: bool) -> bool:
        found.uploads = found.uploads or Uploads()
        return found.uploads.add(sequence, repeated)

    def _count_key(self, named: ReceivedPayload, connection: _AuditedConnection) -> None:
        """Count a payload with the run's name if its key is wrong, or is needed."""
        if not self._run.key:
            self.keyed += named.keyed
        elif named.altered:
            connection.unproven += 1
            self._unproven += 1

    def _add(
        self,
        received: ReceivedPayload,
        connection: _AuditedConnection,
        repeated: bool,
        journal: str,
    ) -> None:
        if received.end:
            self.ended, self.sent = True, max(self.sent, received.number)
            self._ends += not connection.ends
            connection.ends = True
        else:
            self._recorded.add(received.number)
            self.begun += received.number == 1 and not connection.begins
            connection.begins |= received.number == 1
        place = received.number + received.end  # the end comes after all others
        if repeated:  # ackd records it after the newest record, not where it was sent
            self.repeated += 1
        elif not received.end and not self._first.add(place):
            self.twice.add(place)
        else:
            # Two journals have no common order.
            furthest = connection.furthest.get(journal, 0)
            self.out_of_order += place < furthest
            connection.furthest[journal] = max(furthest, place)


def _inner_gaps(sequences: Ranges) -> Ranges:
    lowest, _ = next(iter(sequences))
    return sequences.gaps(lowest, sequences.highest)
