"""The library: against a real ackd, and against servers that are none."""

import select
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from ackd.client import (
    Client,
    ClientError,
    NoGreetingError,
    NotReachedError,
    RejectedError,
    UnexpectedReplyError,
    UnknownOutcomeError,
)
from ackd.protocol import Reply, Verdict
from tests.conftest import StartDaemon
from tests.support.fake_server import Caller, FakeServer, scripted_server
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING

ACKNOWLEDGED = Reply(Verdict.ACKNOWLEDGED, ACK.removesuffix(b"\n"))
SOON = 0.2  # seconds, for a first wait that is meant to be in vain
LATER = 0.5  # for one after a greeting, which must come in time


def acknowledged(text: bytes) -> Reply:
    return Reply(Verdict.ACKNOWLEDGED, text)


def greet_and_be_mute(caller: Caller) -> None:
    caller.send(GREETING)
    caller.expect(b"hello\n")
    caller.expect_end()


def test_a_payload_is_recorded_and_its_reply_returned(start: StartDaemon) -> None:
    ackd = start()
    with Client(port=ackd.port) as client:
        assert client.greeting == b"Connect"
        assert client.send(b"hello") == ACKNOWLEDGED
        assert client.send(b"hello again") == ACKNOWLEDGED
    assert ackd.journal.payloads(2) == [b"hello", b"hello again"]


def test_a_refused_payload_is_no_exception_and_the_next_is_sent(start: StartDaemon) -> None:
    ackd = start("max_payload: 5")
    with Client(port=ackd.port) as client:
        assert client.send(b"too long") == Reply(
            Verdict.REFUSED, b"not received: longer than 5 bytes"
        )
        assert client.send(b"short") == ACKNOWLEDGED


@pytest.mark.parametrize(
    "payload",
    [b"", b"\r", b"ends in CR\r", b"\x00\xff\x1b[31m", b"\r\r\r", bytes(range(11, 256)), b" "],
)
def test_all_bytes_but_the_newline_arrive_unaltered(start: StartDaemon, payload: bytes) -> None:
    ackd = start()
    with Client(port=ackd.port) as client:
        assert client.send(payload) == ACKNOWLEDGED
    assert ackd.journal.payloads(1) == [payload]


def test_a_payload_with_a_newline_is_a_mistake_of_the_program(start: StartDaemon) -> None:
    ackd = start()
    with Client(port=ackd.port) as client:
        with pytest.raises(ValueError, match="one line"):
            client.send(b"two\nlines")
        assert client.send(b"the exchange goes on") == ACKNOWLEDGED


def test_200000_payloads_are_acknowledged_in_one_exchange(start: StartDaemon) -> None:
    ackd = start()
    with Client(port=ackd.port) as client:
        sent = (b"%d" % number for number in range(200_000))
        for number, reply in enumerate(client.exchange(sent)):
            assert reply == ACKNOWLEDGED
            assert ackd.journal.payloads(1) == [b"%d" % number]
        assert number == 199_999


def test_a_server_that_waits_until_its_replies_are_read_does_not_stall_the_exchange() -> None:
    line, count = b"x" * 4095 + b"\n", 2500  # 10 MB each way: more than any socket holds

    def reply_to_each_line_before_reading_the_next(caller: Caller) -> None:
        caller.send(GREETING)
        for _ in range(count):
            caller.expect(line)
            caller.send(line)

    with (
        scripted_server(reply_to_each_line_before_reading_the_next, buffer=4096) as port,
        Client(port=port) as client,
    ):
        replies = client.exchange(line.removesuffix(b"\n") for _ in range(count))
        assert sum(reply.verdict is Verdict.ACKNOWLEDGED for reply in replies) == count


def test_each_payload_is_sent_before_the_next_is_taken() -> None:
    arrived = threading.Event()

    def server(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"one\n")
        arrived.set()
        caller.expect(b"two\n")
        caller.send(b"ack 1\nack 2\n")

    def payloads() -> Iterator[bytes]:
        yield b"one"
        assert arrived.wait(10)
        yield b"two"

    with scripted_server(server) as port, Client(port=port) as client:
        replies = list(client.exchange(payloads()))
    assert replies == [acknowledged(b"ack 1"), acknowledged(b"ack 2")]


