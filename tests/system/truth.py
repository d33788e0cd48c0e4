"""A client that keeps account of what it was acknowledged: run beside a machine, as a program.

    python3 truth.py RUN HOST PORT CLIENTS DEPTH PAYLOADS [--reconnect]

Each client keeps DEPTH unique payloads `RUN-CLIENT-NUMBER` on their way over one connection. When
the standard input closes, or each has sent its share of PAYLOADS (0 is no limit), it sends no more,
waits for the acks that are due, closes its sending side, and expects the server's end. Then an
account is printed, as JSON; before that a line for every 100 acks. With --reconnect a client whose
connection is lost opens another one, and never sends again what is unknown: each payload is sent
once.
"""

import contextlib
import json
import resource
import selectors
import socket
import sys
from collections import deque
from dataclasses import asdict, dataclass, field
from time import monotonic, time

from tests.support.peer import ACK, GREETING

# Acks for which a line is printed.
PROGRESS = 100
# Seconds without any ack for anybody after which the account is closed.
_PATIENCE = 60.0
# Seconds after which a client that was refused tries again.
_AGAIN = 0.05
_REFUSAL = b"not received: "
_TURNED_AWAY = b"not connect: "


@dataclass
class Account:
    """What all clients have seen. Lists have a member for each client.

    `acknowledged` and `refused` are ranges of payloads' numbers, first and last. `latencies` counts
    acks by how long they took, in tenths of a millisecond; pauses are seconds between two acks;
    `began` is in seconds since the epoch.
    """

    began: int = field(default_factory=lambda: int(time()))
    sent: list[int] = field(default_factory=list)
    acknowledged: list[list[list[int]]] = field(default_factory=list)
    refused: list[list[list[int]]] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    connections: int = 0
    reset: int = 0
    turned_away: int = 0
    longest_pause: float = 0.0
    latencies: dict[int, int] = field(default_factory=dict)


class TruthClient:
    """One client, and the connection that it has at the moment."""

    def __init__(self, crowd: "Crowd", number: int) -> None:
        self._crowd = crowd
        self._account = crowd.account
        self._number = number
        self._last_ack = monotonic()
        self._unanswered: deque[tuple[int, float]] = deque()
        self._account.sent.append(0)
        self._account.acknowledged.append([])
        self._account.refused.append([])
        self.connect()

    def connect(self) -> None:
        """Open a connection; where nobody listens, later."""
        self._input = b""
        self._greeted = self._shut = False
        try:
            self.socket = socket.create_connection(self._crowd.server, 20)
        except ConnectionRefusedError:
            if not self._crowd.reconnect:
                raise
            self._crowd.outside.append(self)
            return
        self._account.connections += 1
        self.socket.setblocking(False)
        self._crowd.selector.register(self.socket, selectors.EVENT_READ, self.on_readable)

    def on_readable(self) -> None:
        """Read what the server says; anything but the greeting, acks and refusals is trouble."""
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            self._account.reset += 1
            self._end(f"{error.strerror}")
            return
        if not data:
            self._end("" if self._shut else "closed")
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if not self._take(line + b"\n"):
                self._end(f"said {line[:80]!r}")
                return
        self.go_on()

    def go_on(self) -> None:
        """Send more, or close the sending side once all is answered."""
        if not self._greeted:
            return
        if self._crowd.stopping or self._share_is_sent():
            if not self._unanswered and not self._shut:
                self._shut = True
                self.socket.shutdown(socket.SHUT_WR)
        else:
            self._send()

    def _share_is_sent(self) -> bool:
        share = self._crowd.share
        return bool(share) and self._account.sent[self._number] >= share

    def _send(self) -> None:
        """Bring payloads on their way, up to the depth."""
        first = self._account.sent[self._number] + 1
        last = first + self._crowd.depth - len(self._unanswered) - 1
        if self._crowd.share:
            last = min(last, self._crowd.share)
        numbers = range(first, last + 1)
        prefix = f"{self._crowd.run}-{self._number}"
        lines = "".join(f"{prefix}-{number}\n" for number in numbers).encode()
        # The kernel has room for DEPTH lines of this length; on a lost one that is told later.
        with contextlib.suppress(OSError):
            assert self.socket.send(lines) == len(lines)
        now = monotonic()
        self._unanswered += ((number, now) for number in numbers)
        self._account.sent[self._number] = last

    def _take(self, line: bytes) -> bool:
        if not self._greeted:
            self._greeted = line == GREETING
            self._account.turned_away += line.startswith(_TURNED_AWAY)
            return self._greeted
        if not self._unanswered:
            return False
        if line == ACK:
            self._acknowledge(*self._unanswered.popleft())
        elif line.startswith(_REFUSAL):
            _note(self._account.refused[self._number], self._unanswered.popleft()[0])
        else:
            return False
        return True

    def _acknowledge(self, number: int, since: float) -> None:
        self._crowd.count()
        _note(self._account.acknowledged[self._number], number)
        now = monotonic()
        self._account.longest_pause = max(self._account.longest_pause, now - self._last_ack)
        tenths = int((now - since) * 10_000)
        self._account.latencies[tenths] = self._account.latencies.get(tenths, 0) + 1
        self._last_ack = now

    def _end(self, trouble: str) -> None:
        """The connection has ended: what has no reply by now is unknown, and stays so."""
        self._crowd.selector.unregister(self.socket)
        self.socket.close()
        finished = self._shut or self._crowd.stopping
        if trouble and not self._crowd.reconnect:
            name = f"{self._crowd.run}-{self._number}"
            self._account.trouble.append(
                f"{name}: {trouble} with {len(self._unanswered)} unanswered"
            )
        self._unanswered.clear()
        if self._crowd.reconnect and not finished:
            self.connect()
        else:
            self._crowd.inside.remove(self)


