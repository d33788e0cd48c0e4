"""A connected, non-blocking datagram socket to a log daemon on this host, unix(7)."""

import fcntl
import socket
import termios
from array import array
from functools import lru_cache

# Bytes that may be unread; the kernel doubles them, and gives at most net.core.wmem_max. It calls
# the socket writable again when a quarter is unread (unix_writable, net/unix/af_unix.c), so a full
# queue wakes us once for hundreds of records: each takes 3.3 us of CPU if 50 clients send 64 at a
# time. With libsystemd's 8 MiB, a quarter of which no queue reaches, it is one by one, and 9.5 us.
_SEND_BUFFER = 512 * 1024
# The kernel keeps this much of the buffer from a single datagram, sock_alloc_send_pskb.
_KERNEL_RESERVE = 32


class DatagramSocket:
    """Puts whole datagrams into the queue of the socket at `path`, or says that it could not.

    `reachable` is False while nobody has the socket open at the other end; `why` says so in words.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.reachable = False
        self.why = ""
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        self.connect()

    def connect(self) -> bool:
        """Look for the other end anew and say whether somebody is there.

        A datagram socket can be connected again, connect(2). A new one would need a descriptor,
        and there may be none just then.
        """
        try:
            self._socket.connect(self.path)
        except OSError as error:
            return self._lost(error)
        self.reachable = True
        return True

    def put(self, datagram: bytes) -> bool:
        """Say whether the other end's queue has taken the datagram. Never blocks."""
        try:
            self._socket.send(datagram)
        except BlockingIOError:
            return False
        except OSError as error:
            return self._lost(error)
        return True

    def doubtful(self) -> list[bytes]:
        """Return what has been taken and may be lost: nobody can tell, of a log daemon."""
        return []

    def fileno(self) -> int:
        """Return the descriptor to be watched for writability."""
        return self._socket.fileno()

    @property
    def capacity(self) -> int:
        """The bytes that one datagram may have here."""
        size = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        return size - _KERNEL_RESERVE

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def _lost(self, error: OSError) -> bool:
        self.reachable = False
        self.why = f"{self.path}: {error.strerror or error}"
        return False


# An int of C's that is written in place: 0.4 us each time that the loop goes round, not 0.9.
_unread = array("i", [0])


def unread(sock: socket.socket) -> int:
    """Return the bytes that the other end has not read yet, as the kernel charges for them.

    SIOCOUTQ in linux/sockios.h, which has the number of TIOCOUTQ.
    """
    fcntl.ioctl(sock, termios.TIOCOUTQ, _unread)
    return _unread[0]


@lru_cache(maxsize=4096)
def charge(size: int) -> int:
    """Return what the kernel charges for one unread datagram of `size` bytes: far more than that.

    Measured, since it differs between kernels.
    """
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with ours, theirs:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        ours.send(bytes(size))
        return unread(ours)
