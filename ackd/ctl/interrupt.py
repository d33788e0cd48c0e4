"""Ctrl-C (SIGINT), and the signals that mean the same: SIGTERM, and SIGHUP of a closed terminal.

This is the only module that deals with them. A verb handles Ctrl-C in one of two ways: it stops
at once, or it continues and completes its work. Outside of both blocks these
signals end ackctl at once and in silence, see `start`.
"""

import os
import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Any

from ackd.ctl.exit_status import Status

_STATUSES = {
    signal.SIGINT: Status.INTERRUPTED,
    signal.SIGTERM: Status.TERMINATED,
    signal.SIGHUP: Status.HUNG_UP,
}


def exit_status() -> Status:
    """Return the exit status for the signal that has come last."""
    return _STATUSES[_Received.last]


def die(status: int) -> None:
    """End by the signal that `status` stands for, if it stands for one.

    A shell ends its loop only if the signal has ended the command, not if the command exits by
    itself: https://www.cons.org/cracauer/sigint.html
    """
    for number, meaning in _STATUSES.items():
        if status == meaning:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class _Received:
    """The signal that has come last: like its handler, it belongs to the whole process."""

    last = signal.SIGINT


class _Handlers:
    """The handlers of the signals for the time of a block."""

    def __init__(self, handler: Callable[[int, FrameType | None], None]) -> None:
        self._before: dict[signal.Signals, Any] = {}
        for number in _STATUSES:
            # nohup(1) lets SIGHUP be ignored.
            if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, handler)

    def restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


class UntilInterrupt:
    """A block that Ctrl-C leaves at once; `interrupted` says whether that has happened."""

    def __init__(self) -> None:
        self.interrupted = False

    def __enter__(self) -> "UntilInterrupt":
        self._handlers = _Handlers(_leave)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self._handlers.restore()
        self.interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        return self.interrupted


def _leave(number: int, _: FrameType | None) -> None:
    _Received.last = signal.Signals(number)
    raise KeyboardInterrupt


class Interrupt:
    """A block that Ctrl-C does not leave: it makes this object readable for a selector."""

    def __init__(self) -> None:
        self.pressed = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> "Interrupt":
        self._descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        self._handlers = _Handlers(lambda *_: None)
        return self

    def __exit__(self, *_: object) -> None:
        self._handlers.restore()
        signal.set_wakeup_fd(self._descriptor)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return the descriptor to be watched for reading."""
        return self._reader.fileno()

    def read(self) -> int:
        """Return how often Ctrl-C was pressed in all; call only when readable."""
        for number in self._reader.recv(4096):
            if number in _STATUSES:
                _Received.last = signal.Signals(number)
                self.pressed += 1
        return self.pressed
