"""A client that keeps account of what it was acknowledged: run beside a machine, as a program.

    python3 truth.py RUN HOST PORT CLIENTS DEPTH

Each client keeps DEPTH unique payloads `RUN-CLIENT-NUMBER` on their way over one connection. When
the standard input closes it sends no more, waits for the acks that are due, closes its sending
side, and expects the server's end. Then an account is printed, as JSON.
"""

import json
import resource
import selectors
import socket
import sys
from dataclasses import asdict, dataclass, field
from time import monotonic

from tests.peer import ACK, GREETING

# Seconds without any ack for anybody after which the account is closed.
_PATIENCE = 60.0


@dataclass
class Account:
    """What all clients have seen. `sent` and `acknowledged` count payloads, a client each."""

    sent: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)
    trouble: list[str] = field(default_factory=list)
    longest_pause: float = 0.0  # seconds between two acks on one connection


class TruthClient:
    """One connection."""

    def __init__(self, name: str, host: str, port: int, depth: int, account: Account) -> None:
        self._name = name
        self._depth = depth
        self._account = account
        self._number = len(account.sent)
        self._input = b""
        self._expected = GREETING
        self._last_ack = monotonic()
        account.sent.append(0)
        account.acknowledged.append(0)
        self.stopping = False
        self.ended = False
        self.socket = socket.create_connection((host, port), 20)

    @property
    def greeted(self) -> bool:
        return self._expected == ACK

    @property
    def unanswered(self) -> int:
        return self._account.sent[self._number] - self._account.acknowledged[self._number]

    def send(self) -> None:
        """Bring the payloads on their way up to the depth."""
        first = self._account.sent[self._number] + 1
        count = self._depth - self.unanswered
        lines = (f"{self._name}-{number}\n" for number in range(first, first + count))
        self.socket.sendall("".join(lines).encode())
        self._account.sent[self._number] += count

    def on_readable(self) -> None:
        """Read acks; anything else is trouble."""
        try:
            data = self.socket.recv(65536)
        except OSError as error:
            self._end(f"{error.strerror} with {self.unanswered} unanswered")
            return
        if not data:
            self._end(f"closed with {self.unanswered} unanswered" if self.unanswered else "")
            return
        self._input += data
        while len(self._input) >= len(self._expected):
            if not self._input.startswith(self._expected):
                self._end(f"said {self._input[:80]!r}")
                return
            self._count()
        self.go_on()

    def go_on(self) -> None:
        """Send more, or close the sending side once all is answered."""
        if not self.stopping:
            self.send()
        elif not self.unanswered:
            self.socket.shutdown(socket.SHUT_WR)

    def _count(self) -> None:
        self._input = self._input[len(self._expected) :]
        if self._expected == ACK:
            self._account.acknowledged[self._number] += 1
            now = monotonic()
            self._account.longest_pause = max(self._account.longest_pause, now - self._last_ack)
            self._last_ack = now
        self._expected = ACK

    def _end(self, trouble: str) -> None:
        self.ended = True
        if trouble:
            self._account.trouble.append(f"{self._name}: {trouble}")


class Crowd:
    """All clients, and the input that ends their sending."""

    def __init__(self, run: str, host: str, port: int, clients: int, depth: int) -> None:
        self.account = Account()
        self._selector = selectors.DefaultSelector()
        self._inside: set[TruthClient] = set()
        for number in range(clients):
            client = TruthClient(f"{run}-{number}", host, port, depth, self.account)
            self._selector.register(client.socket, selectors.EVENT_READ, client.on_readable)
            self._inside.add(client)
        self._selector.register(sys.stdin, selectors.EVENT_READ, self._stop)

    def go(self) -> None:
        """Send and count until all have ended."""
        while self._inside:
            ready = self._selector.select(_PATIENCE)
            if not ready:
                self.account.trouble.append(f"nothing for {_PATIENCE:g} s")
                return
            for key, _ in ready:
                key.data()
            for client in [client for client in self._inside if client.ended]:
                self._selector.unregister(client.socket)
                client.socket.close()
                self._inside.remove(client)

    def _stop(self) -> None:
        self._selector.unregister(sys.stdin)
        for client in self._inside:
            client.stopping = True
            if client.greeted and not client.unanswered:
                client.go_on()


def main(run: str, host: str, port: str, clients: str, depth: str) -> None:
    """Keep account until the standard input closes, and print it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    crowd = Crowd(run, host, int(port), int(clients), int(depth))
    print("ready", flush=True)
    crowd.go()
    print(json.dumps(asdict(crowd.account)))


if __name__ == "__main__":
    main(*sys.argv[1:])
