"""TLS over real sockets: what a connection of ackd sees, and what its client."""

import errno
import select
import socket
import ssl
from collections.abc import Callable, Iterator
from contextlib import suppress

import pytest

from ackd.server.stream import CutOffError
from ackd.server.tls_stream import EncryptedStream
from tests.support.certificates import Authority, needs_openssl
from tests.support.openssl import send_close_notify, update_keys
from tests.support.tls import Version, client_context, server_context, shake_hands, tcp_pair

pytestmark = needs_openssl

RECORD = 16384


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ca")


@pytest.fixture(scope="module")
def context(authority: Authority) -> ssl.SSLContext:
    return server_context(authority.issue("ackd.example.org", names="DNS:ackd.example.org"))


class Ends:
    """Both ends of a connection with TLS: the client's as Python has it, and ackd's."""

    def __init__(
        self,
        raw: socket.socket,
        server: socket.socket,
        ours: ssl.SSLContext,
        theirs: ssl.SSLContext,
    ) -> None:
        self.raw = server
        self.stream = EncryptedStream(server, theirs)
        self.client = shake_hands(raw, self.stream, ours)

    def readable(self, timeout: float = 0) -> bool:
        """Return whether the loop would call the connection."""
        return bool(select.select([self.stream], [], [], timeout)[0])

    def receive(self, size: int = 65536) -> bytes:
        """Wait as the loop does, then read once."""
        assert self.readable(20)
        return self.stream.recv(size)

    def receive_all(self, count: int, size: int = 65536) -> bytes:
        """Read until there are so many bytes, waiting as the loop does."""
        data = b""
        while len(data) < count:
            with suppress(BlockingIOError):
                data += self.receive(size)
        return data

    def await_bytes(self, count: int) -> None:
        """Wait until so many encrypted bytes are there at least, but for the last few."""
        received = 0
        while received < count and self.readable(20):
            received = len(self.raw.recv(65536, socket.MSG_PEEK))

    def fill(self) -> int:
        """Send until the kernel has no room; return the bytes that were taken."""
        taken = 0
        while select.select([], [self.stream], [], 0.2)[1]:
            with suppress(BlockingIOError):
                taken += self.stream.send(b"x" * 40000)
        return taken


Open = Callable[..., Ends]


@pytest.fixture(params=[Version.TLSv1_2, Version.TLSv1_3], ids=["1.2", "1.3"])
def version(request: pytest.FixtureRequest) -> Version:
    return Version(request.param)


@pytest.fixture
def only_1_3(version: Version) -> None:
    if version is not Version.TLSv1_3:
        pytest.skip("TLS 1.2 has nothing like it")


@pytest.fixture
def ends(authority: Authority, context: ssl.SSLContext, version: Version) -> Iterator[Ends]:
    with tcp_pair() as (client, server):
        ends = Ends(client, server, client_context(authority, version=version), context)
        with ends.client:
            yield ends


@pytest.fixture
def narrow(authority: Authority, context: ssl.SSLContext, version: Version) -> Iterator[Ends]:
    """Both ends of a connection with little room for what ackd sends."""
    with tcp_pair(buffers=8192) as (client, server):
        ends = Ends(client, server, client_context(authority, version=version), context)
        with ends.client:
            yield ends


def test_payload_arrives_in_both_directions(ends: Ends) -> None:
    ends.client.sendall(b"hello\n")
    assert ends.receive() == b"hello\n"
    assert ends.stream.send(b"ok\n") == 3
    assert ends.client.recv(100) == b"ok\n"
    assert not ends.readable()
    with pytest.raises(BlockingIOError):
        ends.stream.recv(100)


@pytest.mark.parametrize("size", [1, 100, 65536])
def test_nothing_that_has_arrived_waits_for_an_event_that_never_comes(
    ends: Ends, size: int
) -> None:
    data = bytes(range(256)) * 400
    for start in range(0, len(data), 7001):
        ends.client.sendall(data[start : start + 7001])
    for number in range(300):
        ends.client.sendall(b"%d\n" % number)
    lines = b"".join(b"%d\n" % number for number in range(300))
    assert ends.receive_all(len(data) + len(lines), size) == data + lines
    assert not ends.readable()


def test_one_call_returns_a_bounded_number_of_bytes(ends: Ends) -> None:
    for _ in range(10):
        ends.client.sendall(b"x" * RECORD)
    for _ in range(5000):
        ends.client.sendall(b"y")
    sizes: list[int] = []
    while sum(sizes) < 10 * RECORD + 5000:
        with suppress(BlockingIOError):
            sizes.append(len(ends.receive()))
    assert max(sizes) <= RECORD + 4096
    assert max(sizes[-20:]) <= 4096 / 20


