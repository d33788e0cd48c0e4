"""TLS over a TCP socket, with the methods of a socket that a connection uses.

OpenSSL gets bytes from buffers in memory, ssl.MemoryBIO, and not from the socket:

- A call decrypts a bounded number of bytes. SSL_read(3) on a socket goes on as long as the client
  sends messages without payload, such as requests for new keys, and the loop would stand still.
- OpenSSL does not see an end of TCP without an end of TLS. It could send nothing afterwards, and
  acks would be lost.
"""

import errno
import os
import socket
import ssl
from contextlib import suppress
from typing import Any

from ackd.server.stream import CutOffError, Stream
from ackd.server.tls_failures import in_words

# Bytes of a record: its header has the kind, the version, and the length of the rest. RFC 5246,
# 6.2.3, allows the most bytes.
_HEADER, _PAYLOAD, _RECORD = 5, 16384, 5 + 16384 + 2048
# Bytes of the beginning of a message of the handshake, RFC 8446, 4: its type, and its length.
_MESSAGE = 4
# Bytes of a client's hello. Real ones have two thousand, with post-quantum keys, or a few more with
# a ticket.
_LONGEST_HELLO = 8192
# Bytes that one call decrypts, but for the rest of a record that is larger. Each record can hold a
# single byte: two hundred of them take half a millisecond.
_CHUNK = 4096
# Bytes that wait for room in the kernel, beside a record with replies. A client causes them if it
# asks for new keys again and again, and never reads.
_MOST_UNSENT = 65536
# Bytes that may come before the next payload: those of a large record, and a few messages.
_MOST_WITHOUT_PAYLOAD = 2 * _RECORD


class LongHelloError(ssl.SSLError):
    """The client's hello is longer than any client's, or does not say how long it is."""

    reason = "LONG_HELLO"


