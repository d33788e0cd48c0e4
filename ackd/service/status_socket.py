"""The status socket: a client that connects to it gets a report of what ackd is doing.

As a service, ackd has the socket in its runtime directory, which only root and its own user can
reach. ackd-status.socket and a proxy of systemd let the group systemd-journal reach it as well.
Without such a directory ackd uses an abstract socket, unix(7), which any user can connect to:
there, only root and ackd's own user get an answer.

A client sends nothing. It gets the report, which fits into the socket's buffer, and the end: so
nothing is kept about clients that do not read. The socket takes a small share of ackd's time only,
however often clients connect.
"""

import logging
import os
import socket
from collections.abc import Callable, Mapping
from contextlib import suppress
from math import inf
from time import monotonic, thread_time

from ackd.credentials import credentials, stands_for_others
from ackd.loop import READABLE, Loop
from ackd.service.control import is_private
from ackd.service.systemd import runtime_directory
from ackd.status_names import NAME, abstract_name

log = logging.getLogger("ackd")

# The next report comes after so many times the CPU time that the last one has taken, and after so
# many seconds at most: the first one takes far longer than all others.
_PAUSE, _LONGEST_PAUSE = 20, 0.5
# Clients that can wait for an answer.
_BACKLOG = 16


class StatusSocket:
    """Answers with what `report` returns. A timer, for the pauses between two answers."""

    def __init__(self, environ: Mapping[str, str], report: Callable[[], bytes], loop: Loop) -> None:
        """Open the socket; raises OSError if that fails."""
        self.deadline = self.scheduled = inf
        self._report = report
        self._loop = loop
        self._path = _path(environ)
        self._socket = _listener(self._path or abstract_name(os.getpid()))
        self._watch()

    def on_deadline(self) -> None:
        """Answer the next client, after a pause."""
        self.deadline = inf
        self._watch()

    def close(self) -> None:
        """Close the socket, and remove its path."""
        self._socket.close()
        if self._path:
            with suppress(OSError):
                os.unlink(self._path)

    def _watch(self) -> None:
        self._loop.watch(self._socket, READABLE, self._on_readable)

    def _on_readable(self) -> None:
        began = thread_time()
        try:
            self._answer()
        except (OSError, MemoryError):  # the client has gone, or there is no descriptor
            pass
        except Exception:  # such as a module of another version, during an upgrade
            log.exception("can't report a status")  # that is no reason to stop serving
        self._loop.unwatch(self._socket)
        self.deadline = monotonic() + min(_PAUSE * (thread_time() - began), _LONGEST_PAUSE)
        self._loop.timers.watch(self)

    def _answer(self) -> None:
        client, _ = self._socket.accept()
        with client:
            client.setblocking(False)
            if self._path or _is_trusted(client):
                client.send(self._report())


def _path(environ: Mapping[str, str]) -> str:
    """Return the path of the socket; empty without a directory that others can't reach."""
    directory = runtime_directory(environ)
    return os.path.join(directory, NAME) if directory and is_private(directory) else ""


def _listener(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if not address.startswith("\0"):
            with suppress(FileNotFoundError):
                os.unlink(address)  # of a process that was killed
        listener.bind(address)
        if not address.startswith("\0"):
            os.chmod(address, 0o666)  # noqa: S103 - the directory decides who can connect
        listener.listen(_BACKLOG)
    except OSError:
        listener.close()
        raise
    return listener


def _is_trusted(client: socket.socket) -> bool:
    _, user = credentials(client)
    return user in (0, os.geteuid()) and not stands_for_others(user)
