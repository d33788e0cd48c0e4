"""One accepted socket: what it reads is recorded, what is recorded is acknowledged."""

import socket
import sys
from collections.abc import Callable, Sized
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from math import inf
from time import monotonic

from ackd.journal.recorder import TURN, Recorder
from ackd.protocol import JOURNAL_UNREACHABLE, ServerProtocol, rejection_line
from ackd.records import Kind, Origin, Priority, Reason, Record
from ackd.server.counters import Counters
from ackd.server.quota import Quota
from ackd.server.snapshot import Snapshot

# Bytes of one read, and so of what a connection holds unrecorded.
CHUNK = 65536
# linux/socket.h; the socket module does not name it.
_SO_COOKIE = 57


class Wait(Enum):
    """The one thing that a connection waits for."""

    GREETING = "its greeting"
    READ = "the client's next bytes"
    WRITE = "the client to read its replies"
    JOURNAL = "its turn to have payloads recorded"
    LINGER = "the client to close as well"
    NOTHING = "nothing, it is closed"


@dataclass(slots=True)
class Timeouts:
    """Seconds for each kind of waiting; inf is for ever."""

    idle: float
    unread: float
    journal: float = inf
    linger: float = 2.0

    def of(self, wait: Wait) -> float:
        """Return how long a connection may wait so."""
        if wait is Wait.READ:
            return self.idle
        if wait is Wait.WRITE:
            return self.unread
        if wait is Wait.JOURNAL:
            return self.journal
        return self.linger if wait is Wait.LINGER else inf


@dataclass(slots=True)
class Surroundings:
    """What all connections of one server share.

    `changed` is told of each change of `wait`, and what it was before. `introductions`
    and `refusals` bound what is recorded about clients beside their payloads. `newcomers` are those
    who wait for their first turn at the journal: nobody is read past them.
    """

    recorder: Recorder
    timeouts: Timeouts
    counters: Counters
    introductions: Quota
    refusals: Quota
    changed: Callable[["Connection", Wait], None]
    debug: bool = False
    draining: bool = False
    chunk: int = CHUNK
    turn: int = TURN
    newcomers: Sized = ()


