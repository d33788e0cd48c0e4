"""What a connection reads from and writes to: a TCP socket, or TLS over one."""

from typing import Protocol


class CutOffError(Exception):
    """The stream has ended without the sign of its end: what came last may be cut off."""


class Stream(Protocol):
    """The methods of a non-blocking socket that a connection uses; a socket is such a stream.

    All raise OSError, and BlockingIOError where the call would wait. Another stream than a socket
    must support `MSG_PEEK` with one byte, and wait for the same events as its descriptor. Its
    `recv` can raise CutOffError.
    """

    def fileno(self) -> int:
        """Return the descriptor of the TCP socket; it stays the same until the end."""

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Return bytes that have arrived, at most `size`; nothing at the end of the stream."""

    def send(self, data: bytes, /) -> int:
        """Send bytes, and return how many were taken."""

    def shutdown(self, how: int, /) -> None:
        """End the sending, with SHUT_WR."""

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return an option of the TCP socket."""

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option of the TCP socket."""

    def close(self) -> None:
        """Close the descriptor."""
