"""Both sides of the exchange as bytes: received at once, byte by byte, or with more bytes after."""

import tracemalloc
from collections.abc import Callable, Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.protocol import (
    MAX_REPLY,
    ClientProtocol,
    Reply,
    ServerProtocol,
    Unended,
    Verdict,
    Violation,
    ack_line,
    greeting_line,
    rejection_line,
    unreachable,
)
from tests.support.runs import in_bytes

OK = ack_line(b"ok")
LONG = b"not received: longer than 10 bytes\n"
DISK_FULL = b"not received: the disk is full\n"
TEN = b"0123456789"
ELEVEN = b"0123456789a"
ACKNOWLEDGED = Reply(Verdict.ACKNOWLEDGED, b"ok")
Feeding = Callable[[bytes], Iterable[bytes]]


def whole(data: bytes) -> list[bytes]:
    return [data]


def byte_by_byte(data: bytes) -> list[bytes]:
    return [data[position : position + 1] for position in range(len(data))]


def with_more_behind(data: bytes) -> list[bytes]:
    return [data + b"more"]


every_feeding = pytest.mark.parametrize("feeding", [whole, byte_by_byte, with_more_behind])
# For data that EOF follows.
every_feeding_to_the_end = pytest.mark.parametrize("feeding", [whole, byte_by_byte])


class Server(ServerProtocol):
    """A server whose journal takes everything at once; `recorded` and `replies` grow."""

    def __init__(self, max_payload: int = 10) -> None:
        super().__init__(max_payload, OK)
        self.recorded: list[bytes] = []
        self.replies = b""

    def feed(self, chunks: Iterable[bytes]) -> None:
        for chunk in chunks:
            self.receive_data(chunk)
            self.record(len(self.payloads))

    def end(self) -> None:
        self.record(len(self.receive_eof()))
        while self.waiting:
            self.record(len(self.split(-1)))

    def record(self, count: int) -> None:
        self.recorded += self.payloads[:count]
        self.replies += in_bytes(self.acknowledge(count))

    def successor(self) -> "Server":
        """Return another server that continues from the state of this one."""
        successor = Server(self.max_payload)
        successor.restore(self.state())
        successor.recorded, successor.replies = self.recorded, self.replies
        return successor


LINES = {
    "a line is a payload": (b"hello\n", [b"hello"], OK),
    "each of several lines is a payload": (b"a\nb\nc\n", [b"a", b"b", b"c"], OK * 3),
    "an empty line is a payload": (b"\n", [b""], OK),
    "two empty lines are two payloads": (b"\n\n", [b"", b""], OK * 2),
    "one CR before the LF is not part of the payload": (b"hello\r\n", [b"hello"], OK),
    "of two CRs before the LF one is part of the payload": (b"hello\r\r\n", [b"hello\r"], OK),
    "a CR alone before the LF is an empty payload": (b"\r\n", [b""], OK),
    "a CR elsewhere is part of the payload": (b"\rhel\rlo\n", [b"\rhel\rlo"], OK),
    "NUL, ESC and a byte that is not text are part of the payload": (
        b"\0\x1b\xff\n",
        [b"\0\x1b\xff"],
        OK,
    ),
    "as long as allowed": (TEN + b"\n", [TEN], OK),
    "as long as allowed, and a CR": (TEN + b"\r\n", [TEN], OK),
    "one byte too long": (ELEVEN + b"\n", [], LONG),
    "one byte too long, and a CR": (ELEVEN + b"\r\n", [], LONG),
    "too long because of a CR that is part of the payload": (TEN + b"\r\r\n", [], LONG),
    "far too long": (TEN * 100 + b"\n", [], LONG),
    "good lines around a long line": (b"a\n" + ELEVEN + b"\nb\n", [b"a", b"b"], OK + LONG + OK),
    "two long lines in a row": ((ELEVEN + b"\n") * 2, [], LONG * 2),
    "two long lines, then a good line": ((ELEVEN + b"\n") * 2 + b"a\n", [b"a"], LONG * 2 + OK),
    "a long line last": (b"a\nb\n" + TEN * 3 + b"\n", [b"a", b"b"], OK * 2 + LONG),
    "empty lines around a long line": (b"\n" + ELEVEN + b"\n\n", [b"", b""], OK + LONG + OK),
}


@every_feeding
@pytest.mark.parametrize(("sent", "recorded", "replies"), LINES.values(), ids=LINES.keys())
def test_each_line_is_recorded_and_answered(
    feeding: Feeding, sent: bytes, recorded: list[bytes], replies: bytes
) -> None:
    server = Server()
    server.feed(feeding(sent))
    assert server.recorded == recorded
    assert server.replies == replies


