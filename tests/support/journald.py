"""A journald for tests that ends and begins, with real sockets that outlive it."""

import contextlib
import socket
from pathlib import Path

from tests.support.log_daemon import LogDaemon


class Journald(LogDaemon):
    """Reads when a test says so; its sockets, `path` and `stdout` beside it, are PID 1's."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path.with_name("stdout")
        self._streams: list[socket.socket] = []
        self._listen()

    def begin(self) -> None:
        """Accept streams, and shut their other direction, as journald does."""
        with contextlib.suppress(BlockingIOError):
            while True:
                stream, _ = self._stdout.accept()
                stream.shutdown(socket.SHUT_WR)
                self._streams.append(stream)

    def refuse(self) -> int:
        """Take no stream, as when there are too many; return how many there would have been."""
        count = len(self._streams)
        self.begin()
        refused, self._streams = self._streams[count:], self._streams[:count]
        for stream in refused:
            stream.close()
        return len(refused)

    def end(self) -> None:
        """End, killed or not; what is in the queue is there for the next one."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def close(self) -> None:
        """End, and the sockets with it: what is in the queue is lost."""
        self.end()
        self._stdout.close()
        super().close()

    def _listen(self) -> None:
        self._path.unlink(missing_ok=True)
        self._stdout = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._stdout.bind(str(self._path))
        self._stdout.listen()
