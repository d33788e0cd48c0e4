"""One connected socket to an ackd: it reads acks while it sends, so neither side can stall."""

import errno
import os
import select
import socket
from collections.abc import Iterable, Iterator
from contextlib import suppress
from math import inf
from time import monotonic
from typing import NamedTuple

from ackd.printable import printable
from ackd.protocol import NOT_CONNECT, ClientProtocol, Reply

DEFAULT_PORT = 10008
# Seconds. Longer than ackd's default `journal_wait`: its refusal is a better answer than none.
DEFAULT_TIMEOUT = 15.0
# Bytes not sent yet, and payloads not replied to, from which on a client takes no further ones.
# The second is for a server that reads for ever and never replies.
_FULL, _WINDOW = 262144, 65536
_CHUNK = 65536
_CLOSED = "the server closed the connection"


class ClientError(Exception):
    """The exchange can't go on; the text says where it stopped."""


class NotReachedError(ClientError):
    """There is no connection: no such name, refused, unreachable, or no answer in time."""


class NoGreetingError(ClientError):
    """There is a connection, but nothing greets us."""


class TurnedAwayError(ClientError):
    """The server said `not connect`, in the line `said`; it has recorded nothing."""

    def __init__(self, said: bytes) -> None:
        super().__init__(printable(said))
        self.said = said


class NoAckError(ClientError):
    """Payloads were sent and no reply came: whether they are recorded is unknown."""


class NotAckdError(NoAckError):
    """What came is not what an ackd sends: no reply of this server tells anything."""


