"""`ackctl send` as its users see it: what it prints, what it complains of, its exit status."""

import contextlib
import json
import os
import re
import select
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.conftest import StartDaemon
from tests.support.ackctl_process import COMMAND, ENVIRONMENT, Ackctl, Ended, ackctl, without_times
from tests.support.ackctl_terminal import COLOUR, Terminal
from tests.support.fake_server import FakeServer
from tests.support.journal_socket import DEADLINE
from tests.support.obstacle import needs_localhost
from tests.support.peer import ACK, GREETING, Peer

THANKS = ACK.decode()
SOON = "0.2"  # seconds, for a first wait that is meant to be in vain
LATER = "0.5"  # for one after a greeting, which must come in time


def send(port: int, *arguments: str, stdin: bytes = b"", before: tuple[str, ...] = ()) -> Ended:
    """Run `ackctl send` to its end."""
    return ackctl("send", "--port", str(port), *arguments, stdin=stdin, before=before)


def sending(port: int, *arguments: str) -> Ackctl:
    """Start `ackctl send` while the test plays the server."""
    return Ackctl("send", "--port", str(port), *arguments)


# A real ackd


def test_a_payload_is_sent_and_the_ack_printed(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "this data will send to server!") == (0, THANKS, "")
    assert ackd.journal.payloads(1) == [b"this data will send to server!"]


def test_several_payloads_have_an_ack_each(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "one", "", "three") == (0, THANKS * 3, "")
    assert ackd.journal.payloads(3) == [b"one", b"", b"three"]


def test_verbose_prints_each_step_with_its_time(start: StartDaemon) -> None:
    ackd = start()
    status, story, complaint = send(ackd.port, "-v", "hello", "again")
    assert without_times(story).splitlines() == [
        f"TIME connecting to 127.0.0.1 port {ackd.port}",
        "TIME buffer data: Connect",
        "TIME writing to socket",
        "TIME Sent to server: hello",
        "TIME Sent to server: again",
        "TIME Response from server was: thank you client, you data is Received success (TOOK)",
        "TIME Response from server was: thank you client, you data is Received success (TOOK)",
        "TIME 2 acknowledged, 0 refused, 0 unknown",
    ]
    assert (status, complaint) == (0, "")


def test_json_is_an_object_for_each_reply_then_the_counts(start: StartDaemon) -> None:
    ackd = start("max_payload: 5")
    status, out, complaint = send(ackd.port, "--json", "hello", "too long")
    *replies, counts = map(json.loads, out.splitlines())
    assert all(reply.pop("seconds") > 0 for reply in replies)
    refusal, server = "not received: longer than 5 bytes", {"server": "127.0.0.1"}
    assert replies == [
        {"number": 1, "verdict": "acknowledged", "reply": THANKS.strip(), "bytes": 5, **server},
        {"number": 2, "verdict": "refused", "reply": refusal, "bytes": 8, **server},
    ]
    assert counts == {
        "acknowledged": 1,
        "refused": 1,
        "unknown": 0,
        "not_sent": 0,
        "sent_again": 0,
        "status": 1,
        "problem": "refused by the server",
    }
    assert (status, complaint) == (1, "ackctl: refused by the server (1 acknowledged, 1 refused)\n")


def test_a_refused_payload_does_not_keep_the_others_from_being_sent(start: StartDaemon) -> None:
    ackd = start("max_payload: 5")
    assert send(ackd.port, "one", "much too long", "three") == (
        1,
        f"{THANKS}not received: longer than 5 bytes\n{THANKS}",
        "ackctl: payload 2 is refused: not received: longer than 5 bytes\n"
        "ackctl: refused by the server (2 acknowledged, 1 refused)\n",
    )
    assert ackd.journal.payloads(2) == [b"one", b"three"]


def test_a_full_server_rejects_the_client(start: StartDaemon) -> None:
    ackd = start("max_connections: 1")
    with ackd.peer():
        assert send(ackd.port, "hello") == (
            1,
            "",
            "ackctl: turned away: not connect: too many connections, the limit is 1 (1 not sent)\n",
        )


def test_a_payload_of_any_bytes_arrives_and_is_shown_escaped(start: StartDaemon) -> None:
    ackd = start()
    status, story, _ = send(ackd.port, "-v", "\udcff\x1b[31m\u202e\\")
    assert status == 0
    assert r"Sent to server: \xff\x1b[31m\u202e\\" in story
    assert ackd.journal.payloads(1) == [b"\xff\x1b[31m\xe2\x80\xae\\"]


# Files and the standard input


@pytest.mark.parametrize(
    ("text", "payloads"),
    [
        (b"one\ntwo\n", [b"one", b"two"]),
        (b"one\r\ntwo\r\n", [b"one", b"two"]),
        (b"one\nwithout its end", [b"one", b"without its end"]),
        (b"one\nCR without LF\r", [b"one", b"CR without LF"]),
        (b"\n\n\r\n\n", [b"", b"", b"", b""]),
        (b"\x00\xff\x1b\n\r\r\n", [b"\x00\xff\x1b", b"\r"]),
        (b"", []),
    ],
)
def test_each_line_of_a_file_is_a_payload(
    start: StartDaemon, tmp_path: Path, text: bytes, payloads: list[bytes]
) -> None:
    ackd = start()
    file = tmp_path / "readings.txt"
    file.write_bytes(text)
    assert send(ackd.port, "--file", str(file)) == (0, THANKS * len(payloads), "")
    assert send(ackd.port, "-", stdin=text) == (0, THANKS * len(payloads), "")
    assert ackd.journal.payloads(2 * len(payloads)) == payloads * 2