class Connection:
    """A client that is served.

    The handlers are called by the loop when what `wait` names has happened; an OSError that they
    raise is the connection's end, and the caller's to deal with by `close`.
    """

    __slots__ = (
        "_around",
        "_eof",
        "_head",
        "_introduced",
        "_more",
        "_origin",
        "_output",
        "_socket",
        "_started",
        "deadline",
        "protocol",
        "reason",
        "scheduled",
        "served",
        "wait",
    )

    def __init__(
        self,
        sock: socket.socket,
        origin: Origin,
        protocol: ServerProtocol,
        around: Surroundings,
    ) -> None:
        self.protocol = protocol
        self.wait = Wait.GREETING
        self.reason = Reason.CLIENT
        self.deadline = self.scheduled = inf
        self.served = False
        self._socket = sock
        self._origin = origin
        self._around = around
        self._started = monotonic()
        self._head = b""  # made with the first payload: most idle clients need none
        self._introduced = False
        self._more = False  # the last read was as long as it could be
        self._output = b""
        self._eof = False

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._origin.peer

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    def greet(self, greeting: bytes) -> None:
        """Send the greeting, then serve."""
        self.served = True
        if self._around.debug:
            self._introduce()
        self._send(greeting)
        self._settle()

    def turn_away(self, reason: str) -> None:
        """Say why in the place of the greeting, then close."""
        if self._around.refusals.admits(self.peer):
            self._note(Kind.TURNED_AWAY, Priority.WARNING, f"turned away: {reason}")
        self._send(rejection_line(reason))
        self.finish(Reason.TURNED_AWAY)

    def snapshot(self) -> Snapshot:
        """Return what another process needs to go on; this one must not touch the socket again."""
        origin = self._origin
        return Snapshot(
            cookie(self._socket),
            origin.peer,
            origin.peer_port,
            origin.listener,
            origin.connection,
            self._started,
            bool(self._head),
            self._introduced,
            self._eof,
            self._output,
            self.reason if self.wait is Wait.LINGER else None,
            self.protocol.state(),
        )

    def resume(self, snapshot: Snapshot) -> None:
        """Go on where another process has left off."""
        self.served = True
        self.protocol.restore(snapshot.protocol)
        self._started = snapshot.started
        self._output = snapshot.output
        self._eof = snapshot.eof
        self._introduced = snapshot.introduced
        if snapshot.heard:
            self._head = self._around.recorder.origin(self._origin)
        if snapshot.leaving:
            self.finish(snapshot.leaving)
        else:
            self._settle()

    def on_readable(self) -> None:
        """Read once: record the payloads, then acknowledge what was recorded."""
        around = self._around
        must_wait = around.newcomers or around.recorder.holds_up
        if must_wait and self._socket.recv(1, socket.MSG_PEEK):
            self._await(Wait.JOURNAL)
            return
        # Or a client has only closed, which needs no journal: it must not be in others' way.
        self._receive()
        self._record()
        self._settle()

    def on_turn(self) -> None:
        """Go on recording; who has more to be read than one turn can hold keeps its place."""
        if not self.protocol.waiting:
            self._receive()
        self._record()
        if self._more and not (self.protocol.waiting or self._output):
            with suppress(BlockingIOError):
                self._receive()
        self._settle()

    def _record(self) -> None:
        """Have waiting payloads recorded, acknowledge those that were."""
        protocol, around = self.protocol, self._around
        payloads = protocol.payloads or self._split()
        taken = around.recorder.write(self._head, protocol.sequence, payloads)
        around.counters.acknowledged += taken
        self._send(protocol.acknowledge(taken))

    def _split(self) -> list[bytes]:
        refused = self.protocol.refused
        payloads = self.protocol.split(self._around.turn)
        self._around.counters.refused += self.protocol.refused - refused
        return payloads

    def on_deadline(self) -> None:
        """Give up what the connection has waited for."""
        silence = Reason.STOP if self._around.draining else Reason.IDLE
        match self.wait:
            case Wait.READ:
                self.finish(silence)
            case Wait.WRITE:
                self.close(silence)
            case Wait.JOURNAL:
                self._refuse(JOURNAL_UNREACHABLE)
            case _:
                self.close(self.reason)

    def wait_anew(self) -> None:
        """Count the deadline from now, as after a change of the timeouts."""
        self.deadline = monotonic() + self._around.timeouts.of(self.wait)

    def _refuse(self, reason: str) -> None:
        """Answer what waits, or what has arrived meanwhile, that it was not received."""
        if not self.protocol.waiting:
            self._receive()
        refused = self.protocol.refused
        replies = self.protocol.refuse(reason)
        self._around.counters.refused += self.protocol.refused - refused
        self._send(replies)
        self._settle()

    def on_writable(self) -> None:
        """Send more of the replies that the client had no room for."""
        self._output = self._output[self._socket.send(self._output) :]
        self._settle()

    def on_linger(self) -> None:
        """Read what the client still sends and forget it.

        Closing with unread input would reset the connection, and the reset would overtake replies
        that are still on their way: RFC 1122, 4.2.2.13.
        """
        if not self._socket.recv(CHUNK):
            self.close(self.reason)

    def finish(self, reason: Reason) -> None:
        """Say nothing more, and close when the client has: nothing that was said is lost."""
        self.reason = reason
        self._socket.shutdown(socket.SHUT_WR)
        self._await(Wait.LINGER)

    def close(self, reason: Reason, why: str = "") -> None:
        """Close at once; `why` is the system's own word for it, where there is one."""
        self._await(Wait.NOTHING)
        self._socket.close()
        if self._introduced:
            self._take_leave(why or reason.value)

    def _receive(self) -> None:
        data = self._socket.recv(self._around.chunk)
        self._more = len(data) == self._around.chunk
        if not data:
            self.protocol.receive_eof()
            self._eof = True
            return
        if not self._head:
            self._introduce()
        refused = self.protocol.refused
        self.protocol.receive_data(data, self._around.turn)
        self._around.counters.received += len(data)
        self._around.counters.refused += self.protocol.refused - refused

    def _send(self, replies: bytes) -> None:
        """Send at once; what the client has no room for is kept for `on_writable`."""
        if not replies:
            return
        if self._around.debug:
            self._note(Kind.ANSWERED, Priority.DEBUG, "send data to client")
        try:
            sent = self._socket.send(replies)
        except BlockingIOError:
            sent = 0
        self._output = replies[sent:]
        if self._around.debug:
            self._note(Kind.WROTE, Priority.DEBUG, f"wrote to socket: {sent} bytes")

    def _settle(self) -> None:
        """Wait for the one thing that must come next."""
        if self._output:
            self._await(Wait.WRITE)
        elif self.protocol.waiting:
            self._await(Wait.JOURNAL)
        elif self._eof:
            self.close(Reason.CLIENT)
        else:
            self._await(Wait.READ)

    def _await(self, wait: Wait) -> None:
        self.deadline = monotonic() + self._around.timeouts.of(wait)
        before = self.wait
        if wait is not before:
            self.wait = wait
            self._around.changed(self, before)

    def _introduce(self) -> None:
        """Make the head of this connection's records, and record that it is there.

        Not before it has sent something: a health check would leave two records each time. Nor if
        its client has had too many already; then its end is not recorded either.
        """
        self._head = self._around.recorder.origin(self._origin)
        self._introduced = self._around.debug or self._around.introductions.admits(self.peer)
        if self._introduced:
            self._note(Kind.CONNECTED, Priority.INFO, "socket connected")

    def _take_leave(self, why: str) -> None:
        protocol = self.protocol
        seconds = round(monotonic() - self._started, 3)
        message = (
            f"closed the socket: payloads: {protocol.acknowledged} acknowledged,"
            f" {protocol.refused} refused; {protocol.received} bytes, {seconds} s, {why}"
        )
        fields = (
            ("ACKD_PAYLOADS", protocol.acknowledged),
            ("ACKD_REFUSED", protocol.refused),
            ("ACKD_BYTES", protocol.received),
            ("ACKD_SECONDS", seconds),
            ("ACKD_REASON", why),
        )
        self._note(Kind.CLOSED, Priority.INFO, message, fields)

    def _note(
        self,
        kind: Kind,
        priority: Priority,
        message: str,
        fields: tuple[tuple[str, str | int | float], ...] = (),
    ) -> None:
        self._around.recorder.note(Record(kind, priority, message, self._origin, fields))


def cookie(sock: socket.socket) -> int:
    """Return the kernel's number for a socket, the same in every process that has it."""
    return int.from_bytes(sock.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)


def attempt(connection: Connection, action: Callable[[], None]) -> None:
    """Do something for a connection; an error of its socket is its end and nobody else's.

    So is a want of memory: whatever it was about to record has no ack yet.
    """
    try:
        action()
        return
    except BlockingIOError:
        return  # readiness can be spurious, select(2)
    except OSError as error:
        why = error.strerror
    except MemoryError:
        why = "ackd is out of memory"
    # Not before what a MemoryError refers to is free again.
    connection.close(Reason.LOST, f"{Reason.LOST.value}: {why}")