class Client:
    """A connection to an ackd, greeted when it is there.

    `timeout` bounds each wait, in seconds: for what the name stands for, for the connection, for
    the greeting, for the next reply while one is due. `send` is for one payload after another,
    `exchange` for many at once; `offer`, `wait` and `pump` are what both are made of; who watches
    several clients selects each by its `fileno`, for writing too as long as it is `writing`,
    instead of calling `wait`.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = DEFAULT_PORT,
        timeout: float = DEFAULT_TIMEOUT,
        source: str = "",
        greeted: bool = True,
    ) -> None:
        """Connect, from the local address `source` if there is one given.

        Of a server with an empty greeting one is not `greeted`. A greeting would be taken for an
        ack then, so that there is none is seen by a connection of its own before, NotAckdError if
        there is; `send` and the like may raise TurnedAwayError. Raises NotReachedError,
        NoGreetingError, TurnedAwayError, and ValueError of a port or source that can't be one.
        """
        if not 1 <= port <= 65535:
            raise ValueError(f"{port} is no port: 1 to 65535")
        if source:
            check_address(source)
        if not greeted:
            _expect_silence(_connected(host, port, timeout, source), timeout)
        self._timeout = timeout
        self._protocol = ClientProtocol(expect_greeting=greeted)
        self._output = bytearray()
        self._broken = ""
        self._finishing = self._finished = False
        self._patience = timeout  # seconds left to wait for what is due
        self._socket = _connected(host, port, timeout, source)
        try:
            self._await_greeting()
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def greeting(self) -> bytes:
        """What the server said first, without the end of the line."""
        return self._protocol.greeting or b""

    @property
    def unanswered(self) -> int:
        """How many payloads have been offered and not been replied to."""
        return self._protocol.unanswered

    @property
    def full(self) -> bool:
        """Whether to pump before the next payload is offered."""
        return len(self._output) >= _FULL or self.unanswered >= _WINDOW

    @property
    def writing(self) -> bool:
        """Whether `pump` waits for the connection to take more, not only for replies."""
        return bool(self._output)

    def fileno(self) -> int:
        """Return the descriptor, for who watches several."""
        return self._socket.fileno()

    def send(self, payload: bytes) -> Reply:
        """Send one payload and return the reply to it; raises NoAckError."""
        *_, reply = self.exchange([payload])
        return reply

    def exchange(self, payloads: Iterable[bytes]) -> Iterator[Reply]:
        """Send payloads without waiting for each reply; yield the replies, in order.

        Each is sent as soon as it comes out of `payloads`, which may take its time. Replies that
        an earlier exchange did not wait for come first. Raises NoAckError; replies that have been
        yielded stay true.
        """
        for payload in payloads:
            self.offer(payload)
            yield from self.pump()
            while self.full:
                yield from self._step()
        while self.unanswered:
            yield from self._step()

    def offer(self, payload: bytes) -> None:
        """Take a payload to be sent by `pump`; one that holds a newline is a ValueError."""
        if not self.unanswered:
            self._patience = self._timeout
        self._output += self._protocol.send_payload(payload)

    def wait(self, source: int = -1, most: float = inf) -> bool:
        """Wait until `pump` has something to do, or until the descriptor `source` is readable.

        Return whether `source` is. It takes `most` seconds at most. Raises NoAckError when a reply
        is overdue.
        """
        self._check()
        poll = select.poll()
        poll.register(self._socket, select.POLLIN | (select.POLLOUT if self._output else 0))
        if source >= 0:
            poll.register(source, select.POLLIN)
        began = monotonic()
        due = self.unanswered or self._protocol.greeting is None or self._finishing
        patience = min(most, self._patience if due else inf)
        ready = dict(poll.poll(None if patience == inf else patience * 1000))
        if not ready and due and patience == self._patience:
            raise NoAckError(f"no answer within {self._timeout:g} s")
        # Only the time spent in here counts: not that of a caller who is busy between two waits.
        self._patience = max(0.0, self._patience - (monotonic() - began))
        return source in ready

    def flush(self) -> None:
        """Send what can be at once; that the connection has ended is told by `pump`."""
        try:
            # ackctl lets SIGPIPE end it, as a program at the front of a pipe should.
            sent = self._socket.send(self._output, socket.MSG_NOSIGNAL) if self._output else 0
        except BlockingIOError:
            return
        except OSError as error:
            # What it has replied before is still there to be read.
            self._broken, sent = self._broken or _explained_end(error), len(self._output)
        del self._output[:sent]

    def pump(self) -> list[Reply]:
        """Send and receive what can be at once; return the replies that came.

        Raises NoAckError when the connection has ended, or what came is not from an ackd.
        """
        self._check()
        self.flush()
        return self._receive()

    def finish(self) -> None:
        """End the sending, with no reply due, and wait until the server has closed.

        So does an ackd, without a further word: then each reply was that to its payload. Raises
        NotAckdError.
        """
        self._patience, self._finishing = self._timeout, True
        try:
            self._socket.shutdown(socket.SHUT_WR)
            while not self._finished:
                self._step()
        except NotAckdError:
            raise
        except (OSError, NoAckError) as error:
            raise NotAckdError(f"the server does not end as an ackd does: {error}") from error

    def close(self) -> None:
        """Close the connection; what has been replied to is recorded."""
        self._socket.close()

    def _await_greeting(self) -> None:
        while self._protocol.greeting is None:
            try:
                self._step()
            except NoAckError as error:
                raise NoGreetingError(str(error)) from None

    def _step(self) -> list[Reply]:
        self.wait()
        return self.pump()

    def _check(self) -> None:
        """Stop where replies came that belong to no payload: no later one could be trusted."""
        if self._protocol.unexpected:
            raise NotAckdError(f"{self._protocol.unexpected}: it is no ackd")

    def _receive(self) -> list[Reply]:
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            if self._broken:
                raise NoAckError(self._broken) from None
            return []
        except OSError as error:
            raise NoAckError(_explained_end(error)) from error
        if not data:
            return self._end()
        replies = self._protocol.receive_data(data)
        if self._protocol.turned_away:
            raise TurnedAwayError(self.greeting)
        if replies:
            self._patience = self._timeout
        else:
            self._check()
        return replies

    def _end(self) -> list[Reply]:
        if not self._finishing:
            raise NoAckError(self._broken or _CLOSED)
        self._finished = True
        return []


def _explained_end(error: OSError) -> str:
    if isinstance(error, BrokenPipeError):
        return _CLOSED
    if isinstance(error, ConnectionResetError):
        return "the other side reset the connection"
    return f"the connection broke: {error.strerror}"


class Address(NamedTuple):
    """One of those that a name stands for, as socket() and connect() take it."""

    family: int
    address: tuple[object, ...]


def check_address(text: str) -> None:
    """Raise ValueError unless it is an IPv4 or IPv6 address; `%` and an interface may follow."""
    try:
        socket.getaddrinfo(text or "-", None, flags=socket.AI_NUMERICHOST)
    except (OSError, UnicodeError):
        raise ValueError(f"{text!r} is not an IPv4 or IPv6 address") from None


def resolve(host: str, port: int, timeout: float) -> list[Address]:
    """Return all that the name stands for; raises NotReachedError, with the reason as its cause."""
    try:
        return _found(host, port, timeout)
    except TimeoutError as error:
        why = f"no answer within {timeout:g} s: the name servers, or the way to them, are down"
        raise _unresolved(host, why) from error
    except (OSError, UnicodeError) as error:
        raise _unresolved(host, getattr(error, "strerror", None) or str(error)) from error


def _unresolved(host: str, why: str) -> NotReachedError:
    return NotReachedError(f"{shown(host)}: the name can't be resolved: {why}")


def shown(host: str) -> str:
    """Return a name as it may be printed."""
    return printable(os.fsencode(host))


def _found(host: str, port: int, timeout: float) -> list[Address]:
    """Return the addresses of a name, or the one that it is; raises what getaddrinfo() does."""
    with suppress(socket.gaierror):
        return _addresses(host, port, socket.AI_NUMERICHOST)
    # In a thread: getaddrinfo() has its own idea of patience, and hears no Ctrl-C.
    from queue import Empty, SimpleQueue  # for names only: these take longer than to send a line
    from threading import Thread

    answers: SimpleQueue[list[Address] | Exception] = SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_addresses(host, port))
        except (OSError, UnicodeError) as error:
            answers.put(error)

    Thread(target=ask, daemon=True).start()
    try:
        answer = answers.get(timeout=timeout)
    except Empty:
        raise TimeoutError from None
    if isinstance(answer, Exception):
        raise answer
    return answer


def _addresses(host: str, port: int, flags: int = 0) -> list[Address]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
    return [Address(family, address) for family, *_, address in found]


def alike(address: Address, source: str) -> bool:
    """Say whether it can be reached from the address `source`: IPv4 from IPv4, IPv6 from IPv6."""
    return not source or (":" in source) == (address.family == socket.AF_INET6)


def connect(address: Address, timeout: float, source: str = "") -> socket.socket:
    """Return a non-blocking connected socket; raises OSError, which `explain` puts into words."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        if source:
            sock.bind((source, 0))
        sock.settimeout(timeout)
        sock.connect(address.address)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        sock.close()
        raise
    return sock


