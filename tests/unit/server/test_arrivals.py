"""What happens between the accept of a connection and its greeting, over real sockets."""

import socket
from collections.abc import Iterator
from contextlib import closing
from math import inf
from time import monotonic

import pytest

from ackd.config import Config
from ackd.loop import READABLE, WRITABLE, Loop
from ackd.protocol import STOPPING
from ackd.records import Origin
from ackd.server.admission import Admission
from ackd.server.arrivals import Arrivals, PreliminaryError
from ackd.server.stream import Stream

PEER = "192.168.150.2"


class Knock:
    """A preliminary that takes one byte at a time: `.` is the last, `!` is wrong.

    `?` needs to write before it reads on. A digit is the last octet of the client's address.
    """

    def __init__(self, stream: Stream, origin: Origin, finds_client: bool = False) -> None:
        self.stream = stream
        self.origin = origin
        self.events = READABLE
        self.deadline = inf
        self.finds_client = finds_client
        self.steps = 0

    def go_on(self) -> bool:
        """Take one byte."""
        self.steps += 1
        if self.events == WRITABLE:
            self.events = READABLE
            self.stream.send(b"?")
            return False
        byte = self.stream.recv(1)
        if not byte:
            raise ConnectionResetError(0, "gone")
        if byte == b"!":
            raise PreliminaryError("wrong", answer=False)
        if byte == b"m":
            raise MemoryError
        if byte == b"?":
            self.events = WRITABLE
        if byte.isdigit():
            self.origin = self.origin._replace(peer=f"10.0.0.{byte.decode()}")
        return byte == b"." or byte.isdigit()

    def on_deadline(self) -> None:
        """Fail."""
        raise PreliminaryError("late")


def find_client(stream: Stream, origin: Origin) -> Knock | None:
    """Begin a preliminary with a connection of one network only."""
    return Knock(stream, origin, finds_client=True) if origin.peer.startswith("192.") else None


class Hall:
    """Arrivals, and what became of them."""

    def __init__(self, config: Config) -> None:
        self.loop = Loop()
        self.admission = Admission(config)
        self.outcomes: list[tuple[str, object]] = []
        self.arrivals = Arrivals(
            self.loop,
            self.admission,
            lambda _stream, origin: self.outcomes.append((origin.peer, "greeted")),
            lambda _stream, origin, *why: self.outcomes.append((origin.peer, why)),
            lambda _stream, origin, why: self.outcomes.append((origin.peer, why)),
        )
        self.arrivals.preliminaries = (Knock,)
        self._sockets: list[socket.socket] = []

    def arrive(self, peer: str = PEER) -> socket.socket:
        """Let a client arrive; return its side."""
        client, stream = socket.socketpair()
        stream.setblocking(False)
        self._sockets += [client, stream]
        self.arrivals.begin(stream, Origin(peer, 1, "192.168.150.1:10008", "x-1"))
        return client

    def work(self, rounds: int = 1) -> None:
        """Work as long as there is something to do, and then that many rounds with events."""
        for _ in range(rounds):
            self.loop.handle(self.loop.wait(0))
            self.loop.meet_deadlines(monotonic())
            while self.arrivals.turns:
                self.arrivals.go_on()

    def close(self) -> None:
        """Close all sockets."""
        for sock in self._sockets:
            sock.close()
        self.loop.close()


@pytest.fixture
def hall() -> Iterator[Hall]:
    with closing(Hall(Config(max_connections=3, max_connections_per_client=2))) as hall:
        yield hall


def test_a_client_without_preliminaries_is_greeted_at_once(hall: Hall) -> None:
    hall.arrivals.preliminaries = (find_client,)
    hall.arrive("10.0.0.1")
    assert hall.outcomes == [("10.0.0.1", "greeted")]
    assert (len(hall.arrivals), hall.admission.connected) == (0, 1)


