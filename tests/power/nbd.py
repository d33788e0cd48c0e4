"""Serves a `VirtualDisk` to QEMU by the protocol NBD, with the messages that QEMU needs.

The specification is doc/proto.md of https://github.com/NetworkBlockDevice/nbd.
"""

import contextlib
import enum
import errno
import socket
import struct
import threading
from collections.abc import Callable

from .disk import VirtualDisk

_OPTION_MAGIC = b"IHAVEOPT"
_OPTION_REPLY_MAGIC = 0x3E889045565A9
_REQUEST_MAGIC = 0x25609513
_REPLY_MAGIC = 0x67446698

_FIXED_NEWSTYLE, _NO_ZEROES = 1, 2
# Transmission flags: HAS_FLAGS, SEND_FLUSH. Without SEND_FUA, QEMU flushes for such a write.
_DISK_FLAGS = 1 | 4

_OPTION = struct.Struct(">8sII")
_OPTION_REPLY = struct.Struct(">QIII")
_INFO_EXPORT = struct.Struct(">HQH")
_REQUEST = struct.Struct(">IHHQQI")
_REPLY = struct.Struct(">IIQ")


class Option(enum.IntEnum):
    """Requests before the transmission."""

    ABORT = 2
    GO = 7


class OptionReply(enum.IntEnum):
    """Replies to them."""

    ACK = 1
    INFO = 3
    UNSUPPORTED = (1 << 31) + 1


class Command(enum.IntEnum):
    """Requests of the transmission."""

    READ = 0
    WRITE = 1
    DISCONNECT = 2
    FLUSH = 3


class DiskServer:
    """A thread that serves one connection, until the client closes it."""

    def __init__(self, disk: VirtualDisk, connection: socket.socket) -> None:
        self._disk = disk
        self._connection = connection
        self._stream = connection.makefile("rb")
        self._is_last: Callable[[bytes], bool] = lambda data: False
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def stop_at(self, is_last: Callable[[bytes], bool]) -> None:
        """Answer nothing from a write on for whose data `is_last` returns true.

        That write is in the disk's cache. The connection stays open: the client sees no error.
        """
        self._is_last = is_last

    def await_stop(self, timeout: float) -> None:
        """Wait until it has stopped, or at most so many seconds."""
        self._stopped.wait(timeout)

    def join(self) -> None:
        """Wait until the client has closed the connection, and all its requests are done."""
        self._thread.join()

    def _serve(self) -> None:
        with self._connection, self._stream, contextlib.suppress(EOFError, ConnectionError):
            if self._negotiate():
                while self._reply_to_request():
                    pass
                while self._stream.read(65536):
                    pass

    def _negotiate(self) -> bool:
        """Handle options until the transmission may begin; return whether it may."""
        self._connection.sendall(
            b"NBDMAGIC" + _OPTION_MAGIC + struct.pack(">H", _FIXED_NEWSTYLE | _NO_ZEROES)
        )
        self._read(4)  # the client's flags
        while True:
            _, option, length = _OPTION.unpack(self._read(_OPTION.size))
            self._read(length)
            match option:
                case Option.GO:
                    info = _INFO_EXPORT.pack(0, self._disk.size, _DISK_FLAGS)
                    self._reply_to_option(option, OptionReply.INFO, info)
                    self._reply_to_option(option, OptionReply.ACK)
                    return True
                case Option.ABORT:
                    self._reply_to_option(option, OptionReply.ACK)
                    return False
                case _:
                    self._reply_to_option(option, OptionReply.UNSUPPORTED)

    def _reply_to_option(self, option: int, reply: OptionReply, data: bytes = b"") -> None:
        head = _OPTION_REPLY.pack(_OPTION_REPLY_MAGIC, option, reply, len(data))
        self._connection.sendall(head + data)

    def _reply_to_request(self) -> bool:
        """Handle a command; return whether another may follow."""
        magic, _, command, cookie, offset, length = _REQUEST.unpack(self._read(_REQUEST.size))
        assert magic == _REQUEST_MAGIC
        data, error = b"", 0
        match command:
            case Command.READ:
                data = self._disk.read(offset, length)
            case Command.WRITE:
                written = self._read(length)
                self._disk.write(offset, written)
                if self._is_last(written):
                    self._stopped.set()
                    return False
            case Command.FLUSH:
                self._disk.flush()
            case Command.DISCONNECT:
                return False
            case _:
                error = errno.EINVAL
        self._connection.sendall(_REPLY.pack(_REPLY_MAGIC, error, cookie) + data)
        return True

    def _read(self, length: int) -> bytes:
        data = self._stream.read(length)
        if len(data) < length:
            raise EOFError
        return data
