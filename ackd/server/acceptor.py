"""Lets clients in through the listeners, as far as there are descriptors for them."""

import errno
import logging
import os
import resource
import selectors
import socket
from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from ackd.records import Kind
from ackd.server.listener import BACKLOG, Listeners, name

log = logging.getLogger("ackd")

# Clients let in before those who are inside have their turn again.
TURN = 64
# Seconds after which accepting is tried again where descriptors had run out.
PAUSE = 0.25
# Descriptors that are not for clients: the service manager is told things and left connections by
# way of new ones, and so is found out what journald has read.
RESERVE = 16

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Accepts on all listeners; `welcome` gets each socket, its address, and the listener's name.

    Without descriptors the listeners are put aside until `due`, or they would be reported as
    readable over and over again; the clients wait in their backlog.
    """

    def __init__(
        self,
        selector: selectors.BaseSelector,
        welcome: Callable[[socket.socket, Any, str], None],
    ) -> None:
        self.listeners: Listeners = {}
        self.due = inf
        self._selector = selector
        self._welcome = welcome
        self._told = False
        self._highest = 0  # the descriptor from which on they are not for clients

    @property
    def trouble(self) -> str:
        """What keeps clients outside, in words; empty if nothing does."""
        return "out of descriptors, clients wait" if self.due < inf else ""

    def attend(self, now: float) -> None:
        """Try again whether there are descriptors, if that is due."""
        if now >= self.due:
            self.resume()

    def change(self, listeners: Listeners) -> None:
        """Accept on these from now on; who waits before another one is still let in."""
        self.resume()
        self._highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - RESERVE
        before, self.listeners = self.listeners, listeners
        for listener in before.values():
            if listener not in listeners.values():
                self._selector.unregister(listener)
                self._accept(listener, name(listener), BACKLOG)
                listener.close()
        for listener in listeners.values():
            if listener not in before.values():
                self._register(listener)

    def stop(self) -> None:
        """Accept nobody any more; the listeners stay open, and clients wait in their backlog."""
        self.resume()
        for listener in self.listeners.values():
            self._selector.unregister(listener)

    def resume(self) -> None:
        """Accept again: descriptors have become free, or may have."""
        if self.due < inf:
            self.due = inf
            for listener in self.listeners.values():
                self._register(listener)

    def _register(self, listener: socket.socket) -> None:
        on_readable = partial(self._on_readable, listener, name(listener))
        self._selector.register(listener, selectors.EVENT_READ, on_readable)

    def _on_readable(self, listener: socket.socket, listener_name: str) -> None:
        try:
            shortage = self._accept(listener, listener_name, TURN)
        except MemoryError:
            shortage = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        if shortage and self.due == inf:
            self._pause(shortage)

    def _accept(self, listener: socket.socket, listener_name: str, turn: int) -> OSError | None:
        """Let up to `turn` clients in; return the error if there was no descriptor for one."""
        for _ in range(turn):
            try:
                self._check_descriptors()
                client, address = listener.accept()
            except BlockingIOError:
                self._told = False
                return None
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    return error
                continue  # an error of the client's, who has gone already: accept(2)
            client.setblocking(False)
            self._welcome(client, address, listener_name)
        return None

    def _check_descriptors(self) -> None:
        """Raise OSError where the next client would have one of those that are reserved."""
        lowest = os.dup(0)  # the lowest that is free: dup(2)
        os.close(lowest)
        if lowest >= self._highest:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _pause(self, shortage: OSError) -> None:
        self.due = monotonic() + PAUSE
        for listener in self.listeners.values():
            self._selector.unregister(listener)
        if not self._told:
            self._told = True
            advice = "; LimitNOFILE= sets how many can" if shortage.errno == errno.EMFILE else ""
            text = "can't accept further clients, they wait: %s%s"
            log.error(text, shortage.strerror, advice, extra={"kind": Kind.NO_DESCRIPTORS})
