"""Clients that send payloads and remember every reply; they run on the client host as a program.

    python3 -m tests.system.support.load_clients RUN HOST PORT CLIENTS DEPTH PAYLOADS
        [--reconnect] [--ca=FILE]

Each client keeps DEPTH unique payloads `RUN-CLIENT-NUMBER` in flight on one connection. The sending
ends when the standard input closes, or when each client has sent its share of PAYLOADS (0 is no
limit). Then a client waits for the replies to come, shuts down its sending side, and expects the
server to close the connection. The program prints a line for every 100 acks, and at the end the
`ClientReport` as JSON. With --reconnect a client whose connection is lost opens another one. It
never sends a payload again whose outcome is unknown: each payload is sent once. With --ca the
clients use TLS, and trust the authority whose certificate is in FILE.
"""

import contextlib
import json
import resource
import selectors
import socket
import ssl
import sys
from collections import deque
from dataclasses import asdict, dataclass, field
from time import monotonic, time

from tests.support.openssl import half_close, receive
from tests.support.peer import ACK, GREETING

# The program prints a line each time this number of acks has come.
PROGRESS = 100
# Seconds without any reply to any client after which the program gives up.
_PATIENCE = 60.0
# Seconds until a client connects again if the connection was refused.
_RECONNECT_DELAY = 0.05
_REFUSAL = b"not received: "
_REJECTION = b"not connect: "