@every_feeding
def test_the_next_line_begins_where_a_line_has_ended(feeding: Feeding) -> None:
    server = Server()
    server.feed(feeding(b"hello\r\n"))
    server.feed([b"!\n"])
    last = b"more!" if feeding is with_more_behind else b"!"
    assert server.recorded == [b"hello", last]


@every_feeding
def test_received_bytes_and_both_kinds_of_reply_are_counted(feeding: Feeding) -> None:
    server = Server()
    sent = b"a\n" + ELEVEN + b"\nb\n"
    server.feed(feeding(sent))
    assert server.received == sum(map(len, feeding(sent)))
    assert (server.acknowledged, server.refused) == (2, 1)


ENDS = {
    "a last line without LF is a payload too": (b"a\nb", [b"a", b"b"], OK * 2),
    "after a last line with LF there is no payload": (b"a\n", [b"a"], OK),
    "no bytes are no payload": (b"", [], b""),
    "a CR at the end is part of the payload": (b"a\r", [b"a\r"], OK),
    "a CR alone is a payload": (b"\r", [b"\r"], OK),
    "as long as allowed": (TEN, [TEN], OK),
    "as long as allowed, and a CR, is too long": (TEN + b"\r", [], LONG),
    "one byte too long": (ELEVEN, [], LONG),
    "two bytes too long is refused once": (ELEVEN + b"b", [], LONG),
    "far too long is refused once": (b"a\n" + TEN * 100, [b"a"], OK + LONG),
}


@every_feeding_to_the_end
@pytest.mark.parametrize(("sent", "recorded", "replies"), ENDS.values(), ids=ENDS.keys())
def test_eof_ends_the_last_line(
    feeding: Feeding, sent: bytes, recorded: list[bytes], replies: bytes
) -> None:
    server = Server()
    server.feed(feeding(sent))
    server.end()
    assert server.recorded == recorded
    assert server.replies == replies


def test_a_second_eof_changes_nothing() -> None:
    server = Server()
    server.feed([b"rest"])
    server.end()
    server.end()
    assert server.recorded == [b"rest"]


@every_feeding_to_the_end
def test_a_line_is_refused_as_soon_as_it_is_certainly_too_long(feeding: Feeding) -> None:
    server = Server()
    server.feed(feeding(ELEVEN))
    assert server.replies == b""  # the last byte could be a CR before an LF
    server.feed([b"!"])
    assert server.replies == LONG


@every_feeding
def test_the_rest_of_a_refused_line_is_skipped(feeding: Feeding) -> None:
    server = Server()
    server.feed([TEN * 2, TEN * 2])
    server.feed(feeding(b"still the same line\na\n"))
    assert server.recorded == [b"a"]
    assert server.replies == LONG + OK


def test_a_refused_line_can_end_with_the_first_byte_of_a_chunk() -> None:
    server = Server()
    server.feed([TEN * 2, b"\n", b"a\n"])
    assert server.recorded == [b"a"]
    assert server.replies == LONG + OK


def test_a_line_may_arrive_in_many_chunks() -> None:
    server = Server()
    server.feed([b"he", b"", b"ll", b"o", b"\r", b"\n"])
    assert server.recorded == [b"hello"]


@pytest.mark.parametrize("most", [-1, 1, 2], ids=["all at once", "one by one", "two by two"])
@pytest.mark.parametrize("chunk", [2500, 5000, 5001, 20_000])
def test_long_lines_are_split_correctly_whatever_the_chunks(chunk: int, most: int) -> None:
    payloads = [b"a" * 5000, b"b" * 4999 + b"\r", b"c" * 2500, b"", b"d" * 5000]
    data = b"\n".join([*payloads, b"the next"])
    server = Server(5000)
    for position in range(0, len(data), chunk):
        server.receive_data(data[position : position + chunk], most)
        while server.waiting:
            server.record(len(server.split(most)))
    server.end()
    assert server.recorded == [*(line.removesuffix(b"\r") for line in payloads), b"the next"]


def test_payloads_wait_until_they_are_acknowledged() -> None:
    server = ServerProtocol(10, b"ok\n")
    assert server.receive_data(b"a\nb\nc\nd") == [b"a", b"b", b"c"]
    assert in_bytes(server.acknowledge(0)) == b""
    assert in_bytes(server.acknowledge(2)) == OK * 2
    assert server.payloads == [b"c"]
    assert server.receive_data(b"\n") == [b"c", b"d"]
    assert in_bytes(server.acknowledge(2)) == OK * 2
    assert server.receive_eof() == []


