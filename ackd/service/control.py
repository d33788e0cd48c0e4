"""The way in which `ackd --reload` learns how a reload went; a signal could not tell.

An abstract socket, unix(7): it needs no writable directory, and vanishes with its process.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Callable

# Seconds until an answer; a reload reads one file and opens listeners.
_DEADLINE = 60.0
# Bytes of an answer, which is one datagram.
_LONGEST = 65536


class ControlError(Exception):
    """A reload that did not take place; the text says why."""


class Control:
    """Listens for requests to reload, from the same user or root only.

    `reload` does it, and returns what is wrong: nothing if the new configuration is in force.
    """

    def __init__(self, reload: Callable[[], str]) -> None:
        """Open the socket; raises OSError if somebody has taken its name."""
        self._reload = reload
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._socket.bind(_name(os.getpid()))
        self._socket.listen()

    def fileno(self) -> int:
        """Return the descriptor that is readable when somebody has come."""
        return self._socket.fileno()

    def on_readable(self) -> None:
        """Reload for one who has come, and tell the outcome."""
        caller, _ = self._socket.accept()
        with caller:
            if _peer(caller)[1] in (0, os.geteuid()):
                answer = b"=" + self._reload().encode(errors="backslashreplace")
                caller.setblocking(False)
                with contextlib.suppress(OSError):  # who asked may have gone meanwhile
                    caller.send(answer[:_LONGEST])


def request_reload(pid: int) -> None:
    """Have the ackd with this process number reload, and wait for it; raises ControlError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.settimeout(_DEADLINE)
        try:
            control.connect(_name(pid))
            if _peer(control)[0] != pid:
                raise ControlError(f"process {pid} is not the ackd that answers for it")
            answer = control.recv(_LONGEST).decode()
        except OSError as error:
            raise ControlError(
                f"process {pid} can't be asked: {error.strerror or error}"
            ) from error
    if answer != "=":
        raise ControlError(answer.removeprefix("=") or f"process {pid} obeys its own user only")


def _name(pid: int) -> str:
    return f"\0ackd/{pid}"


def _peer(sock: socket.socket) -> tuple[int, int]:
    """Return the process and user at the other end, SO_PEERCRED in unix(7)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", credentials)
    return pid, user