@dataclass
class ClientReport:
    """The payloads and replies of all clients; lists have an element for each client.

    `acknowledged` and `refused` are ranges of payload numbers: pairs of the first and the last.
    `latencies` counts acks by their latency in tenths of a millisecond. `longest_pause` is the
    longest time between two acks of a client, in seconds. `began` is in seconds since the epoch.
    `errors` are sentences.
    """

    began: int = field(default_factory=lambda: int(time()))
    sent: list[int] = field(default_factory=list)
    acknowledged: list[list[list[int]]] = field(default_factory=list)
    refused: list[list[list[int]]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    connections: int = 0
    reset: int = 0
    rejected: int = 0
    longest_pause: float = 0.0
    latencies: dict[int, int] = field(default_factory=dict)


class LoadClient:
    """One client, and its current connection."""

    def __init__(self, clients: "LoadClients", number: int) -> None:
        self._clients = clients
        self._report = clients.report
        self._number = number
        self._last_ack = monotonic()
        self._unanswered: deque[tuple[int, float]] = deque()
        self._report.sent.append(0)
        self._report.acknowledged.append([])
        self._report.refused.append([])
        self.connect()

    def connect(self) -> None:
        """Open a connection; if it is refused, `LoadClients` tries again later."""
        self._input = b""
        self._greeted = self._shut = False
        try:
            self.socket = self._clients.open()
        except ConnectionRefusedError:
            if not self._clients.reconnect:
                raise
            self._clients.unconnected.append(self)
            return
        self._report.connections += 1
        self.socket.setblocking(False)
        self._clients.selector.register(self.socket, selectors.EVENT_READ, self.on_readable)

    def on_readable(self) -> None:
        """Read lines; any line but the greeting, acks and refusals is an error."""
        try:
            data = receive(self.socket)
        except ssl.SSLWantReadError:  # TLS itself has sent something, or a part of a record
            return
        except OSError as error:
            self._report.reset += 1
            self._end(f"{error.strerror}")
            return
        if not data:
            self._end("" if self._shut else "closed")
            return
        *lines, self._input = (self._input + data).split(b"\n")
        for line in lines:
            if not self._receive(line + b"\n"):
                self._end(f"received {line[:80]!r}")
                return
        self.send_or_shut()

    def send_or_shut(self) -> None:
        """Send more payloads, or shut down the sending side once all replies have come."""
        if not self._greeted:
            return
        if self._clients.stopping or self._share_is_sent():
            if not self._unanswered and not self._shut:
                self._shut = True
                half_close(self.socket)
        else:
            self._send()

    def _share_is_sent(self) -> bool:
        share = self._clients.share
        return bool(share) and self._report.sent[self._number] >= share

    def _send(self) -> None:
        """Send payloads until `depth` are in flight."""
        first = self._report.sent[self._number] + 1
        last = first + self._clients.depth - len(self._unanswered) - 1
        if self._clients.share:
            last = min(last, self._clients.share)
        numbers = range(first, last + 1)
        prefix = f"{self._clients.run}-{self._number}"
        lines = "".join(f"{prefix}-{number}\n" for number in numbers).encode()
        # DEPTH lines of this length fit into the send buffer. The next recv() reports an error.
        with contextlib.suppress(OSError):
            assert self.socket.send(lines) == len(lines)
        now = monotonic()
        self._unanswered += ((number, now) for number in numbers)
        self._report.sent[self._number] = last

    def _receive(self, line: bytes) -> bool:
        """Handle a line; return whether it was expected."""
        if not self._greeted:
            self._greeted = line == GREETING
            self._report.rejected += line.startswith(_REJECTION)
            return self._greeted
        if not self._unanswered:
            return False
        if line == ACK:
            self._acknowledge(*self._unanswered.popleft())
        elif line.startswith(_REFUSAL):
            _append(self._report.refused[self._number], self._unanswered.popleft()[0])
        else:
            return False
        return True

    def _acknowledge(self, number: int, since: float) -> None:
        self._clients.count_ack()
        _append(self._report.acknowledged[self._number], number)
        now = monotonic()
        self._report.longest_pause = max(self._report.longest_pause, now - self._last_ack)
        tenths = int((now - since) * 10_000)
        self._report.latencies[tenths] = self._report.latencies.get(tenths, 0) + 1
        self._last_ack = now

    def _end(self, error: str) -> None:
        """Close the connection: the outcome of each payload without a reply stays unknown."""
        self._clients.selector.unregister(self.socket)
        self.socket.close()
        finished = self._shut or self._clients.stopping
        if error and not self._clients.reconnect:
            name = f"{self._clients.run}-{self._number}"
            self._report.errors.append(f"{name}: {error} with {len(self._unanswered)} unanswered")
        self._unanswered.clear()
        if self._clients.reconnect and not finished:
            self.connect()
        else:
            self._clients.active.remove(self)


def _append(ranges: list[list[int]], number: int) -> None:
    """Add a number to ranges of numbers; it is larger than all of theirs."""
    if ranges and ranges[-1][1] == number - 1:
        ranges[-1][1] = number
    else:
        ranges.append([number, number])


class LoadClients:
    """All clients, and the standard input, whose end stops their sending."""

    def __init__(
        self,
        run: str,
        host: str,
        port: int,
        clients: int,
        depth: int,
        payloads: int,
        reconnect: bool,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.run = run
        self._server = host, port
        self._tls = tls
        self.depth = depth
        self.share = payloads // clients
        self.reconnect = reconnect
        self.stopping = False
        self._acks = 0
        self.report = ClientReport()
        self.selector = selectors.DefaultSelector()
        self.active: set[LoadClient] = set()
        self.unconnected: list[LoadClient] = []  # clients whose last connection was refused
        for number in range(clients):
            self.active.add(LoadClient(self, number))
        self.selector.register(sys.stdin, selectors.EVENT_READ, self._stop)

    def open(self) -> socket.socket:
        """Return a new connection, after the handshake of TLS if there is TLS."""
        raw = socket.create_connection(self._server, 20)
        return self._tls.wrap_socket(raw, server_hostname=self._server[0]) if self._tls else raw

    def run_to_end(self) -> None:
        """Serve all sockets until no client is active."""
        while self.active:
            ready = self.selector.select(_RECONNECT_DELAY if self.unconnected else _PATIENCE)
            unconnected, self.unconnected = self.unconnected, []
            for client in unconnected:
                client.connect()
            if not ready and not unconnected:
                self.report.errors.append(f"no reply for {_PATIENCE:g} s")
                return
            for key, _ in ready:
                key.data()

    def count_ack(self) -> None:
        """Count an ack, and print the count from time to time."""
        self._acks += 1
        if self._acks % PROGRESS == 0:
            print(self._acks, flush=True)

    def _stop(self) -> None:
        self.selector.unregister(sys.stdin)
        self.stopping = True
        for client in self.active:
            client.send_or_shut()


def main(run: str, host: str, port: str, clients: str, depth: str, *limits: str) -> None:
    """Send until the end, and print the report."""
    payloads, *options = limits
    authorities = [o.removeprefix("--ca=") for o in options if o.startswith("--ca=")]
    tls = ssl.create_default_context(cafile=authorities[0]) if authorities else None
    reconnect = "--reconnect" in options
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    load = LoadClients(
        run, host, int(port), int(clients), int(depth), int(payloads), reconnect, tls
    )
    print("ready", flush=True)
    load.run_to_end()
    print(json.dumps(asdict(load.report)))


if __name__ == "__main__":
    main(*sys.argv[1:])