def test_a_refusal_waits_for_the_payloads_before_it() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\n" + ELEVEN + b"\nc\n")
    assert in_bytes(server.acknowledge(0)) == b""
    assert in_bytes(server.acknowledge(1)) == OK
    assert in_bytes(server.acknowledge(1)) == OK + LONG
    assert in_bytes(server.acknowledge(1)) == OK


def test_a_refusal_without_payloads_before_it_is_due_at_once() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(ELEVEN + b"\na\n")
    assert in_bytes(server.acknowledge(0)) == LONG
    assert in_bytes(server.acknowledge(1)) == OK


def test_a_line_refused_while_payloads_wait_keeps_its_place() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\n")
    server.receive_data(ELEVEN + b"\n")
    server.receive_data(b"c\n" + ELEVEN + b"\n")
    assert in_bytes(server.acknowledge(3)) == OK * 2 + LONG + OK + LONG


def test_sequence_numbers_have_no_gap() -> None:
    server = ServerProtocol(10, b"ok\n")
    assert server.sequence == 1
    server.receive_data(b"a\n" + ELEVEN + b"\nb\nc\n")
    assert server.sequence == 1
    server.acknowledge(1)
    assert server.sequence == 2  # the refused line, which is next, has no number
    server.acknowledge(1)
    assert server.sequence == 3
    server.refuse("no journal")
    server.receive_data(b"d\n")
    assert server.sequence == 3


def test_all_waiting_payloads_can_be_refused_and_the_connection_continues() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\n" + ELEVEN + b"\nb\nc")
    refused = b"not received: no journal\n"
    assert in_bytes(server.refuse("no journal")) == refused + LONG + refused
    assert (server.acknowledged, server.refused) == (0, 3)
    assert server.receive_data(b"!\n") == [b"c!"]
    assert in_bytes(server.acknowledge(1)) == OK


def test_payloads_can_be_refused_a_few_at_a_time() -> None:
    server = ServerProtocol(10, b"ok\n")
    refused = b"not received: no journal\n"
    assert server.receive_data(b"a\nb\n" + ELEVEN + b"\nc\nd", 2) == [b"a", b"b"]
    assert in_bytes(server.refuse_payloads("no journal")) == refused * 2
    assert server.waiting
    assert server.split(2) == [b"c"]
    assert in_bytes(server.refuse_payloads("no journal")) == LONG + refused
    assert (server.acknowledged, server.refused) == (0, 4)
    assert server.receive_data(b"!\n") == [b"d!"]
    assert in_bytes(server.acknowledge(1)) == OK


def test_refusing_without_waiting_payloads_gives_no_replies() -> None:
    assert in_bytes(ServerProtocol(10, b"ok\n").refuse("no journal")) == b""


def test_taken_payloads_are_answered_later_and_more_are_received_meanwhile() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\nc\n")
    assert server.take(2) == []
    assert (server.taken, server.payloads, server.waiting) == (2, [b"c"], True)
    server.receive_data(b"d\n")
    assert server.take(2) == []
    assert (server.taken, server.acknowledged, server.waiting) == (4, 0, False)
    assert in_bytes(server.acknowledge_taken(3)) == OK * 3
    assert (server.taken, server.acknowledged) == (1, 3)
    assert in_bytes(server.acknowledge_taken(1)) == OK
    assert (server.taken, server.acknowledged) == (0, 4)


def test_taken_payloads_have_their_numbers() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\nc\n")
    server.acknowledge(1)
    server.take(1)
    assert server.sequence == 3
    server.take(1)
    assert server.sequence == 4
    server.acknowledge_taken(2)
    assert server.sequence == 4


def test_the_numbers_of_refused_taken_payloads_are_given_again() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\nc\n")
    server.take(3)
    server.acknowledge_taken(1)
    assert in_bytes(server.refuse_taken("the disk is full")) == DISK_FULL * 2
    assert (server.taken, server.acknowledged, server.refused, server.sequence) == (0, 1, 2, 2)
    server.receive_data(b"d\n")
    server.take(1)
    assert in_bytes(server.acknowledge_taken(1)) == OK


def test_a_refusal_before_taken_payloads_is_due_at_once_and_others_keep_their_places() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(ELEVEN + b"\na\n" + ELEVEN + b"\nb\nc\n")
    assert in_bytes(server.take(2)) == LONG
    server.receive_data(ELEVEN + b"\n")
    assert server.take(1) == []
    assert in_bytes(server.acknowledge_taken(1)) == OK + LONG
    server.receive_data(ELEVEN + b"\nd\n")
    assert in_bytes(server.refuse_taken("the disk is full")) == DISK_FULL * 2 + LONG * 2
    assert in_bytes(server.acknowledge(1)) == OK