def test_a_peek_says_that_something_has_come_and_takes_nothing(ends: Ends) -> None:
    with pytest.raises(BlockingIOError):
        ends.stream.recv(1, socket.MSG_PEEK)
    ends.client.sendall(b"hello\n")
    assert ends.readable(20)
    assert ends.stream.recv(1, socket.MSG_PEEK)
    assert ends.receive() == b"hello\n"


@pytest.mark.usefixtures("only_1_3")
def test_bytes_that_come_with_the_end_of_the_handshake_are_seen(
    authority: Authority, context: ssl.SSLContext
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority).wrap_bio(incoming, outgoing)
    with tcp_pair() as (ours, theirs):
        stream = EncryptedStream(theirs, context)
        with suppress(ssl.SSLWantReadError):
            client.do_handshake()
        ours.sendall(outgoing.read())
        assert select.select([theirs], [], [], 20)[0]
        assert not stream.handshake()
        incoming.write(ours.recv(65536))
        client.do_handshake()
        client.write(b"early\n")
        ours.sendall(outgoing.read())
        assert select.select([theirs], [], [], 20)[0]
        while not stream.handshake():
            pass
        assert select.select([theirs], [], [], 0)[0]
        assert stream.recv(100) == b"early\n"


def test_a_handshake_in_single_bytes_ends_in_the_same_way(
    authority: Authority, context: ssl.SSLContext, version: Version
) -> None:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = client_context(authority, version=version).wrap_bio(incoming, outgoing)
    with tcp_pair() as (ours, theirs):
        stream = EncryptedStream(theirs, context)
        finished = False
        while not finished:
            with suppress(ssl.SSLWantReadError):
                client.do_handshake()
            for byte in outgoing.read():
                ours.sendall(bytes([byte]))
                assert select.select([theirs], [], [], 20)[0]
                with suppress(BlockingIOError):
                    finished = stream.handshake()
            if not finished:
                incoming.write(ours.recv(65536))
        assert stream.version == version.name.replace("_", ".")
        assert not select.select([theirs], [], [], 0)[0]


# The end


def expect_close_notify(client: ssl.SSLSocket) -> None:
    """Read the end of TLS; the end of TCP alone raises SSLEOFError."""
    with suppress(ssl.SSLZeroReturnError):  # so it is if the client has sent its own before
        assert client.recv(100) == b""


def test_a_client_that_has_ended_its_sending_gets_replies(ends: Ends) -> None:
    ends.client.sendall(b"half")
    send_close_notify(ends.client)
    assert ends.receive() == b"half"
    assert ends.receive() == b""
    assert ends.stream.send(b"ok\n") == 3
    ends.stream.shutdown(socket.SHUT_WR)
    assert ends.client.recv(100) == b"ok\n"
    expect_close_notify(ends.client)


def test_the_end_is_seen_although_it_has_come_with_payload(ends: Ends) -> None:
    ends.client.sendall(b"one\n")
    send_close_notify(ends.client)
    ends.await_bytes(2 * (5 + 16) + len(b"one\n"))  # both records are there
    assert ends.receive() == b"one\n"
    assert ends.readable()
    assert ends.stream.recv(1, socket.MSG_PEEK) == b""
    assert ends.receive() == b""
    assert ends.receive() == b""


def test_an_end_of_tcp_alone_is_no_end_and_replies_are_still_sent(ends: Ends) -> None:
    ends.client.sendall(b"one\ntw")
    socket.socket.shutdown(ends.client, socket.SHUT_WR)
    assert ends.receive() == b"one\ntw"
    for _ in range(2):
        with pytest.raises(CutOffError):
            ends.receive()
    assert ends.stream.send(b"ok\n") == 3
    assert ends.client.recv(100) == b"ok\n"


def test_an_end_of_tcp_within_a_record_is_no_end(ends: Ends) -> None:
    client = ends.client.detach()
    with socket.socket(fileno=client) as raw:
        raw.send(b"\x17\x03\x03\x00\x40half of a record")
        raw.shutdown(socket.SHUT_WR)
        with pytest.raises(CutOffError):
            ends.receive()


def test_a_reset_is_an_error(ends: Ends) -> None:
    ends.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.client.close()
    with pytest.raises(ConnectionResetError):
        ends.receive()
    ends.stream.close()


