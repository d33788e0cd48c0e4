"""The process at the other end of a Unix socket: SO_PEERCRED, unix(7)."""

import os
import socket
import struct

# The user that stands for all users whom a user namespace does not have: user_namespaces(7).
_OVERFLOW_USER = 65534


def credentials(sock: socket.socket) -> tuple[int, int]:
    """Return the process number and the user of the other end."""
    size = struct.calcsize("3i")
    pid, user, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, user


def stands_for_others(user: int) -> bool:
    """Return whether this number, which is that of our own user, can be another user as well.

    In a user namespace, as with PrivateUsers=yes, all other users have one and the same number.
    """
    return user == os.geteuid() == _OVERFLOW_USER and not _has_all_users()


def _has_all_users() -> bool:
    """Return whether this process's user namespace has every user: user_namespaces(7)."""
    with open("/proc/self/uid_map") as uid_map:
        return uid_map.read().split() == ["0", "0", "4294967295"]