def test_payloads_that_wait_can_be_refused_once_no_payload_is_taken() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\n" + ELEVEN + b"\nc")
    server.take(1)
    assert in_bytes(server.acknowledge_taken(1)) == OK
    assert in_bytes(server.refuse("the log is full")) == b"not received: the log is full\n" + LONG


def test_a_last_line_without_its_end_can_be_taken() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"21.5")
    assert server.receive_eof() == [b"21.5"]
    server.take(1)
    assert not server.waiting
    assert not server.unterminated
    assert server.unended.size == 0
    assert in_bytes(server.acknowledge_taken(1)) == OK


@given(st.lists(st.sampled_from([TEN, ELEVEN, b"", b"a"])), st.data())
def test_replies_come_in_the_order_of_the_lines_whatever_is_taken_when(
    lines: list[bytes], data: st.DataObject
) -> None:
    taking, plain = ServerProtocol(10, OK), Server()
    replies = b""
    for line in lines:
        plain.feed([line + b"\n"])
        taking.receive_data(line + b"\n")
        replies += in_bytes(taking.take(data.draw(st.integers(0, len(taking.payloads)))))
        if data.draw(st.booleans()):
            replies += in_bytes(taking.acknowledge_taken(data.draw(st.integers(0, taking.taken))))
    replies += in_bytes(taking.take(len(taking.payloads)))
    replies += in_bytes(taking.acknowledge_taken(taking.taken))
    assert replies == plain.replies
    assert (taking.acknowledged, taking.refused) == (plain.acknowledged, plain.refused)


def test_a_changed_ack_is_used_for_later_acknowledgements() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"a\nb\n")
    assert in_bytes(server.acknowledge(1)) == OK
    server.configure(10, b"thank you\n")
    assert in_bytes(server.acknowledge(1)) == b"thank you\n"


def test_a_lower_limit_applies_to_an_unfinished_line() -> None:
    server = Server()
    server.feed([b"a\n0123456"])
    server.configure(5, b"ok\n")
    server.feed([b"\nb\n"])
    assert server.recorded == [b"a", b"b"]
    assert server.replies == OK + b"not received: longer than 5 bytes\n" + OK


def test_a_lower_limit_does_not_apply_to_waiting_payloads() -> None:
    server = Server()
    server.receive_data(b"0123456\n")
    server.configure(5, b"ok\n")
    server.record(1)
    assert server.recorded == [b"0123456"]


def test_a_higher_limit_applies_to_an_unfinished_line() -> None:
    server = Server()
    server.feed([TEN])
    server.configure(20, b"ok\n")
    server.feed([TEN + b"\n"])
    assert server.recorded == [TEN * 2]


def test_a_line_refused_under_a_lower_limit_stays_refused() -> None:
    server = Server()
    server.feed([TEN * 2])
    server.configure(100, b"ok\n")
    server.feed([b"the rest\na\n"])
    assert server.recorded == [b"a"]
    assert server.replies == LONG + OK


def test_a_successor_continues_an_unfinished_line() -> None:
    server = Server()
    server.feed([b"a\nhel"])
    server = server.successor()
    server.feed([b"lo\n"])
    assert server.recorded == [b"a", b"hello"]
    assert (server.received, server.acknowledged, server.sequence) == (8, 2, 3)


def test_a_successor_skips_the_rest_of_a_refused_line() -> None:
    server = Server()
    server.feed([TEN * 2])
    server = server.successor()
    server.feed([b"the rest\na\n"])
    assert server.recorded == [b"a"]
    assert server.replies == LONG + OK
    assert server.refused == 1


def test_a_successor_answers_waiting_payloads_in_order() -> None:
    server = Server()
    server.receive_data(b"a\nb\n" + ELEVEN + b"\nc\n")
    server.record(1)
    server = server.successor()
    server.record(2)
    assert server.recorded == [b"a", b"b", b"c"]
    assert server.replies == OK + OK + LONG + OK


def test_a_successor_shares_no_state_with_its_predecessor() -> None:
    server = Server()
    server.receive_data(b"a\n" + ELEVEN + b"\nhel")
    server.successor().refuse("no journal")
    assert server.payloads == [b"a"]
    assert in_bytes(server.acknowledge(1)) == OK + LONG


def test_an_empty_ack_sends_nothing_and_refusals_are_still_sent() -> None:
    assert ack_line(b"") == b""
    server = ServerProtocol(10, ack_line(b""))
    server.receive_data(b"a\nb\n" + ELEVEN + b"\nc\n")
    assert server.acknowledge(2) == [(LONG, 1)]
    assert server.acknowledge(1) == []
    assert server.acknowledged == 3


