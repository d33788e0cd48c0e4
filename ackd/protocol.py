"""The exchange as bytes: framing and replies for both sides, without any I/O.

Payloads are lines that end in LF; one CR before the LF does not belong to the payload. The server
answers each payload with one line, in order: the ack, or `not received: REASON`. It answers a
client that it rejects with one line, `not connect: REASON`: instead of the greeting, or instead of
the first reply if the first bytes of the client are another protocol's.
"""

from collections import deque
from enum import Enum
from functools import lru_cache
from typing import Generic, NamedTuple, TypeAlias, TypeVar

NOT_CONNECT = b"not connect"
NOT_RECEIVED = b"not received"

# Reasons that the server gives in these lines. ackctl looks for them to say what can be done.
NOT_ALLOWED = "is not allowed here"
TOO_MANY_CONNECTIONS = "too many connections"
STOPPING = "ackd is stopping"
UNREACHABLE = " can't be reached"  # after the name of the sink
HANGS = " takes no records"  # as above, for a sink that can be reached
JOURNAL_UNREACHABLE = f"the journal{UNREACHABLE}"
OUTPUT_UNREACHABLE = f"the standard output{UNREACHABLE}"
NOT_STORED = "the journal does not store "  # which payloads, and why, follows
LOG_FULL = "the log is full"
DISK_FULL = "the disk is full"
DISK_FAILED = "the disk failed: "  # the system's error message follows
DISK_HANGS = "the disk does not answer"
LONGER_THAN = "longer than "  # a number of bytes follows
NO_PROXY_PROTOCOL = "this port takes no PROXY header, switch it off in the balancer"
NO_TLS = "this port takes no TLS, connect without it"
NO_HTTP = "this port takes no HTTP, send lines of text over plain TCP"
EXPECTS_TLS = "this port expects TLS"
WRONG_PROXY_HEADER = "wrong PROXY header: "  # what is wrong with it follows
EXPECTS_PROXY_HEADER = "this port expects a PROXY header from your address"
FOREIGN_REASONS = (NO_PROXY_PROTOCOL, NO_TLS, NO_HTTP)
# The same client gets these reasons again until an administrator changes a configuration.
LASTING_REASONS = (NOT_ALLOWED, EXPECTS_TLS, EXPECTS_PROXY_HEADER, *FOREIGN_REASONS)

# Bytes. ackd sends no longer line; without a limit, another server's line could fill the memory.
MAX_REPLY = 65536


def unreachable(name: str) -> str:
    """Return the reason for refusing payloads when ackd can't reach the sink of this name."""
    return name + UNREACHABLE


def greeting_line(greeting: bytes) -> bytes:
    """Return the greeting and LF, or nothing if the greeting is empty."""
    return greeting + b"\n" if greeting else b""


def ack_line(ack: bytes) -> bytes:
    """Return the line that acknowledges one payload, or nothing if the ack is empty."""
    return ack + b"\n" if ack else b""


def rejection_line(reason: str) -> bytes:
    """Return the line that a rejected client gets."""
    return NOT_CONNECT + b": " + reason.encode() + b"\n"


def _refusal_line(reason: str) -> bytes:
    return NOT_RECEIVED + b": " + reason.encode() + b"\n"


@lru_cache(maxsize=8)  # a client that sends only such lines costs one line, not one for each
def _longer_than(limit: int) -> bytes:
    return _refusal_line(f"{LONGER_THAN}{limit} bytes")


# Equal replies in a row: a line, and how many of it. A client that sends and never reads can be
# owed millions of acks.
Run: TypeAlias = tuple[bytes, int]


def add_run(runs: list[Run], line: bytes, count: int) -> None:
    """Add `count` equal lines to the end of `runs`; an empty line adds nothing."""
    if not line or not count:
        return
    if runs and runs[-1][0] == line:
        runs[-1] = (line, runs[-1][1] + count)
    else:
        runs.append((line, count))


# Data of so many bytes or more is searched for one or two line ends before it is split.
_LONG = 2048


