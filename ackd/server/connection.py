"""One client's connection: payloads are read, recorded, and acknowledged, in this order."""

import errno
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Sized
from contextlib import suppress
from enum import Enum
from functools import wraps
from math import inf
from time import monotonic
from typing import TypeAlias, TypeVarTuple

from ackd.journal.recorder import Recorder
from ackd.protocol import LOG_FULL, Run, ServerProtocol, rejection_line, unreachable
from ackd.records import Kind, Origin, Priority, Reason, Record
from ackd.server.budget import CHUNK, Budget
from ackd.server.counters import Counters
from ackd.server.foreign import ForeignClientError, examine
from ackd.server.quota import Quota
from ackd.server.reasons import TOO_LONG, kind_of_refusal, kind_of_rejection
from ackd.server.replies import NOTHING, SEND, after_sent, first_bytes, owe
from ackd.server.snapshot import Snapshot
from ackd.server.stream import CutOffError, Stream

# linux/socket.h; the socket module does not name it.
_SO_COOKIE = 57
# Some devices end a line with these bytes instead of LF.
_ENDS = ((b"\r", "CR"), (b"\0", "NUL"))
# Runs of equal replies that a client can be owed and still be read. An honest client's replies are
# a few runs; a client that makes each reply differ from the one before must read them.
_MOST_RUNS = 1024

# A kernel that resets a connection drops the bytes that it has not sent yet: RFC 1122, 4.2.2.13.
_DROPPED = "; the client's system may have dropped lines that ackd has not received"

_Fields: TypeAlias = tuple[tuple[str, str | int | float], ...]


class Wait(Enum):
    """The one thing that a connection waits for.

    In READ, JOURNAL and COMMIT a connection can owe replies as well, and sends them when there is
    room.
    """

    GREETING = "its greeting"
    READ = "the client's next bytes"
    WRITE = "the client to read its replies"
    JOURNAL = "its turn to have payloads recorded"
    COMMIT = "its recorded payloads to be on the disk"
    LINGER = "the client to close as well"
    NOTHING = "nothing, it is closed"


# Python 3.11 looks the members of an Enum up slowly, and each payload needs some of these.
_READ, _WRITE, _JOURNAL, _LINGER = Wait.READ, Wait.WRITE, Wait.JOURNAL, Wait.LINGER


class Timeouts:
    """Seconds for each kind of waiting; inf is for ever."""

    __slots__ = ("idle", "journal", "linger", "unread")

    def __init__(self, idle: float, unread: float) -> None:
        self.idle = idle
        self.unread = unread
        self.journal = inf
        self.linger = 2.0

    def of(self, wait: Wait, owes: bool) -> float:
        """Return how long a connection may wait so; `owes` is whether it owes replies."""
        if wait is _READ:
            return self.unread if owes else self.idle
        if wait is _WRITE:
            return self.unread
        if wait is _JOURNAL:
            return self.journal
        return self.linger if wait is _LINGER else inf


class Shared:
    """The state and the parts that all connections of one server share.

    `first_turns` are the connections that wait for their first turn at the journal: while there are
    any, no other connection is read. The quotas bound what is recorded about clients beside their
    payloads. `changed` is called with each connection whose `wait` or `owes` has changed, and the
    `wait` of before. `received` is called with each connection that has received bytes, and their
    number. `taken` is called with each connection whose payloads are recorded and wait for the
    disk, and their number; `on_commit` or `on_failed_commit` must follow. `refused_for` counts
    payloads and `turned_away_for` clients, by the kind of the reason: see reasons.py.
    """

    def __init__(
        self,
        recorder: Recorder,
        budget: Budget,
        first_turns: Sized,
        timeouts: Timeouts,
        counters: Counters,
        connect_quota: Quota,
        reject_quota: Quota,
        changed: Callable[["Connection", Wait], None],
        received: Callable[["Connection", int], None],
        taken: Callable[["Connection", int], None],
    ) -> None:
        self.recorder = recorder
        self.budget = budget
        self.first_turns = first_turns
        self.timeouts = timeouts
        self.counters = counters
        self.connect_quota = connect_quota
        self.reject_quota = reject_quota
        self.changed = changed
        self.received = received
        self.taken = taken
        self.debug = False
        self.draining = False
        self.refused_for: Counter[str] = Counter()
        self.turned_away_for: Counter[str] = Counter()

    def count_refused(self, count: int, kind: str) -> None:
        """Count payloads that are refused for a kind of reason, see `reasons`."""
        if count:
            self.counters.refused += count
            self.refused_for[kind] += count


