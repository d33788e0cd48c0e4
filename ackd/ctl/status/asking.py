"""Asks a running ackd on this host for its status, through a socket that only few may reach."""

import errno
import socket
import struct
from contextlib import suppress
from time import sleep

from ackd.credentials import credentials
from ackd.ctl.exit_status import Status
from ackd.status import DaemonStatus, StatusError, from_json
from ackd.status_names import abstract_name, own_path, socket_path

# Seconds to wait at most: for the connection, and for each part of the answer.
_PATIENCE = 10
# Seconds before each further attempt: an ackd that restarts answers again after a moment.
_PAUSES = (0.25, 0.5, 1.0)
# Bytes of an answer at most: those of ackd are far shorter.
_LONGEST = 1024 * 1024


class AskError(Exception):
    """There is no status; the text says why and what to do. `status` is the exit status."""

    def __init__(self, text: str, status: Status) -> None:
        super().__init__(text)
        self.status = status


class _NotRunningError(Exception):
    """Nobody answers; perhaps ackd only restarts."""


def ask(name: str) -> DaemonStatus:
    """Return the status of an ackd; raises AskError.

    An empty `name` is ackd.service, `@NAME` is ackd@NAME.service, and a number is a process that
    systemd has not started.
    """
    for pause in _PAUSES:
        with suppress(_NotRunningError):
            return _ask(name)
        sleep(pause)
    try:
        return _ask(name)
    except _NotRunningError:
        raise AskError(_not_running(name), Status.NOT_REACHED) from None


def _ask(name: str) -> DaemonStatus:
    try:
        answer = _answer(name)
    except (FileNotFoundError, ConnectionError) as error:
        raise _NotRunningError from error
    except PermissionError as error:
        raise AskError(
            f"this user may not ask {_called(name)}: use sudo, or join the group systemd-journal:"
            " sudo adduser USER systemd-journal, then log in again",
            Status.USAGE,
        ) from error
    except OSError as error:
        raise AskError(_why_not(name, error), Status.NO_GREETING) from error
    try:
        return from_json(answer)
    except StatusError as error:
        text = f"can't read the answer of {_called(name)}: {error}"
        raise AskError(text, Status.NO_GREETING) from error


def _answer(name: str) -> bytes:
    """Return the answer; raises OSError, AskError and _NotRunningError."""
    if name.isdecimal():
        return _answer_of_process(int(name))
    try:
        return _read(own_path(name))
    except PermissionError:  # not root
        # The proxy has reached no ackd, or it serves too many others.
        if not (answer := _read(socket_path(name))):
            raise _NotRunningError from None
        return answer


def _answer_of_process(pid: int) -> bytes:
    if answer := _read(abstract_name(pid), pid):
        return answer
    raise AskError(f"only root and the user of process {pid} may ask it", Status.USAGE)


def _read(address: str, pid: int | None = None) -> bytes:
    """Return all that the socket sends, which must be that of process `pid` if one is given."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        for option in (socket.SO_SNDTIMEO, socket.SO_RCVTIMEO):
            # With settimeout(), connect() would not wait while many others ask: unix(7), EAGAIN.
            asker.setsockopt(socket.SOL_SOCKET, option, struct.pack("ll", _PATIENCE, 0))
        asker.connect(address)
        if pid and credentials(asker)[0] != pid:
            text = f"another process than {pid} listens in its place"
            raise AskError(text, Status.NO_GREETING)
        answer = b""
        while len(answer) < _LONGEST and (part := asker.recv(65536)):
            answer += part
    return answer


def _called(name: str) -> str:
    return f"process {name}" if name.isdecimal() else f"ackd{name}.service"


def _not_running(name: str) -> str:
    if name.isdecimal():
        return f"process {name} is no ackd that can be asked by its number"
    unit = _called(name)
    return (
        f"{unit} does not run: see `systemctl status {unit}`;"
        " an ackd without systemd can be asked by the number of its process"
    )


def _why_not(name: str, error: OSError) -> str:
    if error.errno == errno.EAGAIN:
        where = "" if name.isdecimal() else f"; see `systemctl status {_called(name)}`"
        return f"{_called(name)} does not answer within {_PATIENCE} s: it starts, or hangs{where}"
    return f"can't ask {_called(name)}: {error.strerror}"
