"""A journald for tests that can end and start again, with real sockets that stay open."""

import contextlib
import socket
from pathlib import Path

from tests.support.log_daemon import LogDaemon


class Journald(LogDaemon):
    """A journald that reads when a test calls `read`.

    Its sockets are `path` and `stdout` in the same directory. PID 1 holds the real ones, so they
    stay open when journald ends.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._path = path.with_name("stdout")
        self._streams: list[socket.socket] = []
        self._listen()

    def begin(self) -> None:
        """Accept streams, and shut down their other direction, as journald does."""
        with contextlib.suppress(BlockingIOError):
            while True:
                stream, _ = self._stdout.accept()
                stream.shutdown(socket.SHUT_WR)
                self._streams.append(stream)

    def refuse(self) -> int:
        """Close new streams, as journald does beyond its limit; return their number."""
        count = len(self._streams)
        self.begin()
        refused, self._streams = self._streams[count:], self._streams[:count]
        for stream in refused:
            stream.close()
        return len(refused)

    def end(self) -> None:
        """End like a killed journald: the next one reads the queue."""
        for stream in self._streams:
            stream.close()
        self._streams.clear()

    def close_streams(self) -> None:
        """End, and close the socket `stdout` only."""
        self.end()
        self._stdout.close()

    def close(self) -> None:
        """End, and close the sockets: the queue is lost."""
        self.close_streams()
        super().close()

    def _listen(self) -> None:
        self._path.unlink(missing_ok=True)
        self._stdout = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self._stdout.bind(str(self._path))
        self._stdout.listen()
