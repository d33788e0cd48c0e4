"""A connected, non-blocking datagram socket to a log daemon on this host, unix(7)."""

import fcntl
import socket
import termios
from array import array
from functools import lru_cache

from ackd.journal.recorder import Sink

# Bytes that may be unread; the kernel doubles them, and gives at most net.core.wmem_max. It calls
# the socket writable again when a quarter is unread (unix_writable, net/unix/af_unix.c), so a full
# queue wakes us once for hundreds of records. With libsystemd's 8 MiB the queue's length is the
# limit, a quarter of the buffer is never reached, and each record wakes us.
_SEND_BUFFER = 512 * 1024
# The kernel keeps this much of the buffer from a single datagram, sock_alloc_send_pskb.
_KERNEL_RESERVE = 32


class DatagramSocket(Sink):
    """Puts whole datagrams into the queue of the socket at `path`, or reports that it could not.

    `reachable` is False while no process has the socket at the other end open; `why` says why.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.reachable = False
        self.why = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.connect()

    def connect(self) -> bool:
        """Connect anew, and return whether a process has the other end open.

        A datagram socket can be connected again, connect(2). A new socket would need a descriptor,
        and there may be none at that moment.
        """
        try:
            self._socket.connect(self.path)
        except OSError as error:
            return self._lost(error)
        self.reachable = True
        return True

    def put(self, datagram: bytes) -> bool:
        """Return whether the other end's queue has taken the datagram. Never blocks."""
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._lost(error)
        return True

    def unread(self) -> int:
        """Return the bytes that the other end has not read yet, as the kernel charges for them."""
        return unread(self._socket)

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


# An int of C's that ioctl(2) writes in place: cheaper than a bytes object in each round.
_unread = array("i", [0])


def unread(sock: socket.socket) -> int:
    """Return the bytes that the other end has not read yet, as the kernel charges for them.

    SIOCOUTQ in linux/sockios.h, which has the number of TIOCOUTQ.
    """
    fcntl.ioctl(sock, termios.TIOCOUTQ, _unread)
    return _unread[0]


@lru_cache(maxsize=4096)
def charge(size: int) -> int:
    """Return what the kernel charges for an unread datagram of `size` bytes: far more than `size`.

    It is measured, because it differs between kernels.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        ours.send(bytes(size))
        return unread(ours)