class EncryptedStream:
    """TLS of one connection, on the side of the server.

    First, `handshake` is called until it returns True. From then on the connection waits for the
    same events as with the socket:

    - No byte that has arrived waits in here, but for an unfinished record. If the end of TLS or an
      error comes together with payload, SHUT_RD makes the socket readable once more.
    - What TLS itself has to send, such as new keys, goes out with the next reply at the latest.
    """

    __slots__ = (
        "_context",
        "_ended",
        "_failure",
        "_incoming",
        "_missing",
        "_outgoing",
        "_pending",
        "_record",
        "_shut",
        "_socket",
        "_tls",
        "_unsent",
        "_without_payload",
    )

    def __init__(self, sock: Stream, context: ssl.SSLContext) -> None:
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        # The state of TLS is large, and is created when the first record is whole.
        self._tls: ssl.SSLObject
        self._context: ssl.SSLContext | None = context
        # Of the record that the handshake reads: its bytes, and how many are missing.
        self._record = b""
        self._missing = _HEADER
        self._unsent = b""  # encrypted, and not taken by the kernel yet
        self._pending = 0  # bytes of a `send` that are in `_unsent`, and not counted as sent yet
        self._without_payload = 0  # bytes that have come since the last payload
        # Why nothing can be sent or received.
        self._failure = "the TLS handshake is not complete"
        self._ended = False  # the client has ended its sending
        self._shut = False  # this end has ended its sending

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        return self._socket.fileno()

    def getsockopt(self, level: int, option: int, size: int, /) -> bytes:
        """Return an option of the socket."""
        return self._socket.getsockopt(level, option, size)

    def setsockopt(self, level: int, option: int, value: int, /) -> None:
        """Set an option of the socket."""
        self._socket.setsockopt(level, option, value)

    # The handshake

    @property
    def wants_write(self) -> bool:
        """Whether the handshake waits for room in the kernel, and not for the client's bytes."""
        return bool(self._unsent)

    def handshake(self) -> bool:
        """Read on to the end of a record and answer it; return whether the handshake is complete.

        No byte is read that comes after the handshake: the kernel would not report it once more.
        Raises ssl.SSLError if the handshake fails, EOFError at the end of TCP, and OSError.
        """
        if not self._flush():
            return False
        if self._failure:  # otherwise only the last answer was left
            self._read_record()
            try:
                if self._context:
                    self._begin(self._context)
                self._incoming.write(self._record)
                self._record, self._missing = b"", _HEADER
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._flush()
                return False
            except ssl.SSLError as error:
                self._failure = in_words(error)
                with suppress(OSError):
                    self._flush()  # the alert
                raise
            self._failure = ""
        return self._flush()

    def _read_record(self) -> None:
        """Read the rest of the present record, and not more; raises BlockingIOError."""
        while self._missing:
            data = self._socket.recv(self._missing)
            if not data:
                raise EOFError
            self._record += data
            self._missing -= len(data)
            if len(self._record) == _HEADER:
                length = int.from_bytes(self._record[3:], "big")
                most = _LONGEST_HELLO if self._context else _RECORD
                self._missing = length if length <= most else 0  # such a record is rejected

    def _begin(self, context: ssl.SSLContext) -> None:
        """Begin with the client's hello; raises LongHelloError.

        OpenSSL allocates as many bytes as a message claims to have, up to a hundred thousand.
        """
        message = self._record[_HEADER : _HEADER + _MESSAGE]
        if len(message) < _MESSAGE or int.from_bytes(message[1:], "big") > _LONGEST_HELLO:
            raise LongHelloError
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._context = None

    @property
    def version(self) -> str:
        """The version of TLS, such as `TLSv1.3`, after the handshake."""
        return self._tls.version() or ""

    @property
    def cipher(self) -> str:
        """The cipher suite, by OpenSSL's name, after the handshake."""
        cipher = self._tls.cipher()
        return cipher[0] if cipher else ""

    def certificate(self) -> dict[str, Any]:
        """Return the client's certificate as SSLSocket.getpeercert() does; empty without one.

        Raises ValueError if its text is not Unicode.
        """
        return self._tls.getpeercert() or {}

    # Payload

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        """Return payload: `size` bytes at most, or all of a record that is larger.

        With MSG_PEEK, return what the socket has, which is encrypted; the bytes may hold no
        payload. The same after `shutdown`, when nobody uses what comes. Raises CutOffError if TCP
        has ended without an end of TLS, and OSError.
        """
        if self._shut:
            return self._socket.recv(size, flags)
        if self._failure and not flags:
            raise self._error()
        if self._failure or self._ended:
            return b""
        if flags:
            return self._socket.recv(size, flags)
        payload = b""
        while not payload:
            data = self._socket.recv(min(size, _CHUNK))
            if not data:
                raise CutOffError
            payload = self._decrypt(data)
            if self._ended or self._failure:
                return self._at_end(payload)
        return payload

    def _decrypt(self, data: bytes) -> bytes:
        """Return all payload that these further bytes complete; note an end or an error."""
        self._incoming.write(data)
        parts: list[bytes] = []
        try:
            while part := self._tls.read(_PAYLOAD):
                parts.append(part)
                if not self._incoming.pending:
                    break
            else:
                self._ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError as error:
            self._failure = in_words(error)
        self._without_payload = 0 if parts else self._without_payload + len(data)
        if self._without_payload > _MOST_WITHOUT_PAYLOAD:
            self._failure = "the client sends TLS messages without payload"
        if self._outgoing.pending:
            self._answer()
        return b"".join(parts)

    def _answer(self) -> None:
        """Send what TLS itself answers to the client, as far as there is room."""
        with suppress(OSError):  # the next send fails as well
            self._flush()
        if len(self._unsent) > _MOST_UNSENT:
            self._failure = "the client does not read what TLS answers"

    def _at_end(self, payload: bytes) -> bytes:
        """Return the last payload; then the end or the error comes with the next call."""
        if not payload and self._failure:
            raise self._error()
        if payload:
            with suppress(OSError):  # the client has closed as well
                self._socket.shutdown(socket.SHUT_RD)
        return payload

    def send(self, data: bytes, /) -> int:
        """Send payload, and return how many bytes the kernel has taken.

        A record with bytes that are not taken may be encrypted already. The next call must begin
        with the same bytes, as the replies that a connection owes do; it counts the whole record.
        Raises BlockingIOError and OSError.
        """
        if self._failure or self._shut:
            raise self._error()
        sent = 0
        while sent < len(data):
            if not self._pending:
                self._pending = self._encrypt(data[sent : sent + _PAYLOAD])
            if not self._flush():
                break
            sent += self._pending
            self._pending = 0
        if not sent:
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))
        return sent

    def _encrypt(self, data: bytes) -> int:
        """Encrypt a record, and return how many bytes it holds."""
        try:
            return self._tls.write(data)
        except ssl.SSLError as error:
            self._failure = in_words(error)
            raise self._error() from error

    def _flush(self) -> bool:
        """Send what is encrypted as far as there is room; return whether nothing is left."""
        if self._outgoing.pending:
            self._unsent += self._outgoing.read()
        if self._unsent:
            with suppress(BlockingIOError):
                self._unsent = self._unsent[self._socket.send(self._unsent) :]
        return not self._unsent

    def _error(self) -> OSError:
        return OSError(errno.EPROTO, self._failure or os.strerror(errno.EPIPE))

    # The end

    def shutdown(self, how: int, /) -> None:
        """End the sending with close_notify, as far as there is room for it, and with FIN."""
        self._close_notify()
        self._socket.shutdown(how)

    def close(self) -> None:
        """Close the descriptor, after a close_notify if there was none yet."""
        self._close_notify()
        self._socket.close()

    def _close_notify(self) -> None:
        if self._shut or self._failure:
            return
        self._shut = True
        with suppress(ssl.SSLError):  # it would go on to wait for the client's close_notify
            self._tls.unwrap()
        with suppress(OSError):
            self._flush()
