"""The control socket: `ackd --reload` asks for a reload and gets its outcome, unlike with a signal.

As a service, ackd has the socket in its runtime directory (RuntimeDirectory= of the unit), where no
other user can take its place or connect to it. Without such a directory ackd uses an abstract
socket, unix(7), which needs no writable directory and vanishes with its process.
"""

import contextlib
import glob
import os
import socket
from collections.abc import Callable, Iterator, Mapping

from ackd.credentials import credentials, stands_for_others
from ackd.printable import printable
from ackd.service.systemd import runtime_directory

# Seconds to wait for the outcome; a reload reads one file and opens listeners.
_DEADLINE = 60.0
# Bytes of an outcome, which is one datagram.
_LONGEST = 65536
# An outcome begins with one of these, so that it differs from a connection that closes without one.
# Alone, the first stands for a reload that took place.
_OUTCOME, _NOTE = b"=", b"+"
# The runtime directories of the units ackd.service and ackd@NAME.service.
_DIRECTORIES = ("/run/ackd", "/run/ackd@*")


class ControlError(Exception):
    """A reload that did not take place; the text says why."""


class NotReloadedError(ControlError):
    """ackd has answered that it did not reload, and has logged the same text."""


class ReloadError(Exception):
    """What is wrong with the new configuration; the old one is still in force."""


class Control:
    """Listens for reload requests; only root and the user of this process may send them.

    `reload` puts the new configuration into force, and returns a note for the requester, which may
    be empty; or raises ReloadError.
    """

    def __init__(self, reload: Callable[[], str], environ: Mapping[str, str] = os.environ) -> None:
        """Open the socket; raises OSError if another process uses its name."""
        self._reload = reload
        self._path = _own_path(environ)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK)
        if self._path:
            for path in glob.glob(
                os.path.join(glob.escape(os.path.dirname(self._path)), "control-*")
            ):  # of earlier processes that were killed
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(path)
            self._socket.bind(self._path)
        else:
            self._socket.bind(_abstract(os.getpid()))
        self._socket.listen()

    def fileno(self) -> int:
        """Return the descriptor that is readable when a request has arrived."""
        return self._socket.fileno()

    def on_readable(self) -> None:
        """Reload if the requester may ask for it, and send the outcome."""
        requester, _ = self._socket.accept()
        with requester:
            _, user = credentials(requester)
            if self._may_ask(user):
                outcome = self._outcome()
                requester.setblocking(False)
                with contextlib.suppress(OSError):  # the requester may have gone meanwhile
                    requester.send(outcome[:_LONGEST])

    def _outcome(self) -> bytes:
        try:
            note = self._reload()
        except ReloadError as error:
            return _OUTCOME + str(error).encode(errors="backslashreplace")
        return _NOTE + note.encode() if note else _OUTCOME

    def close(self) -> None:
        """Close the socket, and remove its path."""
        self._socket.close()
        if self._path:
            with contextlib.suppress(OSError):
                os.unlink(self._path)

    def _may_ask(self, user: int) -> bool:
        """Return whether root or this process's own user has connected.

        If the number of this process's user can be another user, only the mode of the socket's
        directory, which systemd makes, can tell them apart.
        """
        if stands_for_others(user):
            return bool(self._path) and is_private(os.path.dirname(self._path))
        return user in (0, os.geteuid())


def request_reload(pid: int, environ: Mapping[str, str] = os.environ) -> str:
    """Have the ackd with this process number reload; wait for it, and return its note.

    Raises ControlError.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.settimeout(_DEADLINE)
        try:
            _connect(control, pid, environ)
            outcome = control.recv(_LONGEST)
        except OSError as error:
            problem = error.strerror or error
            raise ControlError(f"process {pid} can't be asked: {problem}") from error
    if not outcome:
        raise ControlError(f"only root and the user of process {pid} may reload it")
    text = "\n".join(map(printable, outcome[1:].split(b"\n")))
    if text and not outcome.startswith(_NOTE):
        raise NotReloadedError(text)
    return text


def _connect(control: socket.socket, pid: int, environ: Mapping[str, str]) -> None:
    """Connect to the socket of process `pid`; raises ControlError if it can't be trusted."""
    for path in _paths(pid, environ):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            directory = os.path.dirname(path)
            owner = os.stat(directory).st_uid
            control.connect(path)
            # systemd 257 maps the owner of a private directory to another number, so that number
            # does not say who may listen there. The mode does.
            _check_answerer(control, pid, {0, os.geteuid(), owner}, is_private(directory))
            return
    control.connect(_abstract(pid))
    _check_answerer(control, pid, {0, os.geteuid()})


def _check_answerer(
    control: socket.socket, pid: int, trusted: set[int], any_user: bool = False
) -> None:
    """Raise ControlError unless process `pid` has the socket, and is of one of the `trusted` users.

    With `any_user`, nobody but such a user can listen there.
    """
    answerer, user = credentials(control)
    if answerer != pid:
        raise ControlError(f"process {answerer} listens in the place of process {pid}")
    if user not in trusted and not any_user:
        raise ControlError(
            f"process {pid} belongs to user {user}, and need not be ackd:"
            f" as that user, use --reload; or use kill -HUP {pid}"
        )


def _own_path(environ: Mapping[str, str]) -> str:
    """Return this process's path in its runtime directory; empty without such a directory."""
    directory = runtime_directory(environ)
    return os.path.join(directory, _name(os.getpid())) if directory else ""


def _paths(pid: int, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield the paths at which the socket of process `pid` may be.

    /run belongs to root, so nobody else can make a directory there.
    """
    if directory := runtime_directory(environ):
        yield os.path.join(directory, _name(pid))
    for pattern in _DIRECTORIES:
        yield from glob.glob(os.path.join(pattern, _name(pid)))


def _name(pid: int) -> str:
    return f"control-{pid}"


def _abstract(pid: int) -> str:
    return f"\0ackd/{pid}"


def is_private(directory: str) -> bool:
    """Return whether only the owner of the directory, and root, can reach what is in it."""
    return not os.stat(directory).st_mode & 0o077