def test_closing_sends_close_notify(ends: Ends) -> None:
    assert ends.stream.send(b"ok\n") == 3
    ends.stream.close()
    assert ends.client.recv(100) == b"ok\n"
    expect_close_notify(ends.client)


def test_what_comes_after_the_shutdown_is_only_drained(ends: Ends) -> None:
    ends.stream.shutdown(socket.SHUT_WR)
    ends.client.sendall(b"late\n" * 1000)
    assert ends.receive()
    expect_close_notify(ends.client)
    ends.client.close()
    while ends.receive():
        pass


def test_a_damaged_record_ends_the_connection_in_words_after_the_payload_before(
    ends: Ends,
) -> None:
    ends.client.sendall(b"one\n")
    with socket.socket(fileno=ends.client.detach()) as raw:
        raw.sendall(b"\x17\x03\x03\x00\x40" + bytes(64))
        ends.await_bytes(69 + len(b"one\n") + 5 + 17)  # both records are there
        assert ends.receive() == b"one\n"
        with pytest.raises(OSError) as caught:
            ends.receive()
        assert (caught.value.errno, caught.value.strerror) == (
            errno.EPROTO,
            "a record from the client is damaged",
        )
        with pytest.raises(OSError):
            ends.stream.send(b"ok\n")
        ends.stream.close()
        assert raw.recv(100)[0] in (0x15, 0x17)  # the alert, which TLS 1.3 encrypts


# A client that does not read


def read_exactly(client: ssl.SSLSocket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        data += client.recv(count - len(data))
    return data


def test_what_the_kernel_has_no_room_for_is_sent_later_and_once(narrow: Ends) -> None:
    data = b"".join(b"%09d\n" % number for number in range(60000))
    sent, received = 0, b""
    narrow.client.setblocking(False)
    while len(received) < len(data):
        # The connection is owed more and more: what a call sends changes at its end only.
        for grown in (20000, 40000, 40000):
            with suppress(BlockingIOError):
                sent += narrow.stream.send(data[sent : sent + grown])
        with suppress(ssl.SSLWantReadError):
            received += narrow.client.recv(5000)
    assert received == data
    assert sent == len(data)


def test_a_shutdown_waits_for_no_room_and_keeps_what_the_kernel_has_taken(narrow: Ends) -> None:
    taken = narrow.fill()
    narrow.stream.shutdown(socket.SHUT_WR)
    assert len(read_exactly(narrow.client, taken)) == taken
    with suppress(ssl.SSLEOFError):  # there may have been room for a part of the record only
        while narrow.client.recv(65536):
            pass


# New keys, and handshakes in the middle


@pytest.mark.usefixtures("only_1_3")
@pytest.mark.parametrize("ask", [False, True])
def test_a_client_can_use_new_keys(ends: Ends, ask: bool) -> None:
    for number in range(50):
        update_keys(ends.client, ask)
        ends.client.sendall(b"%d\n" % number)
        assert ends.receive_all(1) == b"%d\n" % number
        assert ends.stream.send(b"ok\n") == 3
        assert ends.client.recv(100) == b"ok\n"


@pytest.mark.usefixtures("only_1_3")
def test_a_client_that_asks_for_new_keys_and_does_not_read_is_read_on(narrow: Ends) -> None:
    taken = narrow.fill()
    update_keys(narrow.client, ask=True)
    narrow.client.sendall(b"one\n")
    assert narrow.receive_all(4) == b"one\n"
    assert not narrow.readable()  # the loop does not spin
    received = 0
    narrow.client.setblocking(False)
    while received < taken + 40000:
        with suppress(ssl.SSLWantReadError):
            received += len(narrow.client.recv(65536))
        with suppress(BlockingIOError):
            narrow.stream.send(b"x" * 40000)


@pytest.mark.usefixtures("only_1_3")
def test_a_client_that_asks_for_keys_only_is_ended_soon(ends: Ends) -> None:
    for _ in range(3000):
        update_keys(ends.client, ask=False)
    with pytest.raises(OSError, match="TLS messages without payload"):
        ends.receive()
    assert ends.readable()  # most of it was not even read


@pytest.mark.usefixtures("only_1_3")
def test_a_client_that_asks_for_keys_and_never_reads_costs_little_memory(narrow: Ends) -> None:
    narrow.fill()
    with pytest.raises(OSError, match="does not read what TLS answers"):
        ask_for_keys(narrow, 10000)
    assert len(narrow.stream._unsent) < 100_000


def ask_for_keys(ends: Ends, times: int) -> None:
    for _ in range(times):
        update_keys(ends.client, ask=True)
        ends.client.sendall(b"x")
        ends.receive_all(1)
