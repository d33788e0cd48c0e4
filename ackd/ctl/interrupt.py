"""Ctrl-C (SIGINT). This is the only module that deals with it.

A verb meets Ctrl-C in one of two ways: it leaves what it is doing at once, or it goes on and brings
its work to an end.
"""

import signal
import socket


class UntilInterrupt:
    """A block that Ctrl-C leaves at once; `interrupted` says whether that has happened."""

    def __init__(self) -> None:
        self.interrupted = False

    def __enter__(self) -> "UntilInterrupt":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> bool:
        self.interrupted = kind is not None and issubclass(kind, KeyboardInterrupt)
        return self.interrupted


class Interrupt:
    """A block that Ctrl-C does not leave: it makes this object readable for a selector."""

    def __init__(self) -> None:
        self.pressed = 0
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    def __enter__(self) -> "Interrupt":
        self._handler = signal.signal(signal.SIGINT, lambda *_: None)
        self._descriptor = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        return self

    def __exit__(self, *_: object) -> None:
        signal.set_wakeup_fd(self._descriptor)
        signal.signal(signal.SIGINT, self._handler)
        self._reader.close()
        self._writer.close()

    def fileno(self) -> int:
        """Return the descriptor to be watched for reading."""
        return self._reader.fileno()

    def read(self) -> int:
        """Return how often Ctrl-C was pressed in all; call only when readable."""
        self.pressed += self._reader.recv(4096).count(signal.SIGINT)
        return self.pressed