def test_a_payload_after_an_abandoned_exchange_gets_its_own_reply() -> None:
    def server(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"one\ntwo\n")
        caller.send(b"ack 1\n")
        caller.expect(b"three\n")
        caller.send(b"ack 2\nack 3\n")

    with scripted_server(server) as port, Client(port=port) as client:
        client.offer(b"one")
        for reply in client.exchange([b"two"]):
            assert reply == acknowledged(b"ack 1")
            break
        assert client.unanswered == 1
        assert client.send(b"three") == acknowledged(b"ack 3")


def test_a_reply_in_pieces_is_one_reply() -> None:
    def dribble(caller: Caller) -> None:
        for byte in GREETING:
            caller.send(bytes([byte]))
        caller.expect(b"hello\n")
        for byte in ACK:
            caller.send(bytes([byte]))

    with scripted_server(dribble) as port, Client(port=port) as client:
        assert client.send(b"hello") == ACKNOWLEDGED


def test_a_closed_port_is_not_reached() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        with pytest.raises(NotReachedError) as caught:
            Client(port=port)
    reason = "connection refused: nothing listens on that port, or a firewall refuses"
    assert str(caught.value) == f"127.0.0.1 port {port}: {reason}"


@pytest.mark.parametrize("host", ["fe80::1%nowhere", "two..dots", "x" * 64])
def test_a_name_that_can_not_be_resolved_is_not_reached(host: str) -> None:
    with pytest.raises(NotReachedError, match=f"^{host}: the name can't be resolved: ."):
        Client(host)


def test_an_address_without_its_interface_is_explained() -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs a host with IPv6")
    with pytest.raises(NotReachedError, match=r"need their interface, as in fe80::1%eth0$"):
        Client("fe80::1")


def test_the_client_connects_by_ipv6(start: StartDaemon) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("needs a host with IPv6")
    ackd = start("bind: '::1'")
    with Client("::1", ackd.port) as client:
        assert client.send(b"hello") == ACKNOWLEDGED


def test_a_full_server_rejects_the_client_with_its_reason(start: StartDaemon) -> None:
    ackd = start("max_connections: 1")
    with ackd.peer(), pytest.raises(RejectedError) as caught:
        Client(port=ackd.port)
    assert str(caught.value) == "not connect: too many connections, the limit is 1"


def test_payloads_are_sent_at_once_to_a_server_without_a_greeting(start: StartDaemon) -> None:
    ackd = start("greeting: ''")
    with Client(port=ackd.port, greeted=False) as client:
        assert client.greeting == b""
        assert client.send(b"hello") == ACKNOWLEDGED
        client.finish()
    assert ackd.journal.payloads(1) == [b"hello"]


def test_a_full_server_without_a_greeting_rejects_the_client(start: StartDaemon) -> None:
    ackd = start("greeting: ''\nmax_connections: 1")
    with Client(port=ackd.port, greeted=False) as first:
        assert first.send(b"hello") == ACKNOWLEDGED
        with pytest.raises(RejectedError) as caught:
            Client(port=ackd.port, greeted=False)
    assert caught.value.said == b"not connect: too many connections, the limit is 1"


def test_a_greeting_that_is_not_expected_is_never_taken_for_an_ack(start: StartDaemon) -> None:
    ackd = start()
    with pytest.raises(
        UnexpectedReplyError, match=r"^no greeting was expected, and it says Connect$"
    ):
        Client(port=ackd.port, greeted=False)


def test_a_server_that_never_stops_sending_does_not_hold_a_client_for_ever() -> None:
    def speak_byte_by_byte(caller: Caller) -> None:
        closed = select.poll()
        closed.register(caller.socket, 0)
        while not closed.poll(50):
            caller.send(b"x")

    with (
        scripted_server(speak_byte_by_byte) as port,
        pytest.raises(UnexpectedReplyError, match=r"^no greeting was expected, and it says x+$"),
    ):
        Client(port=port, timeout=LATER, greeted=False)