def test_replies_that_are_alike_are_a_number() -> None:
    server = ServerProtocol(10, OK)
    server.receive_data(b"a\n" * 20_000 + (ELEVEN + b"\n") * 10_000 + b"a\n" * 5)
    assert server.acknowledge(20_005) == [(OK, 20_000), (LONG, 10_000), (OK, 5)]


def test_a_last_line_without_its_end_comes_alone_after_all_others() -> None:
    server = ServerProtocol(10, OK)
    server.receive_data(b"a\nb\n21.5")
    assert server.receive_eof() == [b"a", b"b"]
    assert not server.unterminated
    server.acknowledge(2)
    assert server.waiting
    assert server.split(-1) == [b"21.5"]
    assert server.unterminated
    assert server.acknowledge(1) == [(OK, 1)]
    assert not server.unterminated
    assert not server.waiting
    assert server.unended.size == 0


@pytest.mark.parametrize("split", [False, True], ids=["behind others", "alone"])
def test_a_successor_knows_that_a_last_line_has_no_end(split: bool) -> None:
    server = Server()
    server.receive_data(b"a\n21.5")
    server.receive_eof()
    if split:
        server.record(1)
        server.split(-1)
    server = server.successor()
    server.receive_eof()
    if not split:
        server.record(1)
    assert server.split(-1) == [b"21.5"]
    assert server.unterminated


def test_all_waiting_payloads_are_refused_and_a_last_line_without_its_end_too() -> None:
    server = ServerProtocol(10, OK)
    server.receive_data(b"a\n21.5")
    server.receive_eof()
    assert server.refuse("no journal") == [(b"not received: no journal\n", 2)]
    assert not server.waiting


UNENDED = {
    "nothing": (b"a\n", Unended(0, b"")),
    "half a line": (b"a\n21.5", Unended(4, b"")),
    "lines that end in CR": (b"a\rb\r", Unended(4, b"\r")),
    "lines that end in NUL": (b"a\0b\0", Unended(4, b"\0")),
    "both": (b"a\0b\r", Unended(4, b"\r\0")),
    "more than a payload may have": (b"a\0" * 6 + b"\r" * 20, Unended(32, b"\r\0")),
    "as much, and its end": (b"a\0" * 16 + b"\nb", Unended(1, b"")),
}


@every_feeding_to_the_end
@pytest.mark.parametrize(("sent", "unended"), UNENDED.values(), ids=UNENDED.keys())
def test_bytes_without_an_end_of_line_are_counted(
    feeding: Feeding, sent: bytes, unended: Unended
) -> None:
    server = Server()
    server.feed(feeding(sent))
    assert server.unended == unended
    assert server.successor().unended == unended


def test_bytes_that_wait_for_their_record_after_eof_are_counted() -> None:
    server = Server()
    server.receive_data(b"a\nb\0")
    server.receive_eof()
    assert server.unended == Unended(2, b"\0")
    server.record(1)
    server.split(-1)
    assert server.unended == Unended(2, b"\0")


@every_feeding_to_the_end
def test_empty_lines_can_be_no_payloads(feeding: Feeding) -> None:
    server = Server()
    server.configure(10, OK, record_empty=False)
    server.feed(feeding(b"\r\n\r\n\na\n\0\0\n\r\r\n \n\0b\n\0"))
    server.end()
    assert server.recorded == [b"a", b" ", b"\0b"]
    assert server.replies == OK * 3


def test_the_bytes_of_an_unfinished_line_are_counted() -> None:
    server = ServerProtocol(10, b"ok\n")
    server.receive_data(b"one\ntw")
    assert server.unfinished == 2
    server.receive_data(b"o\n")
    assert server.unfinished == 0


def test_a_refusal_names_the_place_that_takes_no_records() -> None:
    refusal = ServerProtocol(10, b"ok\n")
    refusal.receive_data(b"one\n")
    expected = b"not received: the standard output can't be reached\n"
    assert in_bytes(refusal.refuse(unreachable("the standard output"))) == expected


def test_the_greeting_and_the_rejection_are_lines() -> None:
    assert greeting_line(b"Connect") == b"Connect\n"
    assert greeting_line(b"") == b""
    assert rejection_line("too many connections") == b"not connect: too many connections\n"


