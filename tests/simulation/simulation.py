"""A simulation of a server, its clients, its journal and the time, driven step by step.

The server, its sockets and the hand-over to the next server are real. The time and the journal are
simulated. The simulation checks the promise at each stored record and at each reply.
"""

import logging
import os
import re
import socket
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import count
from math import inf
from time import sleep
from typing import Protocol
from unittest.mock import patch

from ackd.config import Config, Recording
from ackd.journal.entry import JournalFormat, payloads_of
from ackd.journal.log_handler import RecordHandler
from ackd.journal.recorder import Recorder, Sink
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.loop import Loop
from ackd.records import Kind, Reason
from ackd.server.availability import HUNG, RETRY
from ackd.server.connection import cookie
from ackd.server.listener import Listeners, listen
from ackd.server.server import Server
from ackd.server.tls import Tls
from ackd.service.handover import HandoverError, State
from ackd.service.store import by_cookie
from tests.support.handover_bytes import dump, load
from tests.support.journal_socket import Entry, parse

log = logging.getLogger("ackd")

# Bytes of the buffers for replies at the server and the client: so small that they are full soon.
# With a smaller buffer at the client, the kernel would take 0.2 s for each window probe, tcp(7).
SEND_BUFFER, RECEIVE_BUFFER = 4096, 8192
LONG = re.compile(rb"not received: longer than (\d+) bytes")
STOPPING = b"not connect: ackd is stopping"
UNREACHABLE = b"not received: the journal can't be reached"
AWAY, HANGS = (
    b"not connect: the journal can't be reached",
    b"not connect: the journal takes no records",
)
# Rounds without any progress after which a client hangs; each waits a moment for the kernel.
PATIENCE, MOMENT = 1000, 0.001
# Seconds that pass in such a round.
STEP = 0.05
# Seconds after which a client has certainly read the replies sent while the journal was away.
LATE = 5.0
# Seconds after which each client with an idle timeout of at most half of them is disconnected.
LONG_TIME = 70.0
# Rounds in one moment after which the server spins.
SPINNING = 1000
# The modules that look at the clock.
CLOCKS = (
    "loop",
    *(f"server.{name}" for name in ("server", "connection", "acceptor", "availability")),
    *(f"server.{name}" for name in ("quota", "ending", "commits", "arrivals", "tls")),
    *(f"server.{name}" for name in ("journal_queue", "durations")),
)