_Ts = TypeVarTuple("_Ts")


def _lost(why: str | None) -> str:
    return f"{Reason.LOST.value}: {why}"


_RESET = _lost(os.strerror(errno.ECONNRESET))


def _close_on_error(
    method: Callable[["Connection", *_Ts], None],
) -> Callable[["Connection", *_Ts], None]:
    """Let an error of the connection's socket, or MemoryError, close this connection only.

    Whatever the connection was about to record then has no ack yet.
    """
    handler: Callable[..., None] = method

    @wraps(method)
    def guarded(connection: "Connection", /, *args: *_Ts) -> None:
        try:
            if args:
                handler(connection, *args)
            else:  # the usual case: to unpack no arguments takes as long as the whole call
                handler(connection)
            return
        except BlockingIOError:
            return  # the socket was not ready after all, select(2)
        except ForeignClientError as error:
            connection.reject(error.reason, True)
            return
        except OSError as error:
            why = error.strerror
        except MemoryError:
            why = "ackd is out of memory"
        # Outside the `except`: there, the memory that a MemoryError refers to is not free yet.
        connection.close(Reason.LOST, _lost(why))

    return guarded


class Connection:
    """A client's connection. The loop calls the handler for `wait` and `owes`.

    After a send has failed, nothing more is sent, and whatever has arrived is read and recorded:
    the receive queue of a socket outlives a reset.
    """

    __slots__ = (
        "_beginning",
        "_chunk_was_full",
        "_closed_why",
        "_connect_recorded",
        "_eof",
        "_origin",
        "_owed",
        "_prefix",
        "_send_error",
        "_shared",
        "_socket",
        "_started",
        "admitted",
        "deadline",
        "owes",
        "protocol",
        "reason",
        "scheduled",
        "wait",
    )

    def __init__(
        self, stream: Stream, origin: Origin, protocol: ServerProtocol, shared: Shared
    ) -> None:
        self.protocol = protocol
        self.wait = Wait.GREETING
        self.owes = False
        self.reason = Reason.CLIENT
        self.deadline = self.scheduled = inf
        self.admitted = False
        self._socket = stream
        self._origin = origin
        self._shared = shared
        self._started = monotonic()
        self._prefix = b""  # made with the first payload: most idle clients need none
        # What has come, as long as it can become another protocol's first bytes; then None.
        self._beginning: bytes | None = b""
        self._connect_recorded = False
        self._chunk_was_full = False  # so there may be more to read
        self._owed = NOTHING
        self._send_error = 0  # errno; 0 while replies can be sent
        self._eof = False
        self._closed_why = ""

    @property
    def peer(self) -> str:
        """The client's address."""
        return self._origin.peer

    def fileno(self) -> int:
        """Return the socket's descriptor."""
        return self._socket.fileno()

    # The beginning

    @_close_on_error
    def greet(self, greeting: bytes) -> None:
        """Admit the client: send the greeting, then wait for payloads."""
        self.admitted = True
        if self._shared.debug:
            self._record_connect()
        self._send([(greeting, 1)] if greeting else [])
        self._settle()
        if self._send_error:  # the client has left: its place is free once its lines are read
            self.on_readable()

    @_close_on_error
    def reject(self, reason: str, answer: bool) -> None:
        """Send the reason in the place of the greeting or of the first reply, then close.

        Without `answer`, send nothing: what the client would take is not plain text.
        """
        self._beginning = None
        self._shared.counters.turned_away += 1
        self._shared.turned_away_for[kind_of_rejection(reason)] += 1
        if self._shared.reject_quota.admits(self.peer):
            self._note(Kind.REJECTED, Priority.WARNING, "turned away", detail=reason)
        if answer:
            self._send([(rejection_line(reason), 1)])
        self.finish(Reason.REJECTED)

    @_close_on_error
    def leave(self, why: str) -> None:
        """Close: the client has left before its greeting."""
        if self._shared.debug:
            self._record_connect()
        self.close(Reason.CLIENT, why)

    @_close_on_error
    def restore(self, snapshot: Snapshot) -> None:
        """Admit a client of the previous process, and continue where that process has stopped."""
        self.admitted = True
        self.protocol.restore(snapshot.protocol)
        self._started = snapshot.started
        self._owed = list(snapshot.owed)
        self._send_error = snapshot.send_error
        self._connect_recorded = snapshot.connect_recorded
        self._beginning = None if snapshot.has_sent else snapshot.protocol.partial
        if snapshot.has_sent:
            self._prefix = self._shared.recorder.prefix(self._origin)
        if snapshot.eof:
            self._receive_eof()
        if snapshot.leaving:
            self.finish(snapshot.leaving)
        else:
            self._settle()

    @property
    def can_be_handed_over(self) -> bool:
        """Whether another process can continue: not with keys of TLS, which only this process has.

        Once ackd has ended the sending, nobody needs the keys any more.
        """
        return self.wait is Wait.LINGER or isinstance(self._socket, socket.socket)

    def share(self, shared: Shared) -> None:
        """Share this from now on, for instance other timeouts."""
        self._shared = shared

    def snapshot(self) -> Snapshot:
        """Return what the next process needs; this process must not touch the socket again."""
        origin = self._origin
        return Snapshot(
            cookie(self._socket),
            origin.peer,
            origin.peer_port,
            origin.listener,
            origin.connection,
            self._started,
            bool(self._prefix),
            self._connect_recorded,
            self._eof,
            tuple(self._owed),
            self._send_error,
            self.reason if self.wait is Wait.LINGER else None,
            self.protocol.state(),
            origin.facts,
        )

    # The way of a payload

    @_close_on_error
    def on_readable(self) -> None:
        """Read once: record the payloads, then acknowledge what was recorded."""
        shared = self._shared
        recorder = shared.recorder
        may_have_to = recorder.blocked or recorder.acks_wait
        must_wait = shared.first_turns or (may_have_to and recorder.must_wait)
        # An empty peek is EOF: handle it without the journal.
        if must_wait and self._socket.recv(1, socket.MSG_PEEK):
            self._await(_JOURNAL)
            return
        self._receive()
        self._record()
        self._settle()

    @_close_on_error
    def on_readable_or_writable(self) -> None:
        """Send more of the owed replies, and read once; each may be impossible now."""
        self._send_now(self._owed)
        self._settle()
        if self.wait is Wait.READ:
            self.on_readable()

    @_close_on_error
    def on_turn(self) -> None:
        """Take the turn that the queue before the journal gives.

        A connection with more to read than one turn can hold reads that, too: it keeps its place.
        """
        if not self.protocol.waiting:
            with suppress(BlockingIOError):  # the bytes may be a part of a TLS record
                self._receive()
        self._record()
        # A read ends with a record of TLS, however much there is.
        may_be_more = self._chunk_was_full or not isinstance(self._socket, socket.socket)
        if may_be_more and not (self.protocol.waiting or self._owed):
            with suppress(BlockingIOError):
                self._receive()
        self._settle()

    @_close_on_error
    def on_writable(self) -> None:
        """Send more of the replies that the client had no room for."""
        self._send_now(self._owed)
        self._go_on()

    @_close_on_error
    def on_commit(self, count: int) -> None:
        """Acknowledge so many taken payloads: their records are on the disk."""
        self._shared.counters.acknowledged += count
        self._answer_taken(self.protocol.acknowledge_taken(count))

    @_close_on_error
    def on_failed_commit(self, reason: str) -> None:
        """Refuse all taken payloads: their records are given up."""
        self._shared.count_refused(self.protocol.taken, kind_of_refusal(reason))
        self._answer_taken(self.protocol.refuse_taken(reason))

    def _receive(self) -> None:
        budget = self._shared.budget
        try:
            data = self._socket.recv(budget.chunk)
        except CutOffError:
            self._receive_eof(cut_off=True)
            return
        self._chunk_was_full = len(data) == budget.chunk
        if not data:
            self._receive_eof()
            return
        if self._beginning is not None:
            self._examine(data)
        protocol = self.protocol
        refused, partial = protocol.refused, protocol.partial
        protocol.receive_data(data, budget.payloads)
        self._shared.counters.received += len(data)
        if protocol.refused != refused:
            self._shared.count_refused(protocol.refused - refused, TOO_LONG)
        if partial or protocol.partial:
            self._shared.received(self, len(data))

    def _receive_eof(self, cut_off: bool = False) -> None:
        """Take the end of the client's bytes; a last line without LF is a payload, if it is whole.

        After a reset nobody knows whether more bytes were on their way. A reset that follows the
        client's FIN is EPIPE, any other is ECONNRESET: tcp_reset() in net/ipv4/tcp_input.c.
        """
        self._end_beginning()
        self._eof = True
        if self._send_error in (0, errno.EPIPE) and not cut_off:
            self.protocol.receive_eof()

    def _examine(self, data: bytes) -> None:
        """Check that the client speaks this protocol; raises ForeignClientError.

        Nothing is recorded about a client that may be foreign until its first line has come.
        """
        self._beginning = beginning = examine((self._beginning or b"") + data)
        if not self._prefix and (beginning is None or b"\n" in beginning):
            self._record_connect()

    def _end_beginning(self) -> None:
        """Take the first bytes for the beginning of a payload, because no more bytes come."""
        if self._beginning and not self._prefix:
            self._record_connect()
        self._beginning = None

    def _record(self) -> None:
        """Record payloads that wait, and send the replies that are due now.

        If the journal would not store them, refuse them instead, once no payload is taken.
        """
        protocol, shared = self.protocol, self._shared
        recorder, recorded = shared.recorder, 0
        payloads = protocol.payloads or self._split()
        # Each payload comes here: attributes are read first, which is faster than the property.
        if not (recorder.sink.obstacle or recorder.volatile) or not recorder.obstacle:
            prefix = self._prefix
            if self._eof and protocol.unterminated:
                prefix = recorder.unterminated(prefix)
            if payloads:
                recorded = recorder.write(prefix, protocol.sequence, payloads)
        elif not protocol.taken:
            shared.count_refused(len(payloads), kind_of_refusal(recorder.obstacle))
            self._send(protocol.refuse_payloads(recorder.obstacle))
        if recorder.acks_wait:
            self._take(recorded)
        else:
            shared.counters.acknowledged += recorded
            self._send(protocol.acknowledge(recorded))

    def _take(self, recorded: int) -> None:
        """Let so many more payloads wait for the disk; send refusals that come before them."""
        self._send(self.protocol.take(recorded))
        if recorded:
            self._shared.taken(self, recorded)

    def _answer_taken(self, replies: list[Run]) -> None:
        """Send the replies to taken payloads, unless ackd has ended the sending."""
        if self.wait is Wait.NOTHING:
            if self._connect_recorded and not self.protocol.taken:
                self._record_close(self._closed_why)
        elif self.wait is not Wait.LINGER:
            self._send(replies)
            self._go_on()

    def _split(self) -> list[bytes]:
        refused = self.protocol.refused
        payloads = self.protocol.split(self._shared.budget.payloads)
        self._shared.count_refused(self.protocol.refused - refused, TOO_LONG)
        return payloads

    def _send(self, replies: list[Run]) -> None:
        """Send now; owe what the client has no room for."""
        if not replies or self._send_error:
            return
        if self._owed:
            owe(self._owed, replies)
        elif self._shared.debug:
            self._note(Kind.ANSWERED, Priority.DEBUG, "send data to client")
            sent = self._send_now(replies)
            self._note(Kind.WROTE, Priority.DEBUG, f"wrote to socket: {sent} bytes")
        else:
            self._send_now(replies)

    def _send_now(self, owed: list[Run]) -> int:
        """Send what there is room for; return the bytes. After an error nothing is owed."""
        line, count = owed[0]
        everything = len(owed) == 1 and len(line) * count <= SEND
        data = line * count if everything else first_bytes(owed)
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            self._owed = owed
            return 0
        except OSError as error:
            self._send_error = error.errno or errno.EPIPE
            self._owed = NOTHING
            return 0
        self._owed = NOTHING if everything and sent == len(data) else after_sent(owed, sent)
        return sent

    # Waiting

    @_close_on_error
    def on_deadline(self) -> None:
        """End this wait: its deadline has passed."""
        silence = Reason.STOP if self._shared.draining else Reason.IDLE
        match self.wait:
            case Wait.READ if self.protocol.taken:
                self._await(Wait.READ)  # the client waits for ackd
            case Wait.READ:
                self.finish(silence)
            case Wait.WRITE:
                self.close(silence)
            case Wait.JOURNAL:
                recorder = self._shared.recorder
                full, away = LOG_FULL, unreachable(recorder.sink.name)
                self._refuse(full if recorder.acks_wait else away)
            case _:
                self.close(self.reason)

    def restart_deadline(self) -> None:
        """Count the deadline from now, as after a change of the timeouts."""
        self.deadline = monotonic() + self._shared.timeouts.of(self.wait, self.owes)

    def _settle(self) -> None:
        """Wait for the one thing that must come next."""
        if self._owed and len(self._owed) > _MOST_RUNS:
            self._await(Wait.WRITE)
        elif self.protocol.waiting:
            refusable = not (self.protocol.taken and self._shared.recorder.obstacle)
            self._await(_JOURNAL if refusable else Wait.COMMIT)
        elif not self._eof:
            self._await(_READ)
        elif self._owed:
            self._await(Wait.WRITE)
        elif self.protocol.taken:
            self._await(Wait.COMMIT)
        elif self._send_error:
            self.close(Reason.LOST, _lost(os.strerror(self._send_error)))
        else:
            self.close(Reason.CLIENT)

    def _go_on(self) -> None:
        """Settle after replies were sent; payloads that wait for their turn keep their deadline."""
        if self.wait is Wait.JOURNAL:
            deadline = self.deadline
            self._await(Wait.JOURNAL)
            self.deadline = deadline
        else:
            self._settle()

    def _await(self, wait: Wait) -> None:
        owes = bool(self._owed)
        timeouts = self._shared.timeouts
        usual = wait is _READ and not owes
        self.deadline = monotonic() + (timeouts.idle if usual else timeouts.of(wait, owes))
        before = self.wait
        if wait is not before or owes is not self.owes:
            self.wait, self.owes = wait, owes
            self._shared.changed(self, before)

    def _refuse(self, reason: str) -> None:
        """Reply `not received` to what waits, or to what has arrived meanwhile.

        Taken payloads must be answered first; then what waits has a new deadline.
        """
        if self.protocol.taken:
            self._await(Wait.COMMIT)
            return
        if not self.protocol.waiting:
            with suppress(BlockingIOError):
                self._receive()
        refused = self.protocol.refused
        replies = self.protocol.refuse(reason)
        self._shared.count_refused(self.protocol.refused - refused, kind_of_refusal(reason))
        self._send(replies)
        self._settle()

    # The end

    @_close_on_error
    def finish(self, reason: Reason) -> None:
        """End the sending, and close when the client has closed, so that it gets all replies."""
        self.reason = reason
        self._owed = NOTHING
        self._socket.shutdown(socket.SHUT_WR)
        self._await(Wait.LINGER)

    @_close_on_error
    def on_linger(self) -> None:
        """Read what the client still sends and forget it.

        Closing with unread input would reset the connection, and the client would lose replies that
        are still on their way: RFC 1122, 4.2.2.13.
        """
        if not self._socket.recv(CHUNK):
            self.close(self.reason)

    def close(self, reason: Reason, why: str = "") -> None:
        """Close at once; `why`, if given, is recorded as the reason.

        The end is recorded when it is known whether taken payloads are on the disk.
        """
        self._end_beginning()
        self._owed = NOTHING
        self._await(Wait.NOTHING)
        self._socket.close()
        self._closed_why = why or reason.value
        if self._connect_recorded and not self.protocol.taken:
            self._record_close(self._closed_why)

    # What is recorded about the connection

    def _record_connect(self) -> None:
        """Make the prefix of this connection's records, and record that the client is there.

        Only when it has sent something: otherwise each health check would leave two records. And
        only within the client's quota; beyond it, the end is not recorded either.
        """
        self._prefix = self._shared.recorder.prefix(self._origin)
        within_quota = self._shared.debug or self._shared.connect_quota.admits(self.peer)
        self._connect_recorded = within_quota
        if within_quota:
            self._note(Kind.CONNECTED, Priority.INFO, "socket connected")

    def _record_close(self, why: str) -> None:
        protocol = self.protocol
        seconds = round(monotonic() - self._started, 3)
        unended = protocol.unended
        ends = " and ".join(name for end, name in _ENDS if end in unended.ends)
        detail = (
            f"payloads: {protocol.acknowledged} acknowledged,"
            f" {protocol.refused} refused; {protocol.received} bytes, {seconds} s, {why}"
            f"{_DROPPED if why == _RESET else ''}"
        )
        fields: _Fields = (
            ("ACKD_PAYLOADS", protocol.acknowledged),
            ("ACKD_REFUSED", protocol.refused),
            ("ACKD_BYTES", protocol.received),
            ("ACKD_SECONDS", seconds),
            ("ACKD_REASON", why),
        )
        if unended.size:
            holding = f", which hold {ends}" if ends else ""
            detail += f"; not recorded: {unended.size} bytes without an end of line{holding}"
            fields += (("ACKD_UNENDED", unended.size),)
            fields += (("ACKD_UNENDED_HOLDS", ends),) if ends else ()
        self._note(Kind.CLOSED, Priority.INFO, "closed the socket", fields, detail)

    def _note(
        self,
        kind: Kind,
        priority: Priority,
        message: str,
        fields: _Fields = (),
        detail: str = "",
    ) -> None:
        self._shared.recorder.note(Record(kind, priority, message, self._origin, fields, detail))


def cookie(stream: Stream) -> int:
    """Return the kernel's number for a socket, the same in every process that has it."""
    return int.from_bytes(stream.getsockopt(socket.SOL_SOCKET, _SO_COOKIE, 8), sys.byteorder)