def test_a_line_that_is_too_long_ends_the_file(start: StartDaemon, tmp_path: Path) -> None:
    ackd = start()
    file = tmp_path / "readings.txt"
    file.write_bytes(b"one\ntwo\n" + b"x" * 1_000_000 + b"\nfour\n")
    assert send(ackd.port, "--file", str(file)) == (
        2,
        THANKS * 2,
        "ackctl: line 3 is longer than 262144 bytes: no ackd takes it (2 acknowledged)\n",
    )


def test_a_file_that_can_not_be_read_to_its_end_is_reported(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "--file", "/proc/self/mem") == (
        2,
        "",
        "ackctl: the input can't be read: Input/output error\n",
    )


def test_each_line_that_is_typed_has_its_ack_before_the_next(start: StartDaemon) -> None:
    ackd = start()
    with sending(ackd.port, "-") as ackctl:
        ackctl.write(b"one\n")
        assert ackctl.read_line() == THANKS
        ackctl.write(b"two")
        ackctl.write(b" in pieces\nthr")
        assert ackctl.read_line() == THANKS
        ackctl.write(b"ee\n")
        assert ackctl.read_line() == THANKS
        assert ackctl.ended() == (0, "", "")
    assert ackd.journal.payloads(3) == [b"one", b"two in pieces", b"three"]


def test_100000_lines_can_be_piped_in(start: StartDaemon, tmp_path: Path) -> None:
    ackd = start()
    script = f'seq 100000 | "$@" >{tmp_path}/acks'
    port = str(ackd.port)
    with Ackctl("send", "--port", port, "-", before=("sh", "-c", script, "sh")) as ackctl:
        assert ackd.journal.payloads(100_000) == [b"%d" % n for n in range(1, 100_001)]
        assert ackctl.ended() == (0, "", "")
    assert (tmp_path / "acks").read_text() == THANKS * 100_000


def test_refused_lines_are_named_by_their_numbers(start: StartDaemon) -> None:
    ackd = start("max_payload: 3")
    lines = b"one\nlong\nlonger\nthe longest\ntwo\nlong\n"
    status, out, complaint = send(ackd.port, "-", stdin=lines)
    refusal = "not received: longer than 3 bytes"
    assert (status, out) == (1, f"{THANKS}{refusal}\n{refusal}\n{refusal}\n{THANKS}{refusal}\n")
    assert complaint.splitlines() == [
        f"ackctl: lines 2 to 4 are refused: {refusal}",
        f"ackctl: line 6 is refused: {refusal}",
        "ackctl: refused by the server (2 acknowledged, 4 refused)",
    ]


def test_quiet_prints_only_the_counts(start: StartDaemon) -> None:
    ackd = start("max_payload: 3")
    assert send(ackd.port, "--quiet", "-", stdin=b"one\n" * 1000) == (
        0,
        "1000 acknowledged, 0 refused, 0 unknown\n",
        "",
    )
    assert send(ackd.port, "-q", "one", "long") == (
        1,
        "1 acknowledged, 1 refused, 0 unknown\n",
        "ackctl: payload 2 is refused: not received: longer than 3 bytes\n"
        "ackctl: refused by the server (1 acknowledged, 1 refused)\n",
    )


def test_the_standard_input_can_be_given_as_a_file(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "--file", "-", stdin=b"one\n") == (0, THANKS, "")
    assert ackd.journal.payloads(1) == [b"one"]


def test_no_tries_can_be_asked_for() -> None:
    status, _, complaint = send(1, "--retry", "0", "hello")
    assert status == 3
    assert "once more" not in complaint


# Encodings

UTF16 = "ackctl: the input is UTF-16 or UTF-32; `iconv -t UTF-8` makes lines of it\n"
UTF16_PERHAPS = "ackctl: the input looks like UTF-16; `iconv -t UTF-8` makes lines of it\n"


def test_a_byte_order_mark_is_not_sent(start: StartDaemon, tmp_path: Path) -> None:
    ackd = start()
    (tmp_path / "lines").write_text("one\n\ufefftwo\n", "utf-8-sig")
    assert send(ackd.port, "--file", str(tmp_path / "lines")) == (
        0,
        THANKS * 2,
        "ackctl: a byte order mark before the first line is not sent\n",
    )
    assert ackd.journal.payloads(2) == [b"one", "\ufefftwo".encode()]


def test_a_byte_order_mark_may_come_in_pieces(start: StartDaemon) -> None:
    ackd = start()
    with sending(ackd.port, "-") as ackctl:
        for byte in b"\xef\xbb\xbfone\n":
            ackctl.write(bytes([byte]))
        assert ackctl.read_line() == THANKS
        assert ackctl.ended()[0] == 0
    assert ackd.journal.payloads(1) == [b"one"]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-32", "utf-32-be"])