# Named tuples, here and below: importing `dataclasses` would delay each `ackctl send` noticeably.
class ProtocolState(NamedTuple):
    """The state of a ServerProtocol, from which another ServerProtocol can continue.

    Each refusal is (how many of `payloads` come before it, reply). `skipped` are the bytes of a
    refused line whose end has not arrived, and `skipped_ends` those of CR and NUL that it holds.
    After EOF, `partial` is a last line that waits for its record.
    """

    partial: bytes
    skipping: bool
    payloads: tuple[bytes, ...]
    refusals: tuple[tuple[int, bytes], ...]
    received: int
    acknowledged: int
    refused: int
    skipped: int = 0
    skipped_ends: bytes = b""


class Unended(NamedTuple):
    """Bytes after the last LF that were not recorded; `ends` are those of CR and NUL in them.

    Some devices end their lines in CR or NUL only.
    """

    size: int
    ends: bytes


# All clients without payloads or refusals share these lists, which saves memory. They stay empty.
_NO_PAYLOADS: list[bytes] = []
_NO_REFUSALS: list[tuple[int, bytes]] = []


class ServerProtocol:
    """One client's lines and the replies to them.

    `payloads` wait for their record, oldest first. A line that is too long is never among them: its
    refusal is kept, and comes out in its place between the acks. Only acknowledged payloads are
    numbered, so the records of a connection count 1, 2, 3 without a gap.

    `taken` is the number of payloads that are recorded, but not answered yet. While there are any,
    payloads behind them can be taken as well, but not answered: replies come out in order.

    A last line that EOF has ended instead of LF comes after all others, alone: it may be only the
    beginning of what the client wanted to send.

    `partial` is what has arrived of a line whose end has not.

    Received data is split only as far as the caller asks for: 64 KiB can hold 65,536 payloads, and
    as objects they need far more memory than as bytes.
    """

    __slots__ = (
        "_ack",
        "_answered",
        "_last",
        "_record_empty",
        "_refusals",
        "_skipped",
        "_unsplit",
        "_unterminated",
        "max_payload",
        "partial",
        "payloads",
        "received",
        "refused",
        "sequence",
        "taken",
    )

    def __init__(self, max_payload: int, ack: bytes, record_empty: bool = True) -> None:
        self.payloads: list[bytes] = _NO_PAYLOADS
        self.taken = 0
        self.received = 0  # bytes
        self.sequence = 1  # the number that the first of `payloads` will have
        self.refused = 0
        self._answered = 0  # payloads that are acknowledged or refused
        self._unsplit = b""
        self.partial: bytes | bytearray = b""
        self._last = b""  # the line that EOF has ended, until it is among the payloads
        self._unterminated = False
        self._skipped: Unended | None = None  # of a refused line whose end has not arrived
        # (payloads that come before it, reply)
        self._refusals: list[tuple[int, bytes]] = _NO_REFUSALS
        self.configure(max_payload, ack, record_empty)

    def configure(self, max_payload: int, ack: bytes, record_empty: bool = True) -> None:
        """Change the longest payload, in bytes, and the ack line, which ends in LF or is empty.

        Without `record_empty`, lines that have no bytes but CR and NUL are no payloads.
        """
        self.max_payload = max_payload
        self._ack = ack
        self._record_empty = record_empty

    def state(self) -> ProtocolState:
        """Return the state from which another ServerProtocol can continue; nothing is `taken`."""
        self._split_all()
        payloads, partial = tuple(self.payloads), self._last or bytes(self.partial)
        if self.unterminated:
            (partial,), payloads = payloads, ()
        return ProtocolState(
            partial,
            bool(self._skipped),
            payloads,
            tuple((position - self._answered, reply) for position, reply in self._refusals),
            self.received,
            self.acknowledged,
            self.refused,
            *(self._skipped or Unended(0, b"")),
        )

    def restore(self, state: ProtocolState) -> None:
        """Continue from the state of another ServerProtocol; EOF must be taken again."""
        self.partial = bytearray(state.partial)
        self.payloads = list(state.payloads)
        self._answered = 0
        self._refusals = list(state.refusals)
        self.received = state.received
        self.sequence = state.acknowledged + 1
        self.refused = state.refused
        unended = Unended(state.skipped, state.skipped_ends)
        self._skipped = unended if state.skipping else None

    @property
    def acknowledged(self) -> int:
        """How many payloads have been acknowledged."""
        return self.sequence - self.taken - 1

    @property
    def unfinished(self) -> int:
        """How many bytes are kept of a line whose end has not arrived."""
        return len(self.partial)

    @property
    def waiting(self) -> bool:
        """Whether payloads must be recorded before more data is received."""
        return bool(self.payloads or self._unsplit or self._last)

    @property
    def unterminated(self) -> bool:
        """Whether `payloads` is the one line that EOF has ended instead of LF."""
        return self._unterminated and bool(self.payloads)

    @property
    def unended(self) -> Unended:
        """The bytes that wait for the end of their line, or for their record."""
        if self._skipped:
            return self._skipped
        rest = self._last or bytes(self.partial)
        if self.unterminated:
            (rest,) = self.payloads
        return Unended(len(rest), _ends_in(rest))

    def receive_data(self, data: bytes, most: int = -1) -> list[bytes]:
        """Take data from the client; return the payloads that wait for their record.

        At most `most` lines are split off, by default all; `split` returns the others.
        """
        if self._unsplit:
            self._split_all()
        self.received += len(data)
        self._split(data, most)
        return self.payloads

    def split(self, most: int) -> list[bytes]:
        """Return the waiting payloads; if there are none, split off at most `most` more lines."""
        if self._unsplit and not self.payloads:
            self._split(self._unsplit, most)
        if self._last and not self.payloads:
            self._unterminated = True
            self._take_last()
        return self.payloads

    def receive_eof(self) -> list[bytes]:
        """Take the client's EOF; a last line without LF is a payload too, after all others."""
        self._split_all()
        if self.partial:
            self._last, self.partial = bytes(self.partial), b""
        return self.split(-1)

    def acknowledge(self, count: int) -> list[Run]:
        """Return the replies that are due after the first `count` payloads have been recorded."""
        if count == len(self.payloads):  # the usual case
            self.payloads = _NO_PAYLOADS
        else:
            self._remove(count)
        self.sequence += count
        return self._answer(count, self._ack)

    def take(self, count: int) -> list[Run]:
        """Take the first `count` payloads: they are recorded, and will be answered later.

        Return the replies that are due before theirs: refusals of lines that were too long.
        """
        self._remove(count)
        replies = self._answer(0, b"")
        self.sequence += count
        self.taken += count
        return replies

    def acknowledge_taken(self, count: int) -> list[Run]:
        """Return the replies that are due after the first `count` taken payloads are safe."""
        self.taken -= count
        return self._answer(count, self._ack)

    def refuse_taken(self, reason: str) -> list[Run]:
        """Return the replies to all taken payloads if none of them is safe."""
        count, self.taken = self.taken, 0
        self.sequence -= count
        self.refused += count
        return self._answer(count, _refusal_line(reason))

    def refuse(self, reason: str) -> list[Run]:
        """Return the replies to all waiting payloads if none of them can be recorded."""
        self._split_all()
        self._take_last()
        return self.refuse_payloads(reason)

    def refuse_payloads(self, reason: str) -> list[Run]:
        """Return the replies to `payloads`, which leave out those that are not split off yet."""
        count = len(self.payloads)
        self.payloads = _NO_PAYLOADS
        self.refused += count
        return self._answer(count, _refusal_line(reason))

    def _split_all(self) -> None:
        self._split(self._unsplit, -1)

    def _split(self, data: bytes, most: int) -> None:
        lines = data.split(b"\n", most) if len(data) < _LONG else _split_long(data, most)
        rest = lines.pop()
        cut = len(lines) == most
        if lines:
            if self.partial or self._skipped:
                self._end_partial(lines)
            if self._record_empty and len(data) <= self.max_payload and b"\r" not in data:
                # The usual case: adding all lines at once is far faster than one by one.
                self.payloads = [*self.payloads, *lines] if self.payloads else lines
            else:
                for line in lines:
                    self._take(line)
        self._unsplit = rest if cut else b""
        if rest and not cut:
            self._hold(rest)

    def _end_partial(self, lines: list[bytes]) -> None:
        """Complete the unfinished line with the first of `lines`, or end a refused line with it."""
        if self._skipped:
            self._skipped = None
            del lines[0]
        else:
            first = b"".join((self.partial, lines.pop(0)))
            self.partial = b""
            self._take(first)

    def _take(self, line: bytes) -> None:
        self._append(line[:-1] if line.endswith(b"\r") else line)

    def _take_last(self) -> None:
        if self._last:
            self._append(self._last)
            self._last = b""

    def _append(self, payload: bytes) -> None:
        if len(payload) > self.max_payload:
            self._refuse_long()
        elif not (self._record_empty or payload.strip(_ENDS)):
            return
        elif self.payloads:
            self.payloads.append(payload)
        else:
            self.payloads = [payload]

    def _hold(self, rest: bytes) -> None:
        """Keep an unfinished line until its end arrives or it is certainly too long."""
        if self._skipped:
            size, ends = self._skipped
            self._skipped = Unended(size + len(rest), _ends_in(ends + rest))
            return
        if not self.partial:
            self.partial = rest
        elif isinstance(self.partial, bytes):
            self.partial = bytearray(self.partial + rest)
        else:
            self.partial += rest
        if len(self.partial) > self.max_payload + 1:  # 1: a CR before the LF
            self._skipped = Unended(len(self.partial), _ends_in(bytes(self.partial)))
            self.partial = b""
            self._refuse_long()

    def _refuse_long(self) -> None:
        self.refused += 1
        position = self._answered + self.taken + len(self.payloads)
        refusal = (position, _longer_than(self.max_payload))
        if self._refusals:
            self._refusals.append(refusal)
        else:
            self._refusals = [refusal]

    def _remove(self, count: int) -> None:
        if count < len(self.payloads):
            del self.payloads[:count]
        else:
            self.payloads = _NO_PAYLOADS

    def _answer(self, count: int, reply: bytes) -> list[Run]:
        """Return the replies to the next `count` payloads, with refusals in their places."""
        self._answered += count
        if self._refusals:
            return self._answer_among_refusals(self._answered - count, reply)
        return [(reply, count)] if reply and count else []

    def _answer_among_refusals(self, start: int, reply: bytes) -> list[Run]:
        replies: list[Run] = []
        due = [refusal for refusal in self._refusals if refusal[0] <= self._answered]
        for position, refusal in due:
            add_run(replies, reply, position - start)
            add_run(replies, refusal, 1)
            start = position
        self._refusals = self._refusals[len(due) :] or _NO_REFUSALS
        add_run(replies, reply, self._answered - start)
        return replies