class Clock:
    """The time, which passes only when the test changes it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Journal:
    """Takes whole records as long as there is room for them; it can also be away.

    It calls `on_record` with each record before it takes the record. While it `hangs`, it stores
    none of them.
    """

    def __init__(self, clock: Clock, on_record: Callable[[Entry], None]) -> None:
        self.open = True
        self.room = inf
        self.hangs = False
        self.refusals = 0  # puts that fail although the journal seems to have room
        self._clock = clock
        self._on_record = on_record
        self._away_since = self._back_since = -inf
        self.absence = self.longest_absence = 0.0
        self._took_at, self._longest_pause = clock.now, 0.0
        # Writable unless its counter is at its highest, eventfd(2).
        self.readiness = os.eventfd(0, os.EFD_NONBLOCK)

    @property
    def takes(self) -> bool:
        """Whether it takes every record."""
        return self.open and self.room == inf and not self.refusals

    def make_room(self, room: float) -> None:
        self.room = room
        self._set_readiness()

    def refuse(self, times: int) -> None:
        """Refuse the next attempts, as many as `times`, although there is room."""
        self.refusals = times

    @property
    def longest_pause(self) -> float:
        """The longest time in which it has taken nothing."""
        return max(self._longest_pause, self._clock.now - self._took_at)

    def leave(self) -> None:
        if self.open:
            self.open = False
            # The server need not have noticed that the journal was back for less than this.
            if self._clock.now - self._back_since > RETRY:
                self._away_since = self._clock.now
            self._set_readiness()

    def come_back(self) -> None:
        if not self.open:
            self.note_absence()
            self.open = True
            self._back_since = self._clock.now
            self._set_readiness()

    def note_absence(self) -> None:
        """Note how long the journal has been away, now or the last time, and at most."""
        if not self.open:
            self.absence = self._clock.now - self._away_since
            self.longest_absence = max(self.longest_absence, self.absence)

    def seems_away(self, seconds: float) -> bool:
        """Return whether it was away for so long, and a client may not yet know that it is back."""
        self.note_absence()
        late = self._clock.now - self._back_since
        return self.absence + RETRY >= seconds and (not self.open or late <= LATE)

    def take(self, record: bytes) -> bool:
        if self.refusals or not self.room:
            self.refusals -= self.refusals > 0
            return False
        self._on_record(parse(record))
        self._longest_pause, self._took_at = self.longest_pause, self._clock.now
        self.make_room(self.room - 1)
        return True

    def close(self) -> None:
        os.close(self.readiness)

    def _set_readiness(self) -> None:
        """Be writable if there is room, or if the journal is away, unix(7)."""
        with suppress(BlockingIOError):
            os.eventfd_read(self.readiness)
        if self.open and not self.room:
            os.eventfd_write(self.readiness, 2**64 - 2)


class JournalSink(Sink):
    """One process's socket to the journal."""

    capacity = 1 << 20
    confirms = True

    def __init__(self, journal: Journal, records: Log) -> None:
        self.why = ""
        self._journal = journal
        self._records = records
        self._descriptor = os.dup(journal.readiness)
        self.connect()

    def connect(self) -> bool:
        self.reachable = self._journal.open
        self.why = "" if self.reachable else "it is away"
        return self.reachable

    def put(self, record: bytes) -> bool:
        return self.connect() and self._journal.take(record)

    @property
    def send(self) -> Callable[[bytes], object]:
        return self._send

    def _send(self, record: bytes) -> None:
        if not self.put(record):
            raise BlockingIOError

    def watch(self, _loop: Loop, recorder: Recorder) -> None:
        recorder.look = self._look

    def _look(self, _now: float) -> None:
        if self._journal.hangs:
            return
        self._records.set_read(self._records.sent)
        self._records.set_safe(self._records.sent)

    def fileno(self) -> int:
        return self._descriptor

    def close(self) -> None:
        os.close(self._descriptor)


@dataclass
class Expectations:
    """All greetings, acks and limits that servers of this run may send; settings change."""

    greetings: set[bytes] = field(default_factory=set)
    acks: set[bytes] = field(default_factory=set)
    limits: set[int] = field(default_factory=set)
    unrecorded: bool = False  # whether an ack may have no record

    def add(self, config: Config) -> None:
        self.unrecorded |= config.record is Recording.NONE
        self.greetings.add(config.greeting.encode())
        self.acks.add(config.ack.encode())
        self.limits.add(config.max_payload)


class ClientSocket(Protocol):
    """What a client needs of its socket."""

    def send(self, data: bytes, /) -> int: ...

    def recv(self, size: int, flags: int = 0, /) -> bytes: ...

    def shutdown(self, how: int, /) -> None: ...

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None: ...

    def close(self) -> None: ...