@pytest.mark.parametrize("text", ["", "one\r\ntwo\r\n", "\u4e00\n"])
def test_an_input_with_a_mark_of_utf_16_is_refused(encoding: str, text: str) -> None:
    marked = text if encoding in ("utf-16", "utf-32") else f"\ufeff{text}"
    with FakeServer() as server, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send, server.port, "-", stdin=marked.encode(encoding))
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect_end()
        assert sent.result(DEADLINE) == (2, "", UTF16)


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
def test_an_input_that_looks_like_utf_16_is_noticed(start: StartDaemon, encoding: str) -> None:
    ackd = start()
    status, _, complaint = send(ackd.port, "-", stdin="one\r\ntwo\r\n".encode(encoding))
    assert (status, complaint) == (0, UTF16_PERHAPS)


@pytest.mark.parametrize("text", [b"\0\0\0\0\n", b"\xef\xbb\n", b"\xff\n", "ÿþ\n".encode(), b"\0"])
def test_other_bytes_are_sent_as_they_are(start: StartDaemon, text: bytes) -> None:
    ackd = start()
    assert send(ackd.port, "-", stdin=text) == (0, THANKS, "")
    assert ackd.journal.payloads(1) == [text.rstrip(b"\n")]


# Servers that are not as they should be


def test_nothing_listens_on_the_port() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        assert send(port, "hello") == (
            3,
            "",
            f"ackctl: not reached: 127.0.0.1 port {port}: connection refused: nothing"
            " listens on that port, or a firewall refuses (1 not sent)\n",
        )


def test_the_name_has_no_address() -> None:
    status, out, complaint = send(1, "--host", "two..dots", "hello")
    assert (status, out) == (3, "")
    assert complaint.startswith("ackctl: not reached: two..dots: the name can't be resolved: ")
    assert complaint.endswith(" (1 not sent)\n")


def test_the_server_accepts_no_more_connections() -> None:
    with FakeServer(backlog=0) as server, Peer(server.port):
        assert send(server.port, "--timeout", SOON, "hello") == (
            3,
            "",
            f"ackctl: not reached: 127.0.0.1 port {server.port}: no answer within 0.2 s:"
            " the host is down, or a firewall drops packets (1 not sent)\n",
        )


def test_the_server_never_greets() -> None:
    with FakeServer() as server:  # the kernel connects us, the server does not even accept
        assert send(server.port, "--timeout", SOON, "one", "two") == (
            4,
            "",
            "ackctl: connected, but not greeted: no answer within 0.2 s (2 not sent)\n",
        )


def test_the_server_greets_without_end() -> None:
    with FakeServer() as server, sending(server.port, "hello") as ackctl:
        with server.accept() as caller:
            caller.send(b"x" * 65537)
            caller.expect_end()
        assert ackctl.ended() == (
            4,
            "",
            "ackctl: connected, but not greeted: the server sent a line of over 65536 bytes:"
            " it is no ackd (1 not sent)\n",
        )


def test_the_server_sends_more_than_a_greeting() -> None:
    with FakeServer() as server, sending(server.port, "hello") as ackctl:
        with server.accept() as caller:
            caller.send(b"220 mail.example.com\n250 welcome\n")
            caller.expect_end()
        assert ackctl.ended() == (
            4,
            "",
            "ackctl: connected, but not greeted: the server sent more replies than it was sent"
            " payloads: it is no ackd (1 not sent)\n",
        )


def test_the_server_rejects_the_client_in_its_greeting() -> None:
    with FakeServer() as server, sending(server.port, "-v", "hello") as ackctl:
        with server.accept() as caller:
            caller.send(b"sorry, not connect today\x1b[2J\n")
            caller.expect_end()
        status, story, complaint = ackctl.ended()
    assert without_times(story).splitlines() == [
        f"TIME connecting to 127.0.0.1 port {server.port}",
        r"TIME buffer data: sorry, not connect today\x1b[2J",
        "TIME 0 acknowledged, 0 refused, 0 unknown",
    ]
    assert (status, complaint) == (
        1,
        "ackctl: turned away: sorry, not connect today\\x1b[2J (1 not sent)\n",
    )


def test_the_server_greets_and_never_acknowledges() -> None:
    with FakeServer() as server, sending(server.port, "--timeout", LATER, "one", "two") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\ntwo\n")
            caller.expect_end()
        assert ackctl.ended() == (
            5,
            "",
            "ackctl: unknown: no answer within 0.5 s (2 unknown: sent, and perhaps recorded)\n",
        )


def test_the_server_stops_acknowledging() -> None:
    with FakeServer() as server, sending(server.port, "--timeout", LATER, "one", "two") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\ntwo\n")
            caller.send(b"not received: one is no number\n" + ACK[:20])
            caller.expect_end()
        assert ackctl.ended() == (
            5,
            "not received: one is no number\n",
            "ackctl: payload 1 is refused: not received: one is no number\n"
            "ackctl: unknown: no answer within 0.5 s"
            " (1 refused, 1 unknown: sent, and perhaps recorded)\n",
        )