# Some devices end a line with these bytes instead of LF.
_ENDS = b"\r\0"


def _ends_in(data: bytes) -> bytes:
    """Return those of CR and NUL that the data holds."""
    return bytes(end for end in _ENDS if end in data)


def _split_long(data: bytes, most: int) -> list[bytes]:
    """Split like bytes.split, but faster for data that has one or two line ends."""
    end = data.find(b"\n")
    if end < 0:
        return [data]
    if data.find(b"\n", end + 1) < 0:
        return [data[:end], data[end + 1 :]]
    return data.split(b"\n", most)


class Verdict(Enum):
    """What a reply says about its payload."""

    ACKNOWLEDGED = "acknowledged"
    REFUSED = "refused"


class Reply(NamedTuple):
    """One line from the server: what it says, and the line without its end."""

    verdict: Verdict
    text: bytes

    def gives_reason(self, reason: str) -> bool:
        """Return whether this refusal has the given reason."""
        return self.verdict is Verdict.REFUSED and reason.encode() in self.text

    @property
    def limit(self) -> int | None:
        """The longest payload (bytes) that the server takes, if this refusal states it."""
        if not self.gives_reason(LONGER_THAN):
            return None
        digits = self.text.partition(LONGER_THAN.encode())[2].partition(b" ")[0]
        return int(digits) if digits.isdigit() and len(digits) < _DIGITS else None