def test_a_client_is_greeted_when_all_preliminaries_are_done(hall: Hall) -> None:
    hall.arrivals.preliminaries = (find_client, Knock)
    client = hall.arrive()
    client.send(b"abc")
    hall.work(3)
    client.send(b"7x")
    hall.work(5)
    assert hall.outcomes == []
    assert (len(hall.arrivals), hall.admission.connected) == (1, 1)
    client.send(b".rest")
    hall.work()
    assert hall.outcomes == [("10.0.0.7", "greeted")]
    assert (len(hall.arrivals), hall.admission.connected) == (0, 1)
    assert not hall.loop.wait(0)  # the rest is for the connection


def test_a_preliminary_can_wait_to_write(hall: Hall) -> None:
    client = hall.arrive()
    client.send(b"?.")
    hall.work(4)
    assert client.recv(10) == b"?"
    assert hall.outcomes == [(PEER, "greeted")]


@pytest.mark.parametrize(
    ("sent", "outcome"),
    [(b"!", [(PEER, ("wrong", False))]), (b"", [(PEER, "gone")]), (b"m", [])],
    ids=["failed", "left", "out of memory"],
)
def test_an_end_before_the_greeting_frees_the_place(
    hall: Hall, sent: bytes, outcome: list[object]
) -> None:
    client = hall.arrive()
    client.send(sent)
    client.shutdown(socket.SHUT_WR)
    hall.work(3)
    assert hall.outcomes == outcome
    assert (len(hall.arrivals), hall.admission.connected) == (0, 0)


def test_a_late_arrival_is_rejected(hall: Hall) -> None:
    def begin(stream: Stream, origin: Origin) -> Knock:
        knock = Knock(stream, origin)
        knock.deadline = monotonic()
        return knock

    hall.arrivals.preliminaries = (begin,)
    client = hall.arrive()
    hall.work()
    assert hall.outcomes == []  # its first step comes before its deadline counts
    hall.work()
    assert hall.outcomes == [(PEER, ("late", True))]
    client.send(b".")
    hall.work()
    assert len(hall.outcomes) == 1


def test_arrivals_count_for_the_limits(hall: Hall) -> None:
    hall.arrive()
    hall.arrive()
    hall.arrive()
    hall.arrive("10.0.0.1")
    hall.arrive("10.0.0.2")
    assert hall.outcomes == [
        (PEER, (f"too many connections from {PEER}, the limit is 2", True)),
        ("10.0.0.2", ("too many connections, the limit is 3", True)),
    ]


def test_limits_are_about_the_client_that_is_found(hall: Hall) -> None:
    hall.arrivals.preliminaries = (find_client,)
    clients = [hall.arrive() for _ in range(3)]
    for client in clients:
        client.send(b"7")
    hall.work(2)
    rejected = ("10.0.0.7", ("too many connections from 10.0.0.7, the limit is 2", True))
    assert hall.outcomes == [("10.0.0.7", "greeted")] * 2 + [rejected]
    assert hall.admission.connected == 2


def test_clients_take_turns(hall: Hall) -> None:
    hall.admission.configure(Config(max_connections_per_client=None))
    many = [hall.arrive("10.0.0.1") for _ in range(5)]
    few = hall.arrive("10.0.0.2")
    for client in (*many, few):
        client.send(b".")
    hall.work()
    assert [peer for peer, _ in hall.outcomes].index("10.0.0.2") == 1


def test_a_stop_rejects_all_arrivals(hall: Hall) -> None:
    waiting = hall.arrive("10.0.0.1")
    hall.work()
    hall.arrive("10.0.0.2")  # its turn has not come yet
    hall.arrivals.stop()
    assert sorted(hall.outcomes) == [(f"10.0.0.{n}", (STOPPING, True)) for n in (1, 2)]
    assert (len(hall.arrivals), hall.admission.connected) == (0, 0)
    waiting.send(b".")
    assert not hall.loop.wait(0)