def test_the_server_reads_for_ever_and_never_acknowledges(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text("\n" * 70_000)
    arguments = ("--timeout", LATER, "--file", str(tmp_path / "lines"))
    with FakeServer() as server, sending(server.port, *arguments) as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"\n" * 65536)
            caller.expect_end()
        assert ackctl.ended() == (
            5,
            "",
            "ackctl: unknown: no answer within 0.5 s"
            " (65536 unknown: sent, and perhaps recorded, 4464 not sent)\n",
        )


def test_an_endless_input_is_not_read_while_the_server_is_stuck() -> None:
    with (
        subprocess.Popen(["yes"], stdout=subprocess.PIPE) as yes,
        FakeServer() as server,
        Ackctl(
            *("send", "--port", str(server.port), "--timeout", LATER, "-"),
            stdin=yes.stdout.fileno() if yes.stdout else -1,
        ) as ackctl,
    ):
        caller = server.accept()
        caller.send(GREETING)
        status, _, complaint = ackctl.ended()
        yes.kill()
        caller.socket.close()
    assert status == 5
    assert complaint.startswith("ackctl: unknown: no answer within 0.5 s (65536 unknown: ")


def test_the_server_dribbles_byte_by_byte() -> None:
    with FakeServer() as server, sending(server.port, "one", "two") as ackctl:
        with server.accept() as caller:
            for byte in GREETING:
                caller.send(bytes([byte]))
            caller.expect(b"one\ntwo\n")
            for byte in ACK * 2:
                caller.send(bytes([byte]))
            caller.expect_end()
        assert ackctl.ended() == (0, THANKS * 2, "")


def test_the_server_resets_after_three_acks() -> None:
    with FakeServer() as server, sending(server.port, "1", "2", "3", "4", "5") as ackctl:
        caller = server.accept()
        caller.send(GREETING)
        caller.expect(b"1\n2\n3\n4\n5\n")
        caller.send(ACK * 3)
        caller.reset()
        assert ackctl.ended() == (
            5,
            THANKS * 3,
            "ackctl: unknown: the other side reset the connection"
            " (3 acknowledged, 2 unknown: sent, and perhaps recorded)\n",
        )


def test_the_server_resets_while_ackctl_is_still_sending(tmp_path: Path) -> None:
    line = b"x" * 1000 + b"\n"
    (tmp_path / "lines").write_bytes(line * 20_000)  # more than fits in between
    with (
        FakeServer(buffer=4096) as server,
        sending(server.port, "--file", str(tmp_path / "lines")) as ackctl,
    ):
        caller = server.accept()
        caller.send(GREETING)
        caller.expect(line * 3)
        ackctl.pause()
        caller.send(ACK * 3)
        caller.reset()
        ackctl.signal(signal.SIGCONT)
        status, out, complaint = ackctl.ended()
    assert (status, out) == (5, THANKS * 3)
    reason = "ackctl: unknown: the other side reset the connection"
    counts = r"3 acknowledged, \d+ unknown: sent, and perhaps recorded, \d+ not sent"
    assert re.fullmatch(rf"{reason} \({counts}\)\n", complaint), complaint


def test_the_server_closes_after_the_greeting() -> None:
    with FakeServer() as server, sending(server.port, "hello") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.half_close()
            caller.expect(b"hello\n")
            caller.expect_end()
        assert ackctl.ended() == (
            5,
            "",
            "ackctl: unknown: the server closed the connection"
            " (1 unknown: sent, and perhaps recorded)\n",
        )


def test_the_server_closes_while_ackctl_waits_for_the_next_line() -> None:
    with FakeServer() as server, sending(server.port, "-") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            ackctl.write(b"hello\n")
            caller.expect(b"hello\n")
            caller.send(ACK)
        assert ackctl.read_line() == THANKS
        assert ackctl.ended() == (
            3,
            "",
            "ackctl: connection lost: the server closed the connection (1 acknowledged)\n",
        )


def test_the_server_sends_more_replies_than_it_got_payloads() -> None:
    with FakeServer() as server, sending(server.port, "-") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            ackctl.write(b"hello\n")
            caller.expect(b"hello\n")
            caller.send(ACK * 2)
            caller.expect_end()
        assert ackctl.ended() == (
            4,
            THANKS,
            "ackctl: connection given up: the server sent more replies than it was sent payloads:"
            " it is no ackd (1 acknowledged)\n",
        )


@pytest.mark.parametrize("excess", [ACK * 2, ACK[:9]], ids=["two replies", "part of a reply"])
@pytest.mark.parametrize("when", ["with the reply", "later"])
def test_what_comes_after_the_last_reply_is_unexpected(excess: bytes, when: str) -> None:
    with FakeServer() as server, sending(server.port, "hello") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"hello\n")
            if when == "later":
                caller.send(ACK)
                assert ackctl.read_line() == THANKS
                caller.send(excess)
            else:
                caller.send(ACK + excess)
                assert ackctl.read_line() == THANKS
            caller.expect_end()
        assert ackctl.ended() == (
            4,
            "",
            "ackctl: connection given up: the server sent more replies than it was sent payloads:"
            " it is no ackd (1 acknowledged)\n",
        )


