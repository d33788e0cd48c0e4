"""Connections that are made, and watched, while others are in use."""

import contextlib
import socket
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from threading import Thread

from ackd.client.client import Client, ClientError

# How many at once; a crowd would fill the queue of the server's listener.
_AT_ONCE = 64

Connect = Callable[[], Client]
Opened = tuple[int, Client | ClientError]


def watch(selector: BaseSelector, client: Client) -> None:
    """Have a registered connection selected for what it waits for now."""
    key = selector.get_key(client)
    events = EVENT_READ | EVENT_WRITE if client.writing else EVENT_READ
    if key.events != events:
        selector.modify(client, events, key.data)


class Opening:
    """Opens connections, each in a thread: there is no other way to resolve a name meanwhile.

    Selected as readable when one is there, or failed.
    """

    def __init__(self, connect: Connect) -> None:
        self._connect = connect
        self._waiting: deque[int] = deque()
        self._under_way = 0
        self._opened: SimpleQueue[Opened] = SimpleQueue()
        self._reader, self._writer = socket.socketpair()

    def __enter__(self) -> "Opening":
        return self

    def __exit__(self, *_: object) -> None:
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return the descriptor to be watched."""
        return self._reader.fileno()

    def open(self, number: int) -> None:
        """Open a connection, the number of which is the caller's affair."""
        self._waiting.append(number)
        self._start()

    def opened(self) -> list[Opened]:
        """Return the number, and the connection or what it failed of, of each that has ended."""
        ended = [self._opened.get() for _ in self._reader.recv(4096)]
        self._under_way -= len(ended)
        self._start()
        return ended

    def _start(self) -> None:
        while self._waiting and self._under_way < _AT_ONCE:
            self._under_way += 1
            # A daemon: nobody waits for it when the program ends.
            Thread(target=self._open, args=(self._waiting.popleft(),), daemon=True).start()

    def _open(self, number: int) -> None:
        try:
            opened: Client | ClientError = self._connect()
        except ClientError as error:
            opened = error
        self._opened.put((number, opened))
        with contextlib.suppress(OSError):  # nobody waits any more
            self._writer.send(b"\0")
