"""A connected, non-blocking datagram socket to a log daemon on this host, unix(7)."""

import socket
from array import array
from collections.abc import Callable
from fcntl import ioctl
from functools import lru_cache
from termios import TIOCOUTQ

from ackd.journal.recorder import Sink

# Bytes that may be unread; the kernel doubles them, and allows at most net.core.wmem_max. The
# socket becomes writable again when at most a quarter of the buffer is unread (unix_writable,
# net/unix/af_unix.c). So ackd wakes up once for hundreds of records of a full queue. With
# libsystemd's 8 MiB a full queue would use less than a quarter of the buffer, and each record would
# wake ackd up.
_SEND_BUFFER = 512 * 1024
# Bytes of the buffer that a single datagram can't use, sock_alloc_send_pskb.
_KERNEL_RESERVE = 32


class DatagramSocket(Sink):
    """Puts whole datagrams into the queue of the socket at `path`.

    `reachable` is False while no process has the socket at the other end open; `why` is the reason.
    """

    def __init__(self, path: str, connected: socket.socket | None = None) -> None:
        """Connect to the socket at `path`, or use a socket that the process before has connected.

        The latter still counts what that process has sent and the other end has not read.
        """
        self.path = path
        self.reachable = bool(connected)
        self.why = ""
        self._socket = connected or new_socket()
        self._descriptor = self._socket.fileno()
        if not connected:
            self.connect()

    def connect(self) -> bool:
        """Connect again, and return whether a process has the other end open.

        A datagram socket can be connected again, connect(2). A new socket would need a free
        descriptor.
        """
        try:
            self._socket.connect(self.path)
        except OSError as error:
            return self._lost(error)
        self.reachable = True
        return True

    def is_there(self) -> bool:
        """Return whether a process has the socket at the path open, without sending anything."""
        try:
            with new_socket() as other:
                other.connect(self.path)
        except (FileNotFoundError, ConnectionRefusedError) as error:
            return self._lost(error)
        except OSError:  # this process has no descriptor left
            return True
        return True

    def put(self, datagram: bytes) -> bool:
        """Return whether the other end's queue has taken the datagram. Never blocks."""
        try:
            self._socket.send(datagram)
        except OSError as error:
            return self.note_refused(error)
        return True

    @property
    def send(self) -> Callable[[bytes], object]:
        """What sends a datagram, or raises OSError; always the same."""
        return self._socket.send

    def note_refused(self, error: OSError) -> bool:
        """Note why the queue has not taken a datagram: it is full, or gone; return False."""
        return False if isinstance(error, BlockingIOError) else self._lost(error)

    def unread(self) -> int:
        """Return the kernel's charge for the datagrams that are not read yet, in bytes."""
        return unread(self._descriptor)

    def fileno(self) -> int:
        """Return the descriptor to be watched for writability."""
        return self._socket.fileno()

    @property
    def capacity(self) -> int:
        """The bytes that one datagram can have on this host."""
        size = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return size - _KERNEL_RESERVE

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def _lost(self, error: OSError) -> bool:
        self.reachable = False
        self.why = f"{self.path}: {error.strerror or error}"
        return False


def new_socket() -> socket.socket:
    """Return a non-blocking datagram socket that is not connected yet."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    return sock


# A C int that ioctl(2) writes in place: cheaper than a bytes object in each round.
_unread = array("i", [0])


def unread(descriptor: int) -> int:
    """Return the kernel's charge for a socket's datagrams that are not read yet, in bytes.

    This is SIOCOUTQ of linux/sockios.h, which has the same number as TIOCOUTQ.
    """
    ioctl(descriptor, TIOCOUTQ, _unread)
    return _unread[0]


@lru_cache(maxsize=4096)
def charge(size: int) -> int:
    """Return the kernel's charge for an unread datagram of `size` bytes: far more than `size`.

    The charge is measured, because it differs between kernels.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        ours.send(bytes(size))
        return unread(ours.fileno())
