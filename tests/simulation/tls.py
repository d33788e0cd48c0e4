"""The simulation over TLS: clients whose bytes, replies and end go through records."""

import socket
import ssl
from contextlib import suppress
from math import inf
from typing import ClassVar

from ackd.config import Config
from ackd.protocol import NOT_CONNECT
from ackd.server.tls import Tls
from tests.simulation.simulation import MOMENT, PATIENCE, Client, ClientSocket, World, connected
from tests.support.certificates import Authority
from tests.support.tls import client_context, server_context

# Seconds for a handshake, which is never the reason for an end here.
HANDSHAKE = 1000.0


class TlsSocket:
    """A client's socket with TLS. What it has taken is sent, perhaps only by a later `flush`."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        self.ready = False  # the handshake is complete
        self.reading = True
        self._socket = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._unsent = b""
        self.room = inf  # bytes that may be sent now
        self._payload = b""
        self._ended = self._rejected = False
        self.said_end = False  # the server has ended TLS, and not only TCP

    def flush(self) -> bool:
        """Send what there is room for; return whether nothing is left."""
        self._unsent += self._outgoing.read()
        ready = self._unsent[: None if self.room == inf else int(self.room)]
        if ready:
            with suppress(BlockingIOError):
                sent = self._socket.send(ready)
                self._unsent = self._unsent[sent:]
                self.room -= sent
        return not self._unsent

    def shake_hands(self) -> None:
        """Go on with the handshake; ackd answers in plain text if it rejects the client before."""
        with suppress(BlockingIOError):
            data = self._socket.recv(65536)
            if data.startswith(NOT_CONNECT):
                self._payload = data
                self.ready = self._ended = self._rejected = True
                return
            self._incoming.write(data)
        with suppress(ssl.SSLWantReadError):
            self._tls.do_handshake()
            self.ready = True
        self.flush()

    def send(self, data: bytes, /) -> int:
        if self._rejected:
            raise BrokenPipeError
        if not self.ready or not self.flush():
            raise BlockingIOError
        taken = self._tls.write(data)
        self.flush()
        return taken

    def recv(self, size: int, flags: int = 0, /) -> bytes:
        if self.ready and self.reading and not self._payload and not self._ended:
            self._receive()
        if not self._payload and not self._ended:
            raise BlockingIOError
        data = self._payload[:size]
        if not flags:
            self._payload = self._payload[size:]
        return data

    def _receive(self) -> None:
        data = self._socket.recv(65536)
        self._ended = not data
        self._incoming.write(data)
        with suppress(ssl.SSLWantReadError):
            while part := self._read():
                self._payload += part
            self._ended = self.said_end = True

    def _read(self) -> bytes:
        with suppress(ssl.SSLZeroReturnError):  # the end, if this end has said its own before
            return self._tls.read(65536)
        return b""

    def shutdown(self, _how: int, /) -> None:
        """Send close_notify, and no FIN."""
        with suppress(ssl.SSLError):
            self._tls.unwrap()
        self.flush()

    def setsockopt(self, level: int, option: int, value: bytes, /) -> None:
        self._socket.setsockopt(level, option, value)

    def close(self) -> None:
        self._socket.close()


class TlsClient(Client):
    """A client over TLS."""

    _socket: TlsSocket

    def _connect(self, address: str, port: int) -> ClientSocket:
        return TlsSocket(connected(address, port), TlsWorld.client_context)

    def shake_hands(self) -> bool:
        """Go on with the handshake, and return whether it is over."""
        if not self._socket.ready:
            self._socket.shake_hands()
        return self._socket.ready

    def flush(self) -> None:
        """Send what the kernel had no room for."""
        if not self.gone:
            with suppress(OSError):
                self._socket.flush()

    @property
    def said_end(self) -> bool:
        """Whether the server has ended TLS, and not only TCP."""
        return self._socket.said_end

    def let_go(self, room: float) -> None:
        """Let so many bytes go out from now on."""
        self._socket.room = room
        self.flush()

    def stop_or_start_reading(self) -> None:
        super().stop_or_start_reading()
        self._socket.reading = self.reading

    def close(self) -> None:
        """End TCP without an end of TLS: a rest without its newline is never stored."""
        self._rest = b""
        super().close()


class TlsWorld(World):
    """A world in which all connections are TLS; none of them can be handed over."""

    client_type = TlsClient
    client_context: ClassVar[ssl.SSLContext]

    @classmethod
    def prepare(cls, authority: Authority) -> None:
        """Have certificates for all worlds."""
        cls.tls = Tls(server_context(authority.issue("ackd")), (), HANDSHAKE)
        cls.client_context = client_context(authority)

    def __init__(self, config: Config) -> None:
        super().__init__(config)

    def connect(self) -> None:
        super().connect()
        client = self.clients[-1]
        assert isinstance(client, TlsClient)
        for _ in range(PATIENCE):
            ready = client.shake_hands()
            if ready and (client._greeted or client.ended):
                return
            self.go_round(MOMENT)
        raise AssertionError("the handshake hangs")

    def go_round(self, wait: float = 0) -> bool:
        for client in self.clients:
            assert isinstance(client, TlsClient)
            client.flush()
        return super().go_round(wait)

    def heal(self) -> None:
        super().heal()
        for client in self.active:
            assert isinstance(client, TlsClient)
            client._socket.reading = True

    def hand_over(self, lose_state: bool) -> None:
        self._abandon()
        super().hand_over(lose_state)