def test_a_server_that_keeps_the_connection_open_has_acknowledged_all_the_same() -> None:
    with (
        FakeServer() as server,
        sending(server.port, "hello") as ackctl,
        server.accept() as caller,
    ):
        caller.send(GREETING)
        caller.expect(b"hello\n")
        caller.send(ACK)
        assert ackctl.ended() == (0, THANKS, "")


def test_bytes_that_come_now_and_then_extend_no_wait() -> None:
    arguments = ("--no-greeting", "--timeout", LATER, "hello")
    with FakeServer() as server, sending(server.port, *arguments) as ackctl:
        with server.accept() as caller, contextlib.suppress(ConnectionError):
            while ackctl.running:
                caller.send(b"x")
                select.select([], [], [], 0.3)
        status, _, complaint = ackctl.ended()
    assert status == 4
    assert "no greeting was expected, and it says xx" in complaint


def test_the_server_replies_without_end() -> None:
    with FakeServer() as server, sending(server.port, "hello") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"hello\n")
            caller.send(b"x" * 65537)
            caller.expect_end()
        assert ackctl.ended() == (
            5,
            "",
            "ackctl: unknown: the server sent a line of over 65536 bytes: it is no ackd"
            " (1 unknown: sent, and perhaps recorded)\n",
        )


def test_a_reply_is_escaped() -> None:
    with FakeServer() as server, sending(server.port, "hello") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"hello\n")
            caller.send(b"\x1b]0;title\x07\xff\n")
            caller.expect_end()
        assert ackctl.ended() == (0, "\\x1b]0;title\\x07\\xff\n", "")


def test_verbose_output_is_escaped() -> None:
    with FakeServer() as server, sending(server.port, "-v", "hello") as ackctl:
        with server.accept() as caller:
            caller.send(b"\x1b]0;title\x07\xff\n")
            caller.expect(b"hello\n")
            caller.send("\u202eack\r\x00\n".encode())
            caller.expect_end()
        status, story, complaint = ackctl.ended()
    assert r"buffer data: \x1b]0;title\x07\xff" in story
    assert r"Response from server was: \u202eack\r\x00 (" in story
    assert (status, complaint) == (0, "")


# Usage


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "give payloads, or - for the standard input, or --file"),
        (("--file", "x", "hello"), "--file can't be combined with payloads"),
        (("--file", "x", "-"), "--file can't be combined with -"),
        (("--file", ""), "--file: an empty name: No such file or directory"),
        (
            ("--retry", "-1", "x"),
            "argument --retry: '-1' is not a whole number from 0 to 999999999",
        ),
        (("-4", "-6", "x"), "argument -6: not allowed with argument -4"),
        (("--no-greet", "x"), "unrecognized arguments: --no-greet"),
        (("--verb", "x"), "unrecognized arguments: --verb"),
        (("-q", "-v", "x"), "argument -v/--verbose: not allowed with argument -q/--quiet"),
        (("two\nlines",), "a payload is one line; for several lines use - or --file"),
        (("one", "-"), "- is the standard input, and can't be among other payloads"),
        (("--file", "/nowhere/x"), "--file: /nowhere/x: No such file or directory"),
        (("--file", "/"), "--file: /: Is a directory"),
        (("-x", "hello"), "unrecognized arguments: -x"),
        (("--host", "", "x"), "argument --host: a name or an address is needed"),
        *(
            (
                ("--host", host, "x"),
                f"argument --host: '{host}': give the port with --port, and no brackets",
            )
            for host in ("192.168.150.1:10008", "[::1]:10008", "[::1]", "server:")
        ),
        (("-v", "--json", "x"), "argument --json: not allowed with argument -v/--verbose"),
        *(
            (
                ("--timeout", value, "x"),
                f"argument --timeout: '{value}' is not a number of seconds,"
                " more than 0 and at most 86400",
            )
            for value in ("0", "-1", "nan", "inf", "86401", "1s", "")
        ),
        *(
            (
                ("--port", value, "x"),
                f"argument --port: '{value}' is not a whole number from 1 to 65535",
            )
            for value in ("0", "65536", "-1", "1.5", "http", "", "9" * 5000, "\u0663")
        ),
    ],
)
def test_wrong_usage_is_explained(arguments: tuple[str, ...], complaint: str) -> None:
    status, out, usage = ackctl("send", *arguments)
    assert (status, out) == (2, "")
    assert usage.splitlines()[0].startswith("usage: ackctl send ")
    assert usage.splitlines()[-1] == f"ackctl send: error: {complaint}"


def test_help_fits_in_80_columns() -> None:
    status, text, _ = ackctl("send", "--help", before=("env", "COLUMNS=80"))
    assert status == 0
    assert max(map(len, text.splitlines())) <= 80


# The terminal and the shell around it