def _note(ranges: list[list[int]], number: int) -> None:
    """Add a number, larger than all before, to ranges of numbers."""
    if ranges and ranges[-1][1] == number - 1:
        ranges[-1][1] = number
    else:
        ranges.append([number, number])


class Crowd:
    """All clients, and the input that ends their sending."""

    def __init__(
        self,
        run: str,
        host: str,
        port: int,
        clients: int,
        depth: int,
        payloads: int,
        reconnect: bool,
    ) -> None:
        self.run = run
        self.server = host, port
        self.depth = depth
        self.share = payloads // clients
        self.reconnect = reconnect
        self.stopping = False
        self._acks = 0
        self.account = Account()
        self.selector = selectors.DefaultSelector()
        self.inside: set[TruthClient] = set()
        self.outside: list[TruthClient] = []  # those who were refused
        for number in range(clients):
            self.inside.add(TruthClient(self, number))
        self.selector.register(sys.stdin, selectors.EVENT_READ, self._stop)

    def go(self) -> None:
        """Send and count until all have ended."""
        while self.inside:
            ready = self.selector.select(_AGAIN if self.outside else _PATIENCE)
            outside, self.outside = self.outside, []
            for client in outside:
                client.connect()
            if not ready and not outside:
                self.account.trouble.append(f"nothing for {_PATIENCE:g} s")
                return
            for key, _ in ready:
                key.data()

    def count(self) -> None:
        """Count an ack."""
        self._acks += 1
        if self._acks % PROGRESS == 0:
            print(self._acks, flush=True)

    def _stop(self) -> None:
        self.selector.unregister(sys.stdin)
        self.stopping = True
        for client in self.inside:
            client.go_on()


def main(run: str, host: str, port: str, clients: str, depth: str, *limits: str) -> None:
    """Keep account until the standard input closes, and print it."""
    payloads, *reconnect = limits
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(run, host, int(port), int(clients), int(depth), int(payloads), bool(reconnect))
    print("ready", flush=True)
    crowd.go()
    print(json.dumps(asdict(crowd.account)))


if __name__ == "__main__":
    main(*sys.argv[1:])