def test_an_endless_line_needs_bounded_memory() -> None:
    server = ServerProtocol(65536, b"ok\n")
    chunk = b"x" * 65536
    tracemalloc.start()
    for _ in range(1000):
        server.receive_data(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert in_bytes(server.acknowledge(0)) == b"not received: longer than 65536 bytes\n"
    assert peak < 1_000_000


REPLIES = {
    "an ack": (1, b"ok\n", [ACKNOWLEDGED]),
    "an ack for each": (3, OK * 3, [ACKNOWLEDGED] * 3),
    "an ack may be empty": (1, b"\n", [Reply(Verdict.ACKNOWLEDGED, b"")]),
    "a refusal": (1, LONG, [Reply(Verdict.REFUSED, LONG[:-1])]),
    "a refusal between acks": (
        3,
        OK + LONG + OK,
        [ACKNOWLEDGED, Reply(Verdict.REFUSED, LONG[:-1]), ACKNOWLEDGED],
    ),
    "an ack that speaks of refusals": (
        1,
        b"ok, not received: nothing\n",
        [Reply(Verdict.ACKNOWLEDGED, b"ok, not received: nothing")],
    ),
}


@every_feeding
@pytest.mark.parametrize(("sent", "received", "replies"), REPLIES.values(), ids=REPLIES.keys())
def test_each_payload_has_a_reply(
    feeding: Feeding, sent: int, received: bytes, replies: list[Reply]
) -> None:
    client = sent_payloads(sent)
    assert answers(client, feeding(b"Connect\n" + received)) == list(enumerate(replies))
    assert client.greeting == b"Connect"
    assert client.unanswered == 0
    assert client.violation is None


def sent_payloads(count: int, expect_greeting: bool = True) -> ClientProtocol[int]:
    """Return a client that has sent payloads, whose tags are their numbers from 0 on."""
    client: ClientProtocol[int] = ClientProtocol(expect_greeting)
    for number in range(count):
        assert client.send_payload(b"payload", number) == b"payload\n"
    return client


def answers(client: ClientProtocol[int], chunks: Iterable[bytes]) -> list[tuple[int, Reply]]:
    return [answer for chunk in chunks for answer in client.receive_data(chunk)]


def read(client: ClientProtocol[int], chunks: Iterable[bytes]) -> list[Reply]:
    return [reply for _, reply in answers(client, chunks)]


@every_feeding
def test_the_greeting_is_not_a_reply(feeding: Feeding) -> None:
    client = sent_payloads(0)
    assert client.greeting is None
    assert not client.rejected
    assert read(client, feeding(b"Connect\n")) == []
    assert client.greeting == b"Connect"
    assert not client.rejected


@every_feeding
@pytest.mark.parametrize(
    "greeting", [rejection_line("too many connections"), b"I do not connect\n"]
)
def test_not_connect_in_the_greeting_rejects_the_client(feeding: Feeding, greeting: bytes) -> None:
    client = sent_payloads(0)
    assert read(client, feeding(greeting)) == []
    assert client.greeting == greeting[:-1]
    assert client.rejected


@every_feeding
def test_a_server_without_a_greeting_can_be_used(feeding: Feeding) -> None:
    client = sent_payloads(1, expect_greeting=False)
    assert read(client, feeding(OK)) == [ACKNOWLEDGED]
    assert client.greeting == b""
    assert not client.rejected


@every_feeding
def test_a_server_without_a_greeting_can_reject_the_client(feeding: Feeding) -> None:
    client = sent_payloads(1, expect_greeting=False)
    assert read(client, feeding(rejection_line("too many connections"))) == []
    assert client.rejected
    assert client.unanswered == 1


@every_feeding
@pytest.mark.parametrize("replies", [b"", OK])
def test_a_rejection_after_the_greeting_is_no_reply(feeding: Feeding, replies: bytes) -> None:
    client = sent_payloads(2)
    rejection = rejection_line("this port takes no TLS")
    acks = [ACKNOWLEDGED] * len(replies.splitlines())
    assert read(client, feeding(b"Connect\n" + replies + rejection)) == acks
    assert client.rejected
    assert client.rejection == rejection[:-1]
    assert client.greeting == b"Connect"
    assert client.unanswered == 2 - len(acks)
    assert client.violation is None


@every_feeding
def test_a_rejection_needs_no_payload(feeding: Feeding) -> None:
    client = sent_payloads(0)
    assert read(client, feeding(b"Connect\n" + rejection_line("this port takes no TLS"))) == []
    assert client.rejected
    assert client.violation is None


@every_feeding
def test_not_connect_within_a_reply_does_not_reject_the_client(feeding: Feeding) -> None:
    client = sent_payloads(1)
    odd = Reply(Verdict.ACKNOWLEDGED, b"I do not connect")
    assert read(client, feeding(b"Connect\nI do not connect\n")) == [odd]
    assert not client.rejected


@every_feeding
def test_replies_beyond_the_payloads_are_unexpected(feeding: Feeding) -> None:
    client = sent_payloads(1)
    assert read(client, feeding(b"Connect\n" + OK + OK)) == [ACKNOWLEDGED]
    assert client.violation is Violation.EXCESS_REPLY


@every_feeding
def test_a_second_line_of_greeting_is_unexpected(feeding: Feeding) -> None:
    client = sent_payloads(0)
    read(client, feeding(b"SSH-2.0-OpenSSH_9.2p1\nand more\n"))
    assert client.violation is Violation.EXCESS_REPLY


def test_an_endless_line_is_unexpected() -> None:
    client = sent_payloads(1)
    assert read(client, [b"Connect\n", b"x" * MAX_REPLY]) == []
    assert client.violation is None
    assert read(client, [b"x"]) == []
    assert client.violation is Violation.ENDLESS_LINE


def test_good_replies_before_an_endless_line_are_kept() -> None:
    client = sent_payloads(2)
    assert read(client, [b"Connect\n" + OK + b"x" * 2 * MAX_REPLY]) == [ACKNOWLEDGED]
    assert client.unanswered == 1
    assert client.violation is Violation.ENDLESS_LINE


def test_a_payload_with_a_newline_is_an_error() -> None:
    client = sent_payloads(0)
    with pytest.raises(ValueError, match="a payload is one line: it can't hold a newline"):
        client.send_payload(b"two\nlines", 0)
    assert client.unanswered == 0


# Both sides together


@pytest.mark.parametrize("payload", [b"a\r", b"\r", b"a\r\r", b"", b"\ra", b"a\r\rb", b"\xff\0"])
def test_a_payload_arrives_unaltered(payload: bytes) -> None:
    client, server = sent_payloads(0), Server()
    server.feed([client.send_payload(payload, 0)])
    assert server.recorded == [payload]
    assert read(client, [b"Connect\n", server.replies]) == [ACKNOWLEDGED]


def test_both_sides_agree_on_which_payload_was_refused() -> None:
    client, server = sent_payloads(0), Server()
    for number, payload in enumerate((b"a", ELEVEN, b"b")):
        server.feed([client.send_payload(payload, number)])
    verdicts = [reply.verdict for reply in read(client, [b"Connect\n", server.replies])]
    assert verdicts == [Verdict.ACKNOWLEDGED, Verdict.REFUSED, Verdict.ACKNOWLEDGED]
    assert (server.acknowledged, server.refused) == (2, 1)


@every_feeding
@pytest.mark.parametrize("expect_greeting", [True, False])
def test_nothing_after_a_rejection_is_a_reply(feeding: Feeding, expect_greeting: bool) -> None:
    client = sent_payloads(2, expect_greeting)
    assert answers(client, feeding(rejection_line("too many connections") + OK * 3)) == []
    assert client.rejected
    assert client.abandon() == [0, 1]


def test_an_abandoned_exchange_returns_the_tags_without_a_reply() -> None:
    client = sent_payloads(3)
    assert answers(client, [b"Connect\n" + OK]) == [(0, ACKNOWLEDGED)]
    assert list(client.in_flight) == [1, 2]
    assert client.abandon() == [1, 2]
    assert client.abandon() == []


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        (LONG[:-1], 10),
        (b"not received: longer than 131072 bytes", 131072),
        (b"not received: longer than many bytes", None),
        (b"not received: longer than 1234567890 bytes", None),
        (b"not received: the journal can't be reached", None),
    ],
)
def test_a_refusal_can_state_the_limit(text: bytes, limit: int | None) -> None:
    assert Reply(Verdict.REFUSED, text).limit == limit
    assert Reply(Verdict.ACKNOWLEDGED, text).limit is None