def test_ctrl_c_prints_the_counts(start: StartDaemon) -> None:
    ackd = start()
    with Terminal("send", "--port", str(ackd.port), "-") as terminal:
        terminal.type("hello\n")
        ack = THANKS.replace("\n", "\r\n")
        assert terminal.read_to(ack) == f"hello\r\n{ack}"
        terminal.type("\x03")
        assert terminal.ended() == (-signal.SIGINT, "^Cackctl: interrupted (1 acknowledged)\r\n")


def test_ctrl_d_ends_the_input(start: StartDaemon) -> None:
    ackd = start()
    with Terminal("send", "--port", str(ackd.port), "-") as terminal:
        terminal.type("hello\n")
        terminal.read_to(THANKS.strip())
        terminal.type("\x04")
        assert terminal.ended()[0] == 0


def test_a_terminal_shows_the_progress_of_a_file_and_the_time_left(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"one\ntwo\nthree\nfour\n")
    with (
        FakeServer() as server,
        Terminal(*sent_from(server, lines)) as terminal,
        server.accept() as caller,
    ):
        caller.send(GREETING)
        caller.expect(lines.read_bytes())
        caller.send(ACK)
        terminal.read_to("1 acknowledged")
        caller.send(ACK)
        shown = terminal.read_to("2 acknowledged").rpartition(THANKS.strip())[2]
        assert "━" in shown
        assert " 42%" in shown  # 8 of 19 bytes
        assert re.search(COLOUR, shown)
        assert re.search(r" [\d,]+/s ", terminal.read_to("m0:00:"))
        caller.send(b"not received: no\n" + ACK)
        status, rest = terminal.ended()
    assert status == 1
    assert rest.endswith("refused by the server (3 acknowledged, 1 refused)\r\n")