def explain(error: OSError, timeout: float) -> str:
    """Return what it means that `connect` has failed so, with that timeout."""
    if isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s: the host is down, or a firewall drops packets"
    return _EXPLAINED.get(error.errno or 0, f"{error.strerror}")


_EXPLAINED = {
    errno.ECONNREFUSED: "connection refused: nothing listens on that port, or a firewall refuses",
    errno.EHOSTUNREACH: "no route to host: it is down, or a firewall turns packets back",
    errno.ENETUNREACH: "network is unreachable: this host, or a router, has no route there",
    errno.EADDRNOTAVAIL: "this host has no such address to connect from; `ip address` shows all",
}


def _connected(host: str, port: int, timeout: float, source: str) -> socket.socket:
    """Connect to the first address that answers; each of a name has its share of the time."""
    addresses = [address for address in resolve(host, port, timeout) if alike(address, source)]
    if not addresses:
        raise NotReachedError(f"{shown(host)}: it has no address of the same kind as {source}")
    deadline = monotonic() + timeout
    failure: OSError = TimeoutError(errno.ETIMEDOUT, "timed out")
    for number, address in enumerate(addresses):
        share = (deadline - monotonic()) / (len(addresses) - number)
        try:
            return connect(address, max(0.001, share), source)
        except OSError as error:
            failure = error
    raise NotReachedError(f"{shown(host)} port {port}: {explain(failure, timeout)}") from failure


def _expect_silence(sock: socket.socket, timeout: float) -> None:
    """Make sure that a server does not greet: who says nothing is told nothing."""
    sock.settimeout(timeout)
    try:
        with sock, sock.makefile("rb") as reader:
            sock.shutdown(socket.SHUT_WR)
            said = reader.readline(_CHUNK)
    except OSError as error:
        why = error.strerror or str(error)
        raise NotAckdError(f"it does not close a connection without payloads: {why}") from error
    if said.startswith(NOT_CONNECT):
        raise TurnedAwayError(said.removesuffix(b"\n"))
    if said:
        raise NotAckdError(f"no greeting was expected, and it says {printable(said.rstrip())}")