def test_a_rejected_client_gets_the_reason() -> None:
    client = sent_payloads(0)
    client.receive_data(rejection_line("too many connections"))
    assert client.rejected
    assert client.greeting == b"not connect: too many connections"


# Bytes that the protocol treats specially, and few others, so that random data combines them.
BYTES = st.lists(st.sampled_from([b"\n", b"\r", b"a", b"\xff", TEN])).map(b"".join)
PAYLOADS = st.lists(BYTES.map(lambda data: data.replace(b"\n", b"\r")))
SIZES = st.lists(st.integers(1, 25), min_size=1)
COUNTS = st.lists(st.integers(0, 3), min_size=1)


def cut(data: bytes, sizes: list[int]) -> Iterator[bytes]:
    """Yield data in chunks of these sizes, again and again."""
    while data:
        for size in sizes:
            yield data[:size]
            data = data[size:]


def expected(sent: bytes) -> tuple[list[bytes], bytes]:
    """Return what a server must record and reply, computed from all bytes at once."""
    *lines, rest = sent.split(b"\n")
    payloads = [line.removesuffix(b"\r") for line in lines] + ([rest] if rest else [])
    recorded = [payload for payload in payloads if len(payload) <= 10]
    return recorded, b"".join(OK if len(payload) <= 10 else LONG for payload in payloads)