def test_a_terminal_shows_the_counts_of_an_input_of_unknown_length(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    os.mkfifo(lines)
    with (
        FakeServer() as server,
        Terminal(*sent_from(server, lines), NO_COLOR="1") as terminal,
        lines.open("wb", buffering=0) as writer,
        server.accept() as caller,
    ):
        caller.send(GREETING)
        writer.write(b"one\n")
        caller.expect(b"one\n")
        caller.send(b"not received: no\n")
        assert "%" not in (shown := terminal.read_to("0 acknowledged, 1 refused"))
        assert not re.search(COLOUR, shown)


def test_the_progress_line_leaves_nothing_behind(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"one\ntwo\n")
    with (
        FakeServer() as server,
        Terminal(*sent_from(server, lines)) as terminal,
        server.accept() as caller,
    ):
        caller.send(GREETING)
        caller.expect(lines.read_bytes())
        caller.send(ACK)
        shown = terminal.read_to("1 acknowledged")
        caller.send(ACK)
        status, rest = terminal.ended()
    *_, line, after = (shown + rest).split("\x1b[2K")  # erased
    assert status == 0
    assert "acknowledged" in line
    assert after == THANKS.replace("\n", "\r\n")
    assert "\x1b[?25l" not in shown + rest  # the cursor is never hidden


@pytest.mark.parametrize("where", ["terminal", "pipe"])
def test_there_is_no_progress_line_where_it_could_not_be_seen(tmp_path: Path, where: str) -> None:
    lines = tmp_path / "lines"
    lines.write_bytes(b"one\n")
    with FakeServer() as server:
        # Longer than the second after which it would show.
        command = (*sent_from(server, lines), "--timeout", "1.5")
        dumb = Terminal(*command, TERM="dumb") if where == "terminal" else None
        with dumb or Ackctl(*command) as ackctl:
            with server.accept() as caller:
                caller.send(GREETING)
                caller.expect(b"one\n")
                caller.expect_end()
            status, *_, error = ackctl.ended()
    assert status == 5
    assert error.replace("\r", "") == (
        "ackctl: unknown: no answer within 1.5 s (1 unknown: sent, and perhaps recorded)\n"
    )


def sent_from(server: FakeServer, lines: Path) -> tuple[str, ...]:
    return ("send", "--port", str(server.port), "--file", str(lines))


def test_an_interrupt_counts_payloads_of_unknown_outcome() -> None:
    with FakeServer() as server, sending(server.port, "one", "two", "three") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\ntwo\nthree\n")
            caller.send(ACK)
            assert ackctl.read_line() == THANKS
            ackctl.signal(signal.SIGINT)
            caller.expect_end()
        assert ackctl.ended() == (
            -signal.SIGINT,
            "",
            "ackctl: interrupted (1 acknowledged, 2 unknown: sent, and perhaps recorded)\n",
        )


def test_an_interrupt_while_ackctl_waits_for_the_connection() -> None:
    with (
        FakeServer(backlog=0) as server,
        Peer(server.port),
        sending(server.port, "-v", "hello") as ackctl,
    ):
        assert "connecting to 127.0.0.1" in ackctl.read_line()
        ackctl.signal(signal.SIGINT)
        status, story, complaint = ackctl.ended()
    assert (status, complaint) == (-signal.SIGINT, "ackctl: interrupted (1 not sent)\n")
    assert story.endswith(" 0 acknowledged, 0 refused, 0 unknown\n")


def test_a_reader_that_has_gone_ends_ackctl_silently(start: StartDaemon) -> None:
    ackd = start()
    read_end, write_end = os.pipe()
    os.close(read_end)
    command = [*COMMAND, "send", "--port", str(ackd.port), "hello"]
    process = subprocess.Popen(command, stdout=write_end, stderr=subprocess.PIPE, env=ENVIRONMENT)
    os.close(write_end)
    assert process.communicate(timeout=DEADLINE)[1] == b""
    assert process.returncode == -signal.SIGPIPE


def test_a_full_disk_for_the_output_is_reported(start: StartDaemon) -> None:
    ackd = start()
    onto_full_disk = ("sh", "-c", '"$@" >/dev/full', "sh")
    assert send(ackd.port, "hello", before=onto_full_disk) == (
        5,
        "",
        "ackctl: standard output: No space left on device\n",
    )


def test_a_full_disk_for_the_help_text_is_reported() -> None:
    onto_full_disk = ("sh", "-c", '"$@" >/dev/full', "sh")
    assert ackctl("--help", before=onto_full_disk) == (
        5,
        "",
        "ackctl: standard output: No space left on device\n",
    )


def test_a_full_disk_for_standard_error_does_not_change_the_exit_status() -> None:
    onto_full_disk = ("sh", "-c", '"$@" 2>/dev/full', "sh")
    assert send(1, "--retry", "1", "hello", before=onto_full_disk) == (3, "", "")


def test_no_output_is_needed(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "hello", before=("sh", "-c", '"$@" >&-', "sh")) == (0, "", "")
    assert ackd.journal.payloads(1) == [b"hello"]


def test_a_closed_standard_input_can_not_be_sent() -> None:
    status, _, complaint = send(1, "-", before=("sh", "-c", '"$@" <&-', "sh"))
    assert status == 2
    assert complaint.splitlines()[-1] == "ackctl send: error: the standard input is closed"


def test_a_reply_with_characters_that_the_locale_lacks_is_shown_escaped(
    start: StartDaemon,
) -> None:
    ackd = start("ack: danke schön")
    assert send(ackd.port, "x", before=("env", "PYTHONIOENCODING=ascii")) == (
        0,
        "danke sch\\xf6n\n",
        "",
    )


# From where, and without a greeting


def test_the_address_to_connect_from_can_be_chosen(start: StartDaemon) -> None:
    ackd = start("allow: [127.0.0.7]")
    assert send(ackd.port, "--source", "127.0.0.7", "hello") == (0, THANKS, "")
    assert send(ackd.port, "hello")[0] == 1


def test_payloads_are_sent_to_a_server_with_an_empty_greeting(start: StartDaemon) -> None:
    ackd = start('greeting: ""')
    assert send(ackd.port, "--no-greeting", "hello") == (0, THANKS, "")
    assert send(ackd.port, "--timeout", SOON, "hello")[0] == 4
    assert ackd.journal.payloads(1) == [b"hello"]


def test_a_greeting_is_not_taken_for_an_ack(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "--no-greeting", "hello") == (
        4,
        "",
        "ackctl: connection given up: no greeting was expected, and it says Connect (1 not sent)\n",
    )


@pytest.mark.parametrize(
    ("option", "host", "complaint"),
    [
        ("-4", "::1", "::1: it is no IPv4 address"),
        ("-6", "127.0.0.1", "127.0.0.1: it is no IPv6 address"),
    ],
)
def test_an_address_of_the_other_family_is_not_reached(
    option: str, host: str, complaint: str
) -> None:
    complete = f"ackctl: not reached: {complaint} (1 not sent)\n"
    assert send(1, option, "--host", host, "x") == (3, "", complete)
    status, out, said = ackctl("probe", option, "--host", host)
    assert status == 3
    assert f"not of the same family as {option}\n" in out
    assert said.startswith("ackctl: not connected")


@needs_localhost
def test_a_family_can_be_chosen(start: StartDaemon) -> None:
    ackd = start()
    assert send(ackd.port, "-4", "--host", "localhost", "hello") == (0, THANKS, "")
    status, _, complaint = send(ackd.port, "-6", "--host", "two..dots", "hello")
    assert status == 3
    assert "two..dots: the name can't be resolved to an IPv6 address: " in complaint


def test_negative_numbers_are_payloads(start: StartDaemon) -> None:
    ackd = start()
    payloads = ("-5", "-4.5", "-45", "-6.25", "-0")
    assert send(ackd.port, *payloads) == (0, THANKS * 5, "")
    assert send(ackd.port, "--", "-4") == (0, THANKS, "")
    assert ackd.journal.payloads(6) == [*(each.encode() for each in payloads), b"-4"]


# Again


def test_payloads_of_unknown_outcome_are_sent_again_with_retry() -> None:
    with FakeServer() as server, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(ackctl, "send", "--port", str(server.port), "--retry", "1", "one")
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\n")
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\n")
            caller.send(ACK)
            status, out, err = sent.result(DEADLINE)
    assert (status, out) == (0, ACK.decode())
    assert "once more in 0.2 s (1 of 1): 1 sent again, and perhaps recorded twice" in err


def test_the_pauses_between_tries_grow() -> None:
    status, _, complaint = send(1, "--retry", "3", "one")
    assert status == 3
    assert re.findall(r"once more in (.*)", complaint) == [
        "0.2 s (1 of 3)",
        "0.4 s (2 of 3)",
        "0.8 s (3 of 3)",
    ]
    assert complaint.endswith("or a firewall refuses (1 not sent)\n")


def test_a_reply_resets_the_tries_and_the_pauses() -> None:
    with FakeServer() as server, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send, server.port, "--retry", "1", "one", "two", "three")
        for unsent in (b"one\ntwo\nthree\n", b"two\nthree\n", b"three\n"):
            with server.accept() as caller:
                caller.send(GREETING)
                caller.expect(unsent)
                caller.send(ACK)
        status, out, complaint = sent.result(DEADLINE)
    assert (status, out) == (0, 3 * THANKS)
    assert re.findall(r"once more in (.*)", complaint) == [
        "0.2 s (1 of 1): 2 sent again, and perhaps recorded twice",
        "0.2 s (1 of 1): 1 sent again, and perhaps recorded twice",
    ]


