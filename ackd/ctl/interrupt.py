"""Ctrl-C as something that a loop waits for, among other things."""

import signal
import socket


class Interrupt:
    """Selected as readable when Ctrl-C (SIGINT) was pressed, which stops nothing by itself."""

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
        """Return the descriptor to be watched."""
        return self._reader.fileno()

    def read(self) -> int:
        """Return how many times it was pressed in all."""
        self.pressed += self._reader.recv(4096).count(signal.SIGINT)
        return self.pressed