@settings(deadline=None)
@given(sent=BYTES, sizes=SIZES, counts=COUNTS)
def test_any_bytes_in_any_chunks_are_answered_in_order(
    sent: bytes, sizes: list[int], counts: list[int]
) -> None:
    server = Server()
    for number, chunk in enumerate(cut(sent, sizes)):
        server.receive_data(chunk)
        server.record(min(counts[number % len(counts)], len(server.payloads)))
    server.end()
    assert (server.recorded, server.replies) == expected(sent)
    assert server.received == len(sent)
    assert server.sequence == len(server.recorded) + 1


@settings(deadline=None)
@given(sent=BYTES, sizes=SIZES, counts=COUNTS, most=st.integers(1, 4))
def test_data_that_is_split_in_parts_is_answered_in_order(
    sent: bytes, sizes: list[int], counts: list[int], most: int
) -> None:
    server = Server()
    for number, chunk in enumerate(cut(sent, sizes)):
        server.receive_data(chunk, most)
        for count in counts[: number % 3]:
            server.record(min(count, len(server.payloads)))
            server.split(most)
    server.end()
    assert (server.recorded, server.replies) == expected(sent)
    assert not server.waiting


@settings(deadline=None)
@given(sent=BYTES, sizes=SIZES, counts=COUNTS)
def test_any_number_of_successors_answer_like_one_server(
    sent: bytes, sizes: list[int], counts: list[int]
) -> None:
    server = Server()
    for number, chunk in enumerate(cut(sent, sizes)):
        server.receive_data(chunk)
        server.record(min(counts[number % len(counts)], len(server.payloads)))
        server = server.successor()
    server.end()
    assert (server.recorded, server.replies) == expected(sent)
    assert server.received == len(sent)
    assert (server.acknowledged, server.refused) == (
        server.replies.count(OK),
        server.replies.count(LONG),
    )


@settings(deadline=None)
@given(sent=BYTES, sizes=SIZES, counts=COUNTS)
def test_refusing_all_waiting_payloads_keeps_the_order_of_replies(
    sent: bytes, sizes: list[int], counts: list[int]
) -> None:
    server = ServerProtocol(10, b"ok\n")
    replies = b""
    for number, chunk in enumerate(cut(sent, sizes)):
        waiting = len(server.receive_data(chunk))
        count = min(counts[number % len(counts)], waiting)
        replies += in_bytes(server.acknowledge(count)) + in_bytes(server.refuse("no journal"))
    server.receive_eof()
    replies += in_bytes(server.refuse("no journal"))
    assert [line.startswith(LONG[:-1]) for line in replies.splitlines()] == [
        line == LONG[:-1] for line in expected(sent)[1].splitlines()
    ]
    assert replies.count(OK) == server.acknowledged


@settings(deadline=None)
@given(payloads=PAYLOADS, there=SIZES, back=SIZES, counts=COUNTS)
def test_any_payloads_arrive_unaltered_and_each_has_its_reply(
    payloads: list[bytes], there: list[int], back: list[int], counts: list[int]
) -> None:
    client, server = sent_payloads(0), Server(max_payload=10)
    sent = b"".join(map(client.send_payload, payloads, range(len(payloads))))
    for number, chunk in enumerate(cut(sent, there)):
        server.receive_data(chunk)
        server.record(min(counts[number % len(counts)], len(server.payloads)))
    server.end()
    replies = read(client, cut(greeting_line(b"Connect") + server.replies, back))
    good = [len(payload) <= 10 for payload in payloads]
    assert server.recorded == [payload for payload in payloads if len(payload) <= 10]
    assert [reply.verdict is Verdict.ACKNOWLEDGED for reply in replies] == good
    assert (client.unanswered, client.violation) == (0, None)


@settings(deadline=None)
@given(received=st.lists(BYTES), sizes=SIZES, payloads=st.integers(0, 5))
def test_no_payload_has_two_replies_whatever_a_server_sends(
    received: list[bytes], sizes: list[int], payloads: int
) -> None:
    client = sent_payloads(payloads)
    lines = b"".join(received).count(b"\n")
    replies = read(client, cut(b"".join(received), sizes))
    assert len(replies) == min(payloads, max(0, lines - 1))
    assert client.unanswered == payloads - len(replies)
    assert client.violation is (Violation.EXCESS_REPLY if lines > payloads + 1 else None)
