"""The control socket: `ackd --reload` asks for a reload and gets its outcome, unlike with a signal.

An abstract socket, unix(7), needs no writable directory and vanishes with its process.
"""

import contextlib
import os
import socket
import struct
from collections.abc import Callable

# Seconds to wait for the outcome; a reload reads one file and opens listeners.
_DEADLINE = 60.0
# Bytes of an outcome, which is one datagram.
_LONGEST = 65536
# An outcome begins with this, so that it differs from a connection that closes without an outcome.
_OUTCOME = b"="


class ControlError(Exception):
    """A reload that did not take place; the text says why."""


class Control:
    """Listens for reload requests; only root and the user of this process may send them.

    `reload` puts the new configuration into force and returns an empty text, or returns what is
    wrong with the configuration.
    """

    def __init__(self, reload: Callable[[], str]) -> None:
        """Open the socket; raises OSError if another process uses its name."""
        self._reload = reload
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        self._socket.bind(_name(os.getpid()))
        self._socket.listen()

    def fileno(self) -> int:
        """Return the descriptor that is readable when a request has arrived."""
        return self._socket.fileno()

    def on_readable(self) -> None:
        """Reload if the requester may ask for it, and send the outcome."""
        requester, _ = self._socket.accept()
        with requester:
            _, user = _credentials(requester)
            if user in (0, os.geteuid()):
                outcome = _OUTCOME + self._reload().encode(errors="backslashreplace")
                requester.setblocking(False)
                with contextlib.suppress(OSError):  # the requester may have gone meanwhile
                    requester.send(outcome[:_LONGEST])


def request_reload(pid: int) -> None:
    """Have the ackd with this process number reload, and wait for it; raises ControlError."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.settimeout(_DEADLINE)
        try:
            control.connect(_name(pid))
            listening, _ = _credentials(control)
            if listening != pid:
                raise ControlError(f"process {listening} listens in the place of process {pid}")
            outcome = control.recv(_LONGEST)
        except OSError as error:
            problem = error.strerror or error
            raise ControlError(f"process {pid} can't be asked: {problem}") from error
    if not outcome:
        raise ControlError(f"only root and the user of process {pid} may reload it")
    if outcome != _OUTCOME:
        raise ControlError(outcome.removeprefix(_OUTCOME).decode(errors="replace"))


def _name(pid: int) -> str:
    return f"\0ackd/{pid}"


def _credentials(sock: socket.socket) -> tuple[int, int]:
    """Return the process number and the user of the other end, SO_PEERCRED in unix(7)."""
    credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    pid, user, _ = struct.unpack("3i", credentials)
    return pid, user