def test_a_server_that_is_silent_and_does_not_close_is_no_ackd() -> None:
    def server(caller: Caller) -> None:
        caller.expect_end()
        hold.wait(DEADLINE)

    hold = threading.Event()
    with scripted_server(server) as port:
        with pytest.raises(
            UnexpectedReplyError, match=r"^it does not close a connection without payloads"
        ):
            Client(port=port, timeout=SOON, greeted=False)
        hold.set()


@pytest.mark.parametrize("last_word", [Caller.reset, Caller.expect_end])
def test_a_server_that_does_not_close_like_an_ackd_is_detected(
    last_word: Callable[[Caller], None],
) -> None:
    def server(fake: FakeServer) -> None:
        with fake.accept() as silent:
            silent.expect_end()
        with fake.accept() as caller:
            caller.expect(b"hello\n")
            caller.send(b"Connect\n")
            caller.expect_end()
            last_word(caller)
            hold.wait(DEADLINE)

    hold = threading.Event()
    with FakeServer() as fake, ThreadPoolExecutor(1) as pool:
        served = pool.submit(server, fake)
        with Client(port=fake.port, timeout=LATER, greeted=False) as client:
            client.send(b"hello")
            with pytest.raises(UnexpectedReplyError, match="does not end as an ackd does"):
                client.finish()
        hold.set()
        served.result(DEADLINE)


@pytest.mark.parametrize("port", [0, 65536, -1])
def test_a_port_that_can_not_be_one_is_a_mistake_of_the_program(port: int) -> None:
    with pytest.raises(ValueError, match="is no port: 1 to 65535"):
        Client(port=port)


def test_a_source_must_be_an_address() -> None:
    with pytest.raises(ValueError, match="'localhost' is not an IPv4 or IPv6 address"):
        Client(source="localhost")


def test_a_host_name_is_escaped() -> None:
    with pytest.raises(NotReachedError, match=r"^evil\\x1b\[31m: the name can't be resolved: "):
        Client("evil\x1b[31m")


def test_the_address_to_connect_from_can_be_chosen(start: StartDaemon) -> None:
    ackd = start("allow: [127.0.0.7]")
    with Client(port=ackd.port, source="127.0.0.7") as client:
        assert client.send(b"hello") == ACKNOWLEDGED
    with pytest.raises(RejectedError, match="is not allowed here"):
        Client(port=ackd.port)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("192.0.2.7", "port 1: this host has no such address to connect from; ."),
        ("::1", "it has no address of the same kind as ::1"),
    ],
)
def test_a_source_that_can_not_be_used_is_reported(source: str, reason: str) -> None:
    with pytest.raises(NotReachedError, match=rf"^127\.0\.0\.1:? {reason}"):
        Client(port=1, source=source)


def test_a_wait_can_be_limited() -> None:
    with (
        scripted_server(greet_and_be_mute) as port,
        Client(port=port, timeout=LATER) as client,
    ):
        client.offer(b"hello")
        client.pump()
        assert not client.wait(most=0.001)
        with pytest.raises(UnknownOutcomeError, match=r"^no answer within 0\.5 s$"):
            client.wait(most=60)


def test_a_caller_that_is_busy_does_not_use_up_the_timeout() -> None:
    with (
        scripted_server(greet_and_be_mute) as port,
        Client(port=port, timeout=LATER) as client,
    ):
        client.offer(b"hello")
        client.pump()
        assert not select.select([client], [], [], 2 * LATER)[0]  # busy with something else
        assert not client.wait(most=0.001)
        with pytest.raises(UnknownOutcomeError, match=r"^no answer within 0\.5 s$"):
            client.wait()


def test_a_rejection_is_escaped() -> None:
    def server(caller: Caller) -> None:
        caller.send(b"\x1b[2Jnot connect\n")
        caller.expect_end()

    with scripted_server(server) as port, pytest.raises(RejectedError) as caught:
        Client(port=port)
    assert str(caught.value) == "\\x1b[2Jnot connect"