class Client:
    """One client: its sent lines, its replies, and its payloads that are stored."""

    def __init__(self, address: str, port: int, world: "World") -> None:
        self.address = address
        self.reading = self.prompt = True  # `prompt`: it has never stopped reading
        self.gone = False  # the client has closed
        self.shut = False  # the client has ended its sending
        self.ended = False  # the server has closed, or the connection is lost
        self.abandoned = False  # the server was asked to end it, or has ended
        self.torn = False  # any part of its payloads without an ack may be stored
        self.lines: list[bytes] = []
        self.stored: dict[int, bytes] = {}
        self.promised: dict[int, bytes] = {}  # acknowledged, by their numbers
        self.replies = 0
        self.acknowledged = 0
        self.reason = ""
        self._world = world
        self._rest = b""
        self._input = b""
        self._greeted = False
        self.greeting = b""
        self._connection = b""
        self._searched = 0  # lines up to which stored payloads have been found
        self._active_at = self._active_before = world.clock.now
        self._longest_silence = 0.0
        self._socket = self._connect(address, port)

    def _connect(self, address: str, port: int) -> ClientSocket:
        return connected(address, port)

    # Actions of the client

    def send(self, data: bytes) -> None:
        """Send as much as the kernel takes; only these bytes count as sent."""
        if self.shut:
            return
        try:
            sent = self._socket.send(data)
        except BlockingIOError:
            return
        except ConnectionError:
            self.ended = True
            return
        *lines, self._rest = (self._rest + data[:sent]).split(b"\n")
        self.lines += (line[:-1] if line.endswith(b"\r") else line for line in lines)
        self._note_silence()
        # Only sending counts: the server need not notice that the client reads.
        self._active_before, self._active_at = self._active_at, self._world.clock.now

    def half_close(self) -> None:
        """End the sending; an unterminated rest is a line too."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        self._end_sending()

    def end_in_the_middle(self) -> None:
        """End the sending without a newline."""
        self.send(b"half")
        self.half_close()

    def close(self) -> None:
        self._end_sending()
        self.gone = True
        self._socket.close()

    def reset(self) -> None:
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def read(self) -> bool:
        """Read and check all that has arrived; return whether anything had."""
        if self.gone or self.ended or not self.reading:
            return False
        try:
            data = self._socket.recv(65536)
        except BlockingIOError:
            return False
        except ConnectionError:
            data = b""
        self.ended = not data
        *replies, self._input = (self._input + data).split(b"\n")
        for reply in replies:
            self._on_reply(reply)
        return True

    def _end_sending(self) -> None:
        if not self.shut:
            self.shut = True
            self.lines += [self._rest] if self._rest else []
            self._rest = b""

    # The promise to the client

    @property
    def waits(self) -> bool:
        """Whether it must get a reply, and would read it."""
        finished = self.ended or self.abandoned or Reason.IDLE in self._reasons()
        return self.reading and not finished and self.replies < len(self.lines)

    def stop_or_start_reading(self) -> None:
        self.reading = not self.reading
        self.prompt = False

    @property
    def complete(self) -> bool:
        """Whether each line has its reply, unless the server had a reason to end it earlier."""
        idle = self.reason != Reason.CLIENT.value and Reason.IDLE in self._reasons()
        return self.abandoned or idle or self.replies == len(self.lines)

    def _on_reply(self, reply: bytes) -> None:
        if not self._greeted:
            self._greeted = True
            self._on_greeting(reply)
            return
        assert self.replies < len(self.lines) + bool(self._rest), "more replies than payloads"
        line = [*self.lines, self._rest][self.replies]
        self.replies += 1
        if reply in self._world.expected.acks:
            self.acknowledged += 1
            self.promised[self.acknowledged] = line
            if self.acknowledged in self.stored:
                assert self.stored[self.acknowledged] == line, "acknowledged in another's place"
            else:
                early = self._world.expected.unrecorded or self._world.acks_wait
                assert early, "acknowledged, not stored"
        else:
            self._on_refusal(reply, line)

    def _on_greeting(self, reply: bytes) -> None:
        self.greeting = reply
        if reply in self._world.greetings:
            return
        self.abandoned = True
        if self._world.acks_wait:
            assert reply in self._world.rejections
            return
        journal, wait = self._world.journal, self._world.shortest_wait
        assert reply in (AWAY, HANGS)
        if reply == AWAY:
            assert journal.seems_away(wait) or not self.prompt, "rejected, but it is there"
        else:
            assert journal.longest_pause >= max(wait, HUNG), "rejected, but it takes records"

    def _on_refusal(self, reply: bytes, line: bytes) -> None:
        if long := LONG.fullmatch(reply):
            limit = int(long[1])
            assert limit in self._world.expected.limits
            assert len(line) > limit
        elif self._world.acks_wait:
            assert reply in self._world.refusals
        else:
            assert reply == UNREACHABLE
            journal, wait = self._world.journal, self._world.shortest_wait
            assert journal.seems_away(wait) or not self.prompt, "refused, but it is there"
            assert journal.longest_absence + RETRY >= wait

    def on_record(self, entry: Entry) -> None:
        """Check a record about this client before it is stored."""
        kind = entry["MESSAGE_ID"].decode()
        if self._world.may_repeat and self._is_repeated(kind, entry):
            return
        assert not self.reason, "something was recorded after its end"
        if kind == Kind.CONNECTED.value:
            assert not self._connection, "connected twice"
            self._connection = entry["ACKD_CONNECTION"]
        if kind == Kind.PAYLOAD.value:
            self._on_payload(entry)
        if kind == Kind.CLOSED.value:
            self._on_closed(entry)

    def _on_payload(self, entry: Entry) -> None:
        if self._world.acks_wait:  # the record of the connection may have been given up
            self._connection = entry["ACKD_CONNECTION"]
        assert entry["ACKD_CONNECTION"] == self._connection
        payloads, acks = payloads_of(entry), self._visible_acks()
        assert int(entry["ACKD_BYTES"]) == sum(len(payload) for _, payload in payloads)
        for number, payload in payloads:
            assert number > acks or self._world.acks_wait, "acknowledged before it was stored"
            assert number not in self.stored
            in_order = number == len(self.stored) + 1
            assert in_order or self.torn or self._world.expected.unrecorded
            assert payload in self.lines[self._searched :], "stored, but not sent so"
            self._searched = self.lines.index(payload, self._searched) + 1
            self.stored[number] = payload

    def _is_repeated(self, kind: str, entry: Entry) -> bool:
        """Return whether a record is there already, and the same."""
        if kind == Kind.PAYLOAD.value:
            return all(self.stored.get(n) == payload for n, payload in payloads_of(entry))
        return bool(self.reason if kind == Kind.CLOSED.value else self._connection)

    @property
    def kept(self) -> bool:
        """Whether all that was acknowledged is stored."""
        return self._world.expected.unrecorded or self.promised.items() <= self.stored.items()

    def _on_closed(self, entry: Entry) -> None:
        self.reason = entry["ACKD_REASON"].decode()
        payloads = int(entry["ACKD_PAYLOADS"])
        assert payloads == len(self.stored) or self._world.expected.unrecorded
        assert payloads >= max(self.acknowledged, len(self.stored))
        assert any(self.reason.startswith(cause.value) for cause in self._reasons()), self.reason

    def _reasons(self) -> list[Reason]:
        """Return the reasons that the server may have had to close it."""
        self._note_silence()
        causes = {
            Reason.CLIENT: self.shut,
            Reason.LOST: self.gone,
            Reason.IDLE: self._longest_silence >= self._world.shortest_idle,
            Reason.STOP: self.abandoned,
            Reason.NOT_TAKEN_OVER: self.abandoned,
        }
        return [reason for reason, happened in causes.items() if happened]

    def _note_silence(self) -> None:
        # The last action of the client may not have arrived at the server yet.
        silence = self._world.clock.now - self._active_before
        # 1e-6 is more than the rounding of a float.
        self._longest_silence = max(self._longest_silence, silence + 1e-6)

    def _visible_acks(self) -> int:
        """Count the acks that the client has read or could read now."""
        if self.gone or self.ended:
            return self.acknowledged
        try:
            waiting = self._socket.recv(65536, socket.MSG_PEEK)
        except OSError:
            return self.acknowledged
        lines = (self._input + waiting).split(b"\n")[:-1]
        return self.acknowledged + sum(line in self._world.expected.acks for line in lines)


def connected(address: str, port: int) -> socket.socket:
    """Return a socket with a small buffer that is connected from `address`."""
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER)
    # Otherwise the kernel delays data after an unanswered line, RFC 896: here for ever.
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.bind((address, 0))
    sock.connect(("127.0.0.1", port))
    sock.setblocking(False)
    return sock


class World:
    """One server after another on the same journal, their clients, and the simulated time.

    With `acks_wait`, acks wait for the disk and not for the journal; `refusals` are the replies,
    and `rejections` the first lines, that a client may get then. With `may_repeat`, what is stored
    may be stored once more.
    """

    acks_wait = may_repeat = False
    refusals: tuple[bytes, ...] = ()
    rejections: tuple[bytes, ...] = ()
    tls: Tls | None = None
    client_type = Client

    def __init__(self, config: Config) -> None:
        self.clock = Clock()
        self._patches = ExitStack()
        for module in CLOCKS:
            self._patches.enter_context(patch(f"ackd.{module}.monotonic", self.clock))
        self._patches.enter_context(patch.object(log, "propagate", False))
        self._descriptors = descriptors()
        self._log = _new_log()
        self.expected = Expectations()
        self.journal = Journal(self.clock, self._on_record)
        self.clients: list[Client] = []
        self.draining = False
        self.shortest_idle = self.shortest_wait = inf
        self.longest_wait = 0.0
        self._by_address: dict[str, Client] = {}
        self._numbers = count(1)
        self._listeners = self._open()
        self._start(config)

    # Actions of clients

    def connect(self) -> None:
        number = next(self._numbers)
        port = next(iter(self._listeners.values())).getsockname()[1]
        client = self.client_type(f"127.1.{number // 250}.{number % 250 + 1}", port, self)
        self.clients.append(client)
        self._by_address[client.address] = client

    @property
    def greetings(self) -> set[bytes]:
        """The first lines that a client may get."""
        return self.expected.greetings | ({STOPPING} if self.draining else set())

    @property
    def trouble(self) -> str:
        """What the status of the server says first."""
        return self._server.trouble

    @property
    def active(self) -> list[Client]:
        """The clients that can still do something."""
        return [client for client in self.clients if not client.gone]

    # Actions of the server

    def go_round(self, wait: float = 0) -> bool:
        """Do one round, unless the server has ended; return whether a client has read anything."""
        if not self._server.ended:
            self._server.round(wait)
        elif wait:
            sleep(wait)  # for data that is still on its way in the kernel
        return sum(client.read() for client in self.clients) > 0

    def pass_time(self, seconds: float) -> None:
        """Let the server wait and wake up as often as it wants to."""
        end = self.clock.now + seconds
        rounds = 0
        while self.clock.now < end and not self._server.ended:
            while self.go_round():
                pass  # what can be read is read at once
            timeout = 0.0 if self._loop.wait(0) else self._server.timeout()
            rounds = 0 if timeout != 0 else rounds + 1
            assert rounds < SPINNING, "the server spins"
            self.clock.now = min(end, self.clock.now + (inf if timeout is None else timeout))
        self.clock.now = end
        self.go_round()

    def be_silent(self) -> None:
        """Let no client do anything for longer than any client may be idle."""
        nothing_else = self.journal.takes and not self.draining
        self.pass_time(LONG_TIME)
        if self._config.idle_timeout and nothing_else:
            listening = [client for client in self.active if client.reading]
            assert self._comes(lambda: all(client.ended for client in listening))

    def do_without_journal(self) -> None:
        """Let the journal be away for so long that waiting payloads are refused."""
        self.journal.leave()
        before = {client: client.replies for client in self.active if client.waits}
        self.pass_time(2 * self.longest_wait + 1)
        if not self.draining:
            assert self._comes(lambda: all(c.ended or c.replies > n for c, n in before.items()))

    def _comes(self, happened: Callable[[], bool]) -> bool:
        """Return whether it happens soon: data may still be on its way in the kernel."""
        for _ in range(PATIENCE):
            if happened():
                return True
            self.go_round(MOMENT)
            self.clock.now += STEP
        return False

    def reload(self, config: Config, move: bool) -> None:
        """Go on with other settings, and on another port if `move`."""
        self._expect(config)
        self._listeners = self._open() if move else self._listeners
        self._server.configure(config, self._listeners, self.tls)

    def hand_over(self, lose_state: bool) -> None:
        """Hand over to the next server, like Service and its store."""
        self._server.ending.hand_over()
        while not self._server.ended:
            self.pass_time(STEP)
        self._server.finish_commits(self.clock.now + 5.0)
        left = list(self._server.snapshots())
        self._recorder.resume()
        text = dump(State(tuple(state for _, state in left)))
        sockets = [socket.socket(fileno=os.dup(descriptor)) for descriptor, _ in left]
        self._end_process(clean=True)
        self._start(self._config)
        try:
            state = load(b"of a later version" if lose_state else text)
        except HandoverError:
            state = State()
            self._abandon()
        for sock in sockets:
            sock.setblocking(False)
            self._server.take_over(sock, by_cookie(state).get(cookie(sock)))

    def crash(self) -> None:
        """Start the next server with nothing but the listeners and the log."""
        self._abandon()
        self._end_process(clean=False)
        self._start(self._config)

    def drain(self) -> None:
        """Ask the server to drain, whatever the clients do."""
        self._abandon()
        self.draining = True
        self._server.ending.drain()

    def heal(self) -> None:
        """Let the journal take everything, and all clients read."""
        self.journal.come_back()
        self.journal.hangs = False
        self.journal.refusals = 0
        self.journal.make_room(inf)
        for client in self.clients:
            client.reading = True

    # The end

    def finish(self) -> None:
        """Let all clients end, and check the promise to each client."""
        self.heal()
        for client in self.active:
            client.half_close()
        self._settle()
        if not self.draining:
            self._check_greeting()
            self._server.ending.drain()
        self.pass_time(5)
        assert self._server.ended, "a drain takes four seconds at most"
        self._recorder.resume()  # which may append a note
        self._server.finish_commits(self.clock.now + 5.0)
        self._recorder.resume()
        self._recorder.look(self.clock.now)
        assert self._recorder.unsettled == 0
        assert all(client.complete for client in self.active), "a line without a reply"
        assert all(client.kept for client in self.clients), "acknowledged, never stored"

    def _check_greeting(self) -> None:
        """Check that a new client is greeted soon after all is well again."""
        self.pass_time(2.0)
        self.connect()
        client = self.clients[-1]
        client.half_close()
        self._settle()
        assert not client.abandoned, "rejected without a reason"

    def close(self) -> None:
        """Close all descriptors, and check that the server has closed its own."""
        for client in self.active:
            client.close()
        self._end_process(clean=True)
        os.close(self._log)
        for listener in self._listeners.values():
            listener.close()
        self.journal.close()
        self._patches.close()
        assert descriptors() == self._descriptors, "a descriptor was left open"

    def _settle(self) -> None:
        """Do rounds until the server and all clients have seen the end of each connection."""
        patience = PATIENCE
        while self._server.connected or any(not client.ended for client in self.active):
            patience = PATIENCE if self.go_round(MOMENT) else patience - 1
            assert patience, "a client hangs"
            self.clock.now += STEP

    def _start(self, config: Config) -> None:
        self._expect(config)
        records = self._open_log()
        sink = JournalSink(self.journal, records)
        self._recorder = Recorder(sink, JournalFormat(), records, self.acks_wait)
        self._handler = RecordHandler(self._recorder)
        log.addHandler(self._handler)
        self._loop = Loop()
        self._recorder.watch(self._loop)
        self._recorder.resume()
        self._server = Server(config, {}, self._recorder, self._loop)
        self._server.configure(config, self._listeners, self.tls)
        self._server.before_sleep(self.clock.now)

    def _open_log(self) -> Log:
        """Return the log of the process before, as the next process opens it."""
        return Log(MemoryStorage(os.dup(self._log)))

    def _expect(self, config: Config) -> None:
        self._config = config
        self.expected.add(config)
        self.shortest_idle = min(self.shortest_idle, config.idle_timeout or inf)
        self.shortest_wait = min(self.shortest_wait, config.journal_wait)
        self.longest_wait = max(self.longest_wait, config.journal_wait)

    def _end_process(self, clean: bool) -> None:
        """Close all that the process has open, as its exit does."""
        for connection in self._server._connections:
            connection._socket.close()
        for arrival in self._server._arrivals._arrivals:
            arrival.preliminary.stream.close()
        log.removeHandler(self._handler)
        self._loop.close()
        self._recorder.sink.close()
        self._close_log(clean)

    def _close_log(self, clean: bool) -> None:
        """Close the log, as at an end of the process that is `clean` or not."""
        self._recorder.log.close(clean)

    def _abandon(self) -> None:
        """Note that the server ends all connections that are open now."""
        for client in self.clients:
            client.abandoned = True

    def _open(self) -> Listeners:
        listener = listen("127.0.0.1", 0)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        return {("127.0.0.1", listener.getsockname()[1]): listener}

    def _on_record(self, entry: Entry) -> None:
        if "ACKD_PEER" in entry:
            self._by_address[entry["ACKD_PEER"].decode()].on_record(entry)


def first_line(world: World) -> bytes:
    """Return the first line that a new client gets."""
    world.connect()
    client = world.clients[-1]
    while not client.greeting:
        world.go_round(MOMENT)
    return client.greeting


def descriptors() -> list[str]:
    """Return the open descriptors of this process, but for logs.

    A mapping of Python has a descriptor of its own, which is open until the mapping is freed.
    """
    return sorted(name for name in _open_descriptors() if "memfd:ackd-log" not in name)


def _open_descriptors() -> Iterator[str]:
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            yield f"{name} {os.readlink(f'/proc/self/fd/{name}')}"


def _new_log() -> int:
    """Return the descriptor of an empty log, as the service manager keeps it."""
    storage = MemoryStorage()
    descriptor = os.dup(storage.descriptor)
    storage.close(clean=True)
    return descriptor