def test_a_connection_that_is_lost_while_nothing_is_due_costs_no_try() -> None:
    with FakeServer() as server, sending(server.port, "--retry", "1", "-") as ackctl:
        for payload in (b"one\n", b"two\n", b"three\n"):
            ackctl.write(payload)
            with server.accept() as caller:
                caller.send(GREETING)
                caller.expect(payload)
                caller.send(ACK)
                assert ackctl.read_line() == THANKS
            assert ackctl.read_error() == (
                "ackctl: connection lost: the server closed the connection;"
                " ackctl tries again when the next line comes\n"
            )
        ackctl.write(b"four, and no end")
        assert _end_of(server, ackctl) == (0, THANKS, "")


def _end_of(server: FakeServer, ackctl: Ackctl) -> Ended:
    """Acknowledge the last line, which has no end before the input ends."""
    with ThreadPoolExecutor(1) as pool:
        ended = pool.submit(ackctl.ended)
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"four, and no end\n")
            caller.send(ACK)
            caller.expect_end()
        return ended.result(DEADLINE)


def test_pauses_longer_than_the_servers_idle_limit_cost_no_try(start: StartDaemon) -> None:
    ackd = start("idle_timeout: 0.2")
    with sending(ackd.port, "--retry", "1", "-") as ackctl:
        for number in range(4):
            ackctl.write(b"%d\n" % number)
            assert ackctl.read_line() == THANKS
            assert ackctl.read_error().endswith("; ackctl tries again when the next line comes\n")
        assert ackctl.ended() == (0, "", "")
    assert ackd.journal.payloads(4) == [b"0", b"1", b"2", b"3"]


def test_nothing_is_left_to_do_when_the_input_ends_after_the_connection() -> None:
    with FakeServer() as server, sending(server.port, "--retry", "1", "-") as ackctl:
        ackctl.write(b"one\n")
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\n")
            caller.send(ACK)
            assert ackctl.read_line() == THANKS
        assert ackctl.read_error().endswith("ackctl tries again when the next line comes\n")
        assert ackctl.ended() == (0, "", "")


def test_a_server_that_closes_while_lines_wait_uses_up_the_tries() -> None:
    with FakeServer() as server, sending(server.port, "--retry", "1", "-") as ackctl:
        for _ in range(2):
            with server.accept() as caller:
                ackctl.write(b"one\n")
                caller.send(GREETING)
                caller.expect(b"one\n")
        status, _, complaint = ackctl.ended()
    assert status == 5
    assert "(1 of 1)" in complaint


def test_a_refused_payload_is_not_sent_again() -> None:
    with FakeServer() as server, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(send, server.port, "--retry", "1", "one", "two")
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"one\ntwo\n")
            caller.send(b"not received: no\n")
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"two\n")
            caller.send(ACK)
        status, out, complaint = sent.result(DEADLINE)
    assert (status, out) == (1, f"not received: no\n{THANKS}")
    assert complaint.endswith(
        "(1 acknowledged, 1 refused, 1 sent again, and perhaps recorded twice)\n"
    )


def test_a_client_that_is_not_allowed_does_not_try_again() -> None:
    with FakeServer() as server, ThreadPoolExecutor(1) as pool:
        sent = pool.submit(ackctl, "send", "--port", str(server.port), "--retry", "9", "one")
        with server.accept() as caller:
            caller.send(b"not connect: 192.168.150.2 is not allowed here\n")
            status, out, err = sent.result(DEADLINE)
    assert (status, out) == (1, "")
    assert "once more" not in err


def test_a_line_is_sent_without_modules_that_are_slow_to_import() -> None:
    program = (
        "import sys; from ackd.ctl.main import main; main(['send', '--port', '1', 'hello']);"
        "print(*sys.modules)"
    )
    modules = subprocess.check_output([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    slow = {"dataclasses", "json", "datetime", "rich", "shutil", "yaml", "systemd", "statistics"}
    assert slow.isdisjoint(modules.decode().split())
