"""journald's socket for records, as a sink. No record is lost when journald ends."""

from ackd.journal.datagram import DatagramSocket
from ackd.journal.recorder import Recorder
from ackd.journal.storing import Storing
from ackd.journal.unconfirmed import Unconfirmed
from ackd.journal.watch import JournaldWatch
from ackd.loop import Loop

SOCKET = "/run/systemd/journal/socket"


class JournaldSocket(DatagramSocket):
    """Keeps what journald may not have stored; the watch has it recorded again if need be."""

    def __init__(self, path: str, storing: Storing) -> None:
        self._storing = storing
        self._unconfirmed = Unconfirmed()
        self._watch: JournaldWatch | None = None
        super().__init__(path)

    def connect(self) -> bool:
        """Connect anew, and return whether journald's sockets are there.

        The queue of before has gone: its records are recorded again.
        """
        if self._watch:
            self._watch.repeat()
        return super().connect()

    def put(self, datagram: bytes) -> bool:
        """Return whether the queue has taken the datagram. Never blocks."""
        taken = super().put(datagram)
        if taken:
            self._unconfirmed.append(datagram)
        return taken

    def inspect(self, starting: bool = False) -> None:
        """Find out whether journald stores payloads, or whether a `starting` journald will."""
        if starting:
            self._storing.look_at_new()
        else:
            self._storing.look()
        self.obstacle = self._storing.obstacle

    def watch(self, loop: Loop, recorder: Recorder) -> None:
        """Watch in the loop whether journald ends; have it record again what it may have lost."""
        self._watch = JournaldWatch(loop, recorder, self, self._unconfirmed, self.inspect)

    def look(self) -> None:
        """Note what journald has read; to be called at the end of each round."""
        if self._watch:
            self._watch.look()

    def close(self) -> None:
        """Close the socket and the watch."""
        if self._watch:
            self._watch.close()
        super().close()