# No limit of an ackd has so many digits.
_DIGITS = 10


class Violation(Enum):
    """What the server sent although no ackd sends it."""

    EXCESS_REPLY = "excess reply"  # more replies than payloads
    ENDLESS_LINE = "endless line"  # more than MAX_REPLY bytes


TagT = TypeVar("TagT")


class ClientProtocol(Generic[TagT]):
    """The client's side: payloads out, the greeting and then one reply for each payload in.

    `in_flight` has the tags of the payloads that have no reply yet, oldest first. The caller gives
    a tag with each payload and gets it back with the reply.

    A line that begins with `not connect` is never a reply: it rejects the client, after the
    greeting as well. The server records nothing of a client that it rejects, so nothing after a
    rejection is a reply.

    A `violation` ends the exchange. The good replies before it have been returned.
    """

    __slots__ = ("greeting", "in_flight", "partial", "rejection", "violation")

    def __init__(self, expect_greeting: bool = True) -> None:
        self.greeting: bytes | None = None if expect_greeting else b""
        self.in_flight: deque[TagT] = deque()
        self.rejection = b""  # the line that rejected the client
        self.violation: Violation | None = None
        self.partial = b""  # a line whose end has not come

    @property
    def rejected(self) -> bool:
        """Whether the server has said `not connect`."""
        return bool(self.rejection)

    @property
    def unanswered(self) -> int:
        """How many payloads have no reply yet."""
        return len(self.in_flight)

    def send_payload(self, payload: bytes, tag: TagT) -> bytes:
        """Return the line that carries the payload; a payload with LF in it is a ValueError."""
        if b"\n" in payload:
            raise ValueError("a payload is one line: it can't hold a newline")
        self.in_flight.append(tag)
        # The server takes one CR off, so a payload that ends in CR gets one to lose.
        return payload + (b"\r\n" if payload.endswith(b"\r") else b"\n")

    def receive_data(self, data: bytes) -> list[tuple[TagT, Reply]]:
        """Take what the server sent; return the tag and the reply of each payload that has one."""
        if self.rejected:
            return []
        received = self.partial + data
        *lines, self.partial = received.split(b"\n")
        if lines and self.greeting is None:
            self._greet(lines.pop(0))
        if NOT_CONNECT in received:
            lines = self._until_rejection(lines)
        due = lines[: len(self.in_flight)]
        if len(due) < len(lines):
            self.violation = Violation.EXCESS_REPLY
        elif len(self.partial) > MAX_REPLY:
            self.violation = Violation.ENDLESS_LINE
        next_tag = self.in_flight.popleft
        return [(next_tag(), _reply(line)) for line in due]

    def abandon(self) -> list[TagT]:
        """Return the tags of the payloads that have no reply, and forget them."""
        tags = list(self.in_flight)
        self.in_flight.clear()
        return tags

    def _greet(self, greeting: bytes) -> None:
        self.greeting = greeting
        if NOT_CONNECT in greeting:
            self.rejection = greeting

    def _until_rejection(self, lines: list[bytes]) -> list[bytes]:
        """Note the rejection, if there is one, and return the lines before it."""
        if self.rejected:
            return []
        for number, line in enumerate(lines):
            if line.startswith(NOT_CONNECT):
                self.rejection = line
                return lines[:number]
        return lines


@lru_cache(maxsize=8)  # the acks of a server are all alike
def _reply(line: bytes) -> Reply:
    refused = line.startswith(NOT_RECEIVED)
    return Reply(Verdict.REFUSED if refused else Verdict.ACKNOWLEDGED, line)
