"""How much a connection may read and record at a time."""

from ackd.config import Recording
from ackd.journal.recorder import TURN_PAYLOADS, TURN_RECORDS, Recorder

# Bytes of one read, and so the most that a connection holds unrecorded.
CHUNK = 65536
# Bytes that each connection may read in any case: 4,096 connections then hold 8 MiB.
_LEAST_CHUNK = 2048
# Payloads that all connections which wait or are readable may record in one round of the loop, so
# that a round stays short.
_ROUND_PAYLOADS = 1024
# The same while acks wait for the disk: then a record is only appended to the log in the round.
_ROUND_APPENDED = 4096
# Payloads that each may record in any case if many share a record or need none: so many are
# recorded as fast as one.
_LEAST_SHARED = 64


class Budget:
    """Bounds of a single read, in bytes, and of a single recording, in payloads.

    The more connections have something to record, the smaller both are: a bound for the time of a
    round, and for the memory.
    """

    __slots__ = ("_ready", "_recorder", "_waiting", "chunk", "payloads")

    def __init__(self, recorder: Recorder) -> None:
        self.chunk = CHUNK
        self.payloads = TURN_RECORDS
        self._recorder = recorder
        self._ready = self._waiting = 0

    def set_ready(self, ready: int) -> None:
        """Divide by the number of descriptors that are ready in this round."""
        if ready != self._ready:
            self._ready = ready
            self.divide()

    def set_waiting(self, waiting: int) -> None:
        """Divide by the number of connections that wait for the journal."""
        self._waiting = waiting
        self.divide()

    def divide(self) -> None:
        """Divide again, for instance after a change of the setting `record`."""
        each = self._recorder.recording is Recording.EACH
        least, most = (1, TURN_RECORDS) if each else (_LEAST_SHARED, TURN_PAYLOADS)
        each_round = _ROUND_APPENDED if self._recorder.acks_wait else _ROUND_PAYLOADS
        share = each_round // max(1, self._waiting, self._ready)
        self.payloads = max(least, min(most, share))
        self.chunk = max(_LEAST_CHUNK, CHUNK // max(1, self._waiting))
