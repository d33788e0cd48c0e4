"""Accepts clients on the listeners, as far as there are descriptors for them."""

import errno
import logging
import os
import resource
import socket
from collections.abc import Callable
from functools import partial
from math import inf
from time import monotonic
from typing import Any

from ackd.loop import READABLE, Loop
from ackd.records import Kind
from ackd.server.listener import BACKLOG, Listeners, name

log = logging.getLogger("ackd")

# Clients accepted on one listener in one round of the loop, so that connected clients come next.
_ACCEPT_BATCH = 64
# Seconds after which accepting is tried again when there was no free descriptor.
_PAUSE = 0.25
# Descriptors that are not for clients: sd_notify(3) needs one for each message, and the watch over
# journald needs one for its stream.
_RESERVE = 16

_NO_DESCRIPTORS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Acceptor:
    """Accepts on all listeners; `welcome` gets each socket, its address, and the listener's name.

    When there is no free descriptor, the listeners are not watched until the deadline; the loop
    would report them as readable in each round. The clients wait in the listeners' backlog.
    """

    def __init__(self, loop: Loop, welcome: Callable[[socket.socket, Any, str], None]) -> None:
        self.listeners: Listeners = {}
        self.deadline = self.scheduled = inf
        self._loop = loop
        self._welcome = welcome
        self._reported = False
        self._highest = 0  # this descriptor and those above are not for clients

    @property
    def trouble(self) -> str:
        """Why clients wait, as text; empty if none waits."""
        return "out of descriptors, clients wait" if self._paused else ""

    def on_deadline(self) -> None:
        """Try again whether there is a free descriptor."""
        self.resume()

    def change(self, listeners: Listeners) -> None:
        """Accept on these listeners from now on; first accept all that wait before old ones."""
        self.resume()
        self._highest = resource.getrlimit(resource.RLIMIT_NOFILE)[0] - _RESERVE
        before, self.listeners = self.listeners, listeners
        for listener in before.values():
            if listener not in listeners.values():
                self._loop.unwatch(listener)
                self._accept(listener, name(listener), BACKLOG)
                listener.close()
        for listener in listeners.values():
            if listener not in before.values():
                self._watch(listener)

    def stop(self) -> None:
        """Accept no more clients; the listeners stay open, and clients wait in their backlog."""
        self.resume()
        for listener in self.listeners.values():
            self._loop.unwatch(listener)

    def resume(self) -> None:
        """Accept again, because a descriptor may be free."""
        if self._paused:
            self.deadline = inf
            for listener in self.listeners.values():
                self._watch(listener)

    @property
    def _paused(self) -> bool:
        return self.deadline < inf

    def _watch(self, listener: socket.socket) -> None:
        on_readable = partial(self._on_readable, listener, name(listener))
        self._loop.watch(listener, READABLE, on_readable)

    def _on_readable(self, listener: socket.socket, listener_name: str) -> None:
        try:
            shortage = self._accept(listener, listener_name, _ACCEPT_BATCH)
        except MemoryError:
            shortage = OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
        if shortage and not self._paused:
            self._pause(shortage)

    def _accept(self, listener: socket.socket, listener_name: str, most: int) -> OSError | None:
        """Accept up to `most` clients; return the error if there was no descriptor for one."""
        for _ in range(most):
            try:
                self._check_descriptors()
                client, address = listener.accept()
            except BlockingIOError:
                self._reported = False
                return None
            except OSError as error:
                if error.errno in _NO_DESCRIPTORS:
                    return error
                continue  # an error of a client that has gone already: accept(2)
            client.setblocking(False)
            self._welcome(client, address, listener_name)
        return None

    def _check_descriptors(self) -> None:
        """Raise OSError if the next client would get one of the reserved descriptors."""
        lowest = os.dup(0)  # the lowest that is free: dup(2)
        os.close(lowest)
        if lowest >= self._highest:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    def _pause(self, shortage: OSError) -> None:
        self.deadline = monotonic() + _PAUSE
        self._loop.timers.watch(self)
        for listener in self.listeners.values():
            self._loop.unwatch(listener)
        if not self._reported:
            self._reported = True
            advice = "; LimitNOFILE= sets how many can" if shortage.errno == errno.EMFILE else ""
            text = "can't accept further clients, they wait: %s%s"
            log.error(text, shortage.strerror, advice, extra={"kind": Kind.NO_DESCRIPTORS})