def test_a_server_that_never_greets_has_its_own_error() -> None:
    with scripted_server(Caller.expect_end) as port, pytest.raises(NoGreetingError) as caught:
        Client(port=port, timeout=SOON)
    assert str(caught.value) == "no answer within 0.2 s"


def test_a_greeting_without_an_end_is_no_greeting() -> None:
    def server(caller: Caller) -> None:
        caller.send(b"Connec")
        caller.expect_end()

    with scripted_server(server) as port, pytest.raises(NoGreetingError) as caught:
        Client(port=port, timeout=SOON)
    assert str(caught.value) == "no answer within 0.2 s"


def test_a_server_that_closes_instead_of_greeting_has_its_own_error() -> None:
    with scripted_server(lambda caller: None) as port, pytest.raises(NoGreetingError) as caught:
        Client(port=port)
    assert str(caught.value) == "the server closed the connection"


def test_an_ack_that_does_not_come_is_an_exception() -> None:
    with (
        scripted_server(greet_and_be_mute) as port,
        Client(port=port, timeout=LATER) as client,
        pytest.raises(UnknownOutcomeError, match=r"^no answer within 0\.5 s$"),
    ):
        client.send(b"hello")


def test_replies_before_a_reset_are_returned_first() -> None:
    def server(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"1\n2\n3\n4\n5\n")
        caller.send(ACK * 3)
        caller.reset()

    with scripted_server(server) as port, Client(port=port) as client:
        replies = client.exchange([b"1", b"2", b"3", b"4", b"5"])
        assert [next(replies), next(replies), next(replies)] == [ACKNOWLEDGED] * 3
        with pytest.raises(UnknownOutcomeError, match=r"^the other side reset the connection$"):
            next(replies)
        assert client.unanswered == 2


def test_a_payload_for_a_server_that_has_gone_is_an_exception() -> None:
    def server(caller: Caller) -> None:
        caller.send(GREETING)
        caller.half_close()
        caller.expect(b"hello\n")

    with scripted_server(server) as port, Client(port=port) as client:
        with pytest.raises(UnknownOutcomeError, match=r"^the server closed the connection$"):
            client.send(b"hello")
        assert client.unanswered == 1


def test_more_replies_than_payloads_end_the_exchange() -> None:
    def server(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"hello\n")
        caller.send(ACK + ACK)
        caller.expect_end()

    with scripted_server(server) as port, Client(port=port) as client:
        assert client.send(b"hello") == ACKNOWLEDGED
        with pytest.raises(UnknownOutcomeError) as caught:
            client.send(b"its ack could be the other one's")
    reason = "the server sent more replies than it was sent payloads"
    assert str(caught.value) == f"{reason}: it is no ackd"


def test_an_endless_line_is_no_reply() -> None:
    def server(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect(b"hello\n")
        caller.send(b"x" * 65537)
        caller.expect_end()

    with (
        scripted_server(server) as port,
        Client(port=port) as client,
        pytest.raises(UnknownOutcomeError) as caught,
    ):
        client.send(b"hello")
    assert str(caught.value) == "the server sent a line of over 65536 bytes: it is no ackd"


def test_one_except_clause_catches_every_error() -> None:
    with (
        scripted_server(greet_and_be_mute) as port,
        pytest.raises(ClientError),
        Client(port=port, timeout=LATER) as client,
    ):
        client.send(b"hello")


def test_a_server_that_never_replies_does_not_fill_the_memory() -> None:
    def read_and_be_mute(caller: Caller) -> None:
        caller.send(GREETING)
        while caller.socket.recv(1 << 20):
            pass

    def endless() -> Iterator[bytes]:
        while True:
            yield b""

    with scripted_server(read_and_be_mute) as port, Client(port=port, timeout=LATER) as client:
        with pytest.raises(UnknownOutcomeError, match=r"^no answer within 0\.5 s$"):
            list(client.exchange(endless()))
        assert client.unanswered == 65536
