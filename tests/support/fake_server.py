"""A fake server: the test decides what the server sends, right or wrong."""

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

from ackd.ctl.runs.payloads import parse
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, Peer


class Caller(Peer):
    """The server's end of a connection."""

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        self.socket.settimeout(DEADLINE)


class FakeServer:
    """A listener on a free port of the loopback."""

    def __init__(self, buffer: int = 0, backlog: int = 16) -> None:
        self._listener = socket.socket()
        if buffer:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        self._listener.settimeout(DEADLINE)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(backlog)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> "FakeServer":
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.close()

    def accept(self) -> Caller:
        return Caller(self._listener.accept()[0])


def acknowledge_run(caller: Peer) -> int:
    """Acknowledge each payload up to the end of a run; return the number of payloads it states."""
    for line in caller.socket.makefile("rb"):
        caller.send(ACK)
        part = parse(line.rstrip(b"\n"))
        if part and part.end:
            return part.number
    raise AssertionError("the run has no end")


@contextmanager
def scripted_server(script: Callable[[Caller], object], buffer: int = 0) -> Iterator[int]:
    """Serve one client by a script in another thread; yield the port."""
    with FakeServer(buffer) as fake, ThreadPoolExecutor(1) as pool:

        def play() -> None:
            caller = fake.accept()
            with caller:
                script(caller)

        played = pool.submit(play)
        yield fake.port
        played.result(DEADLINE)
