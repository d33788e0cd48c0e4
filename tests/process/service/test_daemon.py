"""The daemon, as its clients and its administrator see it: exchanges over real sockets."""

import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ackd.journal.entry import payloads_of
from ackd.records import Kind
from ackd.server.unfinished import BOUND
from ackd.service.control import ControlError, request_reload
from tests.conftest import StartDaemon
from tests.support.daemon_process import COMMAND, Daemon
from tests.support.journal_socket import DEADLINE, Entry
from tests.support.peer import ACK, GREETING, Peer

# The exchange with a client


def payload_entry(ackd: Daemon, port: int, **fields: bytes) -> Entry:
    """Return the fields of a connection's first payload record, but for ACKD_CONNECTION."""
    return {
        "MESSAGE_ID": Kind.PAYLOAD.value.encode(),
        "PRIORITY": b"6",
        "SYSLOG_IDENTIFIER": b"ackd",
        "ACKD_PEER": b"127.0.0.1",
        "ACKD_PEER_PORT": b"%d" % port,
        "ACKD_LISTENER": b"127.0.0.1:%d" % ackd.port,
        "ACKD_SEQUENCE": b"1",
        **fields,
    }


def test_a_payload_is_recorded_then_acknowledged(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"this data will send to server!\n")
        peer.expect(ACK)
        entry = ackd.journal.next(Kind.PAYLOAD)
        port = peer.socket.getsockname()[1]
    assert entry.pop("ACKD_CONNECTION").endswith(b"-1")
    message = b"Buffer: this data will send to server!"
    assert entry == payload_entry(ackd, port, MESSAGE=message, ACKD_BYTES=b"30")


def test_empty_lines_and_an_unterminated_last_line_are_payloads_too(
    start: StartDaemon,
) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"one\r\n\ntwo\r\r\nrest")
        peer.expect(ACK * 3)
        peer.half_close()
        peer.expect(ACK)
        peer.expect_end()
    assert ackd.journal.payloads(4) == [b"one", b"", b"two\r", b"rest"]


def test_a_payload_that_is_too_long_is_refused_in_its_place(start: StartDaemon) -> None:
    ackd = start("max_payload: 10\n")
    with ackd.peer() as peer:
        peer.send(b"short\n" + b"x" * 200_000 + b"\n0123456789\r\n01234567890\nlast\n")
        refusal = b"not received: longer than 10 bytes\n"
        peer.expect(ACK + refusal + ACK + refusal + ACK)
    assert ackd.journal.payloads(3) == [b"short", b"0123456789", b"last"]


@pytest.mark.parametrize(("record", "count"), [("each", 20_000), ("batch", 100_000)])
def test_payloads_sent_at_once_are_all_recorded_in_order(
    start: StartDaemon, record: str, count: int
) -> None:
    ackd = start(f"record: {record}\n")
    payloads = [b"payload %d" % number for number in range(count)]
    with ackd.peer() as peer:
        peer.send(b"\n".join(payloads) + b"\n")
        peer.expect(ACK * count)
    assert ackd.journal.payloads(count) == payloads


def test_payloads_that_arrive_together_share_a_record_with_batch(start: StartDaemon) -> None:
    ackd = start("record: batch\n")
    with ackd.peer() as peer:
        peer.send(b"one\r\n\ntwo\tthree\n")
        peer.expect(ACK * 3)
        entry = ackd.journal.next(Kind.PAYLOAD)
        port = peer.socket.getsockname()[1]
        peer.send(b"four\nfi\rve\nsix\nseven\n")
        peer.expect(ACK * 4)
        further = [payloads_of(ackd.journal.next(Kind.PAYLOAD)) for _ in range(3)]
    assert entry.pop("ACKD_CONNECTION").endswith(b"-1")
    message = b"Buffer: one\nBuffer: \nBuffer: two\tthree"
    shared = payload_entry(ackd, port, MESSAGE=message, ACKD_COUNT=b"3", ACKD_BYTES=b"12")
    assert entry == shared
    assert further == [[(4, b"four")], [(5, b"fi\rve")], [(6, b"six"), (7, b"seven")]]


def test_payloads_can_be_acknowledged_without_a_record(start: StartDaemon) -> None:
    ackd = start("record: none\n")
    warning = ackd.journal.wait_for(lambda entry: entry["PRIORITY"] == b"4")
    assert warning["MESSAGE"] == b"record: none: payloads are acknowledged, but not recorded"
    with ackd.peer() as peer:
        peer.send(b"one\ntwo\n")
        peer.expect(ACK * 2)
    closed = ackd.journal.next(Kind.CLOSED)
    assert closed["ACKD_PAYLOADS"] == b"2"
    assert Kind.PAYLOAD.value.encode() not in [e["MESSAGE_ID"] for e in ackd.journal.waiting()]


def test_payloads_without_a_record_do_not_wait_for_the_journal(start: StartDaemon) -> None:
    ackd = start("record: none\n", managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        ackd.signal(signal.SIGUSR1)
        ackd.manager.wait_for("STATUS=the journal can't be reached, records wait")
        peer.send(b"".join(b"%d\n" % number for number in range(10_000)))
        peer.expect(ACK * 10_000)


def test_hostile_bytes_stay_inside_the_message(start: StartDaemon) -> None:
    ackd = start()
    payload = b"\x00\x1b[2J\xff\rMESSAGE=forged\r<0>ACKD_PEER=8.8.8.8"
    with ackd.peer() as peer:
        peer.send(payload + b"\n")
        peer.expect(ACK)
    entry = ackd.journal.next(Kind.PAYLOAD)
    assert entry["MESSAGE"] == b"Buffer: " + payload
    assert entry["ACKD_PEER"] == b"127.0.0.1"


@pytest.mark.parametrize("greeting", ["Willkommen \u00fc", "", "we do not connect anybody"])
def test_greeting_and_ack_are_the_configured_ones(start: StartDaemon, greeting: str) -> None:
    ackd = start(f'greeting: "{greeting}"\nack: "OK"\n')
    with Peer(ackd.port) as peer:
        peer.expect(greeting.encode() + b"\n" if greeting else b"")
        peer.send(b"hello\n")
        peer.expect(b"OK\n")


def test_an_ipv6_client_is_served(start: StartDaemon) -> None:
    ackd = start('bind: "::1"\n')
    with Peer(ackd.port, "::1") as peer:
        peer.expect(GREETING)
        peer.send(b"hello\n")
        peer.expect(ACK)
    entry = ackd.journal.next(Kind.PAYLOAD)
    assert entry["ACKD_PEER"] == b"::1"
    assert entry["ACKD_LISTENER"] == b"[::1]:%d" % ackd.port


_PHP = """
$socket = socket_create(AF_INET, SOCK_STREAM, 0);
socket_connect($socket, "127.0.0.1", (int) $argv[1]);
echo "buffer data: " . socket_read($socket, 2048, PHP_NORMAL_READ);
socket_write($socket, "this data will send to server!\\n");
echo "Response from server was: " . socket_read($socket, 2048, PHP_NORMAL_READ);
"""


@pytest.mark.skipif(shutil.which("php") is None, reason="needs php: apt-get install php-cli")
def test_a_php_client_of_2008_is_served(start: StartDaemon) -> None:
    ackd = start()
    output = subprocess.check_output(["php", "-r", _PHP, str(ackd.port)], timeout=DEADLINE)
    assert output == b"buffer data: " + GREETING + b"Response from server was: " + ACK
    assert ackd.journal.payloads(1) == [b"this data will send to server!"]


@pytest.mark.skipif(shutil.which("nc") is None, reason="needs nc: apt-get install netcat-openbsd")
def test_netcat_is_served(start: StartDaemon) -> None:
    ackd = start()
    command = ["nc", "-N", "127.0.0.1", str(ackd.port)]
    output = subprocess.check_output(command, input=b"one\ntwo\n", timeout=DEADLINE)
    assert output == GREETING + ACK * 2


# Records about connections


def test_a_connection_is_recorded_from_its_first_bytes_to_its_end(start: StartDaemon) -> None:
    ackd = start("max_payload: 5\n")
    with ackd.peer() as peer:
        client = b"127.0.0.1 port %d" % peer.socket.getsockname()[1]
        peer.send(b"hello\ntoo long\n")
        peer.expect(ACK)
    connected, closed = ackd.journal.next(Kind.CONNECTED), ackd.journal.next(Kind.CLOSED)
    assert connected["MESSAGE"] == b"socket connected: " + client
    assert closed["MESSAGE"].startswith(
        b"closed the socket: " + client + b": payloads: 1 acknowledged, 1 refused; 15 bytes, "
    )
    assert b"without an end of line" not in closed["MESSAGE"]
    assert "ACKD_UNENDED" not in closed
    assert closed["ACKD_PAYLOADS"] == b"1"
    assert closed["ACKD_BYTES"] == b"15"
    assert float(closed["ACKD_SECONDS"]) >= 0
    assert connected["ACKD_CONNECTION"] == closed["ACKD_CONNECTION"]


UNENDED = {
    "NUL, as Python's SysLogHandler": (b"<14>first\0<14>second\0", b"21", b"NUL"),
    "CR, as a scanner": (b"4006381333931\r4006381333948\r", b"28", b"CR"),
    "both": (b"whole\na\r\0", b"3", b"CR and NUL"),
    "counted frames, RFC 6587": (b"9 <14>first10 <14>second", b"24", b""),
    "longer than a payload may be": (b"a\r" * 100, b"200", b"CR"),
}


@pytest.mark.parametrize(("sent", "size", "holds"), UNENDED.values(), ids=UNENDED.keys())
@pytest.mark.parametrize("end", ["reset", "silence"])
def test_bytes_without_an_end_of_line_are_reported_at_the_end(
    start: StartDaemon, sent: bytes, size: bytes, holds: bytes, end: str
) -> None:
    ackd = start(f"max_payload: 100\nidle_timeout: {60 if end == 'reset' else 0.3}\n")
    with ackd.peer() as device:
        device.send(sent)
        connected = ackd.journal.next(Kind.CONNECTED)
        if end == "reset":
            device.reset()
        else:
            device.read_to_loss()
    closed = ackd.journal.next(Kind.CLOSED)
    assert connected["ACKD_CONNECTION"] == closed["ACKD_CONNECTION"]
    assert (closed["ACKD_UNENDED"], closed.get("ACKD_UNENDED_HOLDS", b"")) == (size, holds)
    message = b"; not recorded: " + size + b" bytes without an end of line"
    message += b", which hold " + holds if holds else b""
    assert closed["MESSAGE"].endswith(message)


@pytest.mark.parametrize("record", ["each", "batch"])
def test_a_last_line_without_its_end_is_marked_and_has_a_record_of_its_own(
    start: StartDaemon, record: str
) -> None:
    ackd = start(f"record: {record}\n")
    with ackd.peer() as peer:
        peer.send(b"20.9\n21.0\n2")
        peer.half_close()
        peer.expect(ACK * 3)
        peer.expect_end()
    entries: list[Entry] = []
    while sum(len(payloads_of(entry)) for entry in entries) < 3:
        entries.append(ackd.journal.next(Kind.PAYLOAD))
    assert payloads_of(entries[-1]) == [(3, b"2")]
    assert entries[-1]["ACKD_UNTERMINATED"] == b"1"
    assert not any("ACKD_UNTERMINATED" in entry for entry in entries[:-1])
    assert "ACKD_UNENDED" not in ackd.journal.next(Kind.CLOSED)


def test_a_last_line_without_its_end_is_marked_if_it_waits_for_the_journal(
    start: StartDaemon,
) -> None:
    ackd = start()
    with ackd.peer() as peer:
        ackd.journal.hold()
        payloads = fill(peer, 5_000)
        peer.send(b"2")
        peer.half_close()
        ackd.journal.go_on()
        peer.expect(ACK * 5_001)
        peer.expect_end()
    assert ackd.journal.payloads(5_000) == payloads
    assert ackd.journal.next(Kind.PAYLOAD)["ACKD_UNTERMINATED"] == b"1"


def test_a_line_that_a_reset_has_cut_is_not_recorded(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"20.9\n2")
        assert peer.socket.recv(1, socket.MSG_PEEK) == ACK[:1]
        # Closing with the ack unread is a reset.
    closed = ackd.journal.next(Kind.CLOSED)
    assert (closed["ACKD_PAYLOADS"], closed["ACKD_UNENDED"]) == (b"1", b"1")


def test_an_empty_ack_sends_nothing_but_refusals(start: StartDaemon) -> None:
    ackd = start('ack: ""\nmax_payload: 5\n')
    with ackd.peer() as peer:
        peer.send(b"one\ntoo long\ntwo\n")
        peer.half_close()
        peer.expect(b"not received: longer than 5 bytes\n")
        peer.expect_end()
    assert ackd.journal.payloads(2) == [b"one", b"two"]
    assert ackd.journal.next(Kind.CLOSED)["ACKD_PAYLOADS"] == b"2"


def test_urgent_data_is_a_part_of_its_payload(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"ab")
        peer.socket.send(b"c", socket.MSG_OOB)
        peer.send(b"d\n")
        peer.expect(ACK)
    assert ackd.journal.payloads(1) == [b"abcd"]


def test_empty_lines_can_be_ignored_and_a_reload_changes_that(start: StartDaemon) -> None:
    ackd = start("empty_lines: ignore\n")
    with ackd.peer() as peer:
        peer.send(b"\r\n\r\n\r\n\0\0\none\n")
        peer.expect(ACK)
        ackd.configure("")
        ackd.signal(signal.SIGHUP)
        ackd.journal.next(Kind.RELOADED)
        peer.send(b"\r\n")
        peer.expect(ACK)
    assert ackd.journal.payloads(2) == [b"one", b""]


def test_a_health_check_is_recorded_with_debug_only(start: StartDaemon) -> None:
    quiet, verbose = start(), start("debug: true\n")
    for ackd in (quiet, verbose):
        with ackd.peer() as peer:
            peer.half_close()
            peer.expect_end()
    assert verbose.journal.next(Kind.CONNECTED)
    assert verbose.journal.next(Kind.ANSWERED)["MESSAGE"] == b"send data to client"
    assert verbose.journal.next(Kind.WROTE)["MESSAGE"] == b"wrote to socket: 8 bytes"
    assert verbose.journal.next(Kind.CLOSED)
    quiet.signal(signal.SIGTERM)
    assert quiet.wait() == 0
    kinds = [entry["MESSAGE_ID"] for entry in quiet.journal.waiting()]
    assert kinds == [Kind.STOPPED.value.encode()]


def test_connections_of_two_runs_have_different_names(start: StartDaemon) -> None:
    names = set()
    for ackd in (start(), start()):
        with ackd.peer() as peer:
            peer.send(b"hello\n")
            names.add(ackd.journal.next(Kind.PAYLOAD)["ACKD_CONNECTION"])
    assert len(names) == 2


def test_sigusr1_records_the_counters(start: StartDaemon) -> None:
    ackd = start("max_payload: 5\n")
    with ackd.peer() as peer:
        peer.send(b"hello\ntoo long\n")
        peer.expect(ACK)
        ackd.signal(signal.SIGUSR1)
        entry = ackd.journal.next(Kind.COUNTERS)
    assert entry["MESSAGE"] == (
        b"counters: connections 1, turned_away 0, acknowledged 1, refused 1, received 15"
    )
    assert entry["ACKD_ACKNOWLEDGED"] == b"1"


# A journal that takes no records


def fill(ackd_peer: Peer, count: int) -> list[bytes]:
    """Send this many payloads at once, and return them."""
    payloads = [b"payload %d" % number for number in range(count)]
    ackd_peer.send(b"".join(payload + b"\n" for payload in payloads))
    return payloads


def test_acks_wait_while_the_journal_is_full_and_then_come_in_order(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as first, ackd.peer() as second:
        ackd.journal.hold()
        payloads = fill(first, 5_000)  # more than the queue of a datagram socket holds
        fill(second, 5_000)
        with ackd.peer() as third:  # ackd greets clients meanwhile
            third.send(b"me too\n")
            ackd.journal.go_on()
            third.expect(ACK)
        first.expect(ACK * 5_000)
        second.expect(ACK * 5_000)
    taken = ackd.journal.payloads(10_001)
    assert sorted(taken) == sorted([*payloads, *payloads, b"me too"])


def test_clients_that_send_nothing_can_leave_while_the_journal_is_full(
    start: StartDaemon,
) -> None:
    ackd = start("max_connections: 2\n")
    with ackd.peer() as busy:
        ackd.journal.hold()
        busy.send_until_stuck(b"hello\n" * 1000)
        for _ in range(5):
            with ackd.peer() as check:
                check.half_close()
                check.expect_end()
        ackd.journal.go_on()


def test_no_payload_is_acknowledged_before_the_journal_has_taken_it(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        ackd.journal.hold()
        fill(peer, 5_000)
        with ackd.peer():  # after this greeting, the loop has read the payloads
            ackd.process.kill()
            ackd.wait()
        acks = peer.read_to_loss().count(b"\n")
    ackd.journal.go_on()
    recorded = ackd.journal.payloads(acks)
    assert recorded == [b"payload %d" % number for number in range(acks)]


def test_payloads_wait_for_an_absent_journal_and_are_recorded_when_it_is_back(
    start: StartDaemon,
) -> None:
    ackd = start("journal_wait: 60\n", managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"one\ntwo\n")
        ackd.manager.wait_for("STATUS=the journal can't be reached")
        with ackd.peer() as other:
            ackd.journal.open()
            other.send(b"three\n")
            other.expect(ACK)
        peer.expect(ACK * 2)
    assert b"can't be reached" in ackd.journal.next(Kind.JOURNAL_LOST)["MESSAGE"]
    assert ackd.journal.next(Kind.JOURNAL_BACK)
    assert sorted(ackd.journal.payloads(3)) == [b"one", b"three", b"two"]


def test_payloads_are_refused_when_the_journal_stays_away(start: StartDaemon) -> None:
    ackd = start("journal_wait: 0.2\n")
    with ackd.peer() as peer:
        ackd.journal.close()
        refusal = b"not received: the journal can't be reached\n"
        peer.send(b"one\ntwo\n")
        peer.expect(refusal * 2)
        peer.send(b"three")
        peer.half_close()
        peer.expect(refusal)
        peer.expect_end()
    ackd.journal.open()
    with ackd.peer() as peer:
        peer.send(b"four\n")
        peer.expect(ACK)
    closed = ackd.journal.next(Kind.CLOSED)
    assert (closed["ACKD_PAYLOADS"], closed["ACKD_REFUSED"]) == (b"0", b"3")
    assert ackd.journal.payloads(1) == [b"four"]


def test_new_clients_are_rejected_while_the_journal_stays_away(start: StartDaemon) -> None:
    ackd = start("journal_wait: 0.2\n")
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"one\n")
        peer.expect(b"not received: the journal can't be reached\n")
        for _ in range(3):
            with Peer(ackd.port) as other:
                other.expect(b"not connect: the journal can't be reached\n")
                other.expect_end()
        ackd.journal.open()
        with ackd.peer() as other:
            other.send(b"two\n")
            other.expect(ACK)
        peer.send(b"three\n")
        peer.expect(ACK)
    assert ackd.journal.payloads(2) == [b"two", b"three"]
    ackd.signal(signal.SIGUSR1)
    assert ackd.journal.next(Kind.COUNTERS)["ACKD_TURNED_AWAY"] == b"3"
    message = ackd.journal.next(Kind.REJECTED)["MESSAGE"]
    assert message.endswith(b": the journal can't be reached")


def test_a_reload_changes_how_long_payloads_wait_while_the_journal_is_away(
    start: StartDaemon,
) -> None:
    ackd = start("journal_wait: 600\n", managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"one\n")
        ackd.manager.wait_for("STATUS=the journal can't be reached, payloads wait")
        ackd.configure("journal_wait: 0.2\n")
        ackd.signal(signal.SIGHUP)
        peer.expect(b"not received: the journal can't be reached\n")


def test_ackd_can_start_before_the_journal(start: StartDaemon, tmp_path: Path) -> None:
    ackd = start("journal_wait: 60\n")
    ackd.journal.hold()
    ackd.journal.close()
    ackd.signal(signal.SIGHUP)
    with ackd.peer() as peer:
        peer.send(b"early\n")
        ackd.journal.open()
        ackd.journal.go_on()
        peer.expect(ACK)
    assert ackd.journal.next(Kind.RELOADED)


# The start


def test_a_start_imports_no_module_that_only_some_starts_need() -> None:
    program = "import sys, ackd.service.main; print(*sys.modules)"
    modules = subprocess.check_output([sys.executable, "-c", program], text=True).split()
    slow = {"dataclasses", "difflib", "rich", "ssl", "systemd", "ackd.log.disk"}
    assert slow.isdisjoint(modules)


# Clients that misbehave


def test_a_client_that_does_not_read_harms_no_other(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as stuck, ackd.peer() as other:
        stuck.send(b"hello, are you there?\n" * 100_000)
        other.send(b"hello\n")
        other.expect(ACK)
        stuck.half_close()
        received = b"".join(iter(lambda: stuck.socket.recv(65536), b""))
    assert received == ACK * 100_000


def memory(ackd: Daemon) -> int:
    """Return the bytes of memory that the process has in use."""
    pages = int(Path(f"/proc/{ackd.process.pid}/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def test_a_client_that_never_reads_is_read_on_and_costs_no_memory(start: StartDaemon) -> None:
    ackd = start("record: batch\nidle_timeout: 3\n")
    with ackd.peer() as deaf:
        before = memory(ackd)
        deaf.send(b"12345678\n" * 400_000)  # 18.8 MB of acks
        deaf.half_close()
        numbers = (
            int(entry["ACKD_SEQUENCE"]) + int(entry["ACKD_COUNT"])
            for entry in iter(lambda: ackd.journal.next(Kind.PAYLOAD), None)
        )
        assert 400_001 in numbers
        assert memory(ackd) - before < 4 << 20
        assert deaf.read_to_loss() == ACK * 400_000
    closed = ackd.journal.next(Kind.CLOSED)
    assert (closed["ACKD_PAYLOADS"], closed["ACKD_REASON"]) == (b"400000", b"the client closed it")


def test_owed_refusals_keep_their_places_and_cost_no_memory(start: StartDaemon) -> None:
    ackd = start("max_payload: 1\nrecord: none\n")
    refusal = b"not received: longer than 1 bytes\n"
    with ackd.peer() as deaf:
        before = memory(ackd)
        deaf.send(b"a\n" * 100_000 + b"123\n" * 100_000 + b"a\n" * 100_000)
        with ackd.peer() as other:
            other.send(b"a\n")
            other.expect(ACK)
        assert memory(ackd) - before < 4 << 20
        deaf.half_close()
        assert deaf.read_to_loss() == ACK * 100_000 + refusal * 100_000 + ACK * 100_000


def test_a_client_whose_owed_replies_all_differ_is_not_read_on(start: StartDaemon) -> None:
    ackd = start("max_payload: 1\nrecord: none\n")
    refusal = b"not received: longer than 1 bytes\n"
    with ackd.peer() as deaf:
        before = memory(ackd)
        deaf.send_until_stuck(b"a\n123\n" * 10_000)
        assert memory(ackd) - before < 4 << 20
        deaf.expect((ACK + refusal) * 5_000)


def test_replies_that_are_owed_at_a_reload_stay_as_they_are(start: StartDaemon) -> None:
    ackd = start("record: none\n")
    with ackd.peer() as deaf:
        deaf.send(b"one\n" * 300_000)
        with ackd.peer() as other:
            other.send(b"one\n")
            other.expect(ACK)
        ackd.configure("record: none\nack: OK\n")
        ackd.signal(signal.SIGHUP)
        ackd.journal.next(Kind.RELOADED)
        deaf.send(b"two\n")
        deaf.half_close()
        replies = deaf.read_to_loss()
    changed = replies.index(b"OK\n")
    assert replies[:changed] == ACK * (changed // len(ACK))
    assert replies[changed:] == b"OK\n" * (300_001 - changed // len(ACK))


@pytest.mark.parametrize("record", ["each", "batch"])
@pytest.mark.parametrize("greeted", [False, True])
def test_all_lines_of_a_client_that_closes_without_reading_are_recorded(
    start: StartDaemon, record: str, greeted: bool
) -> None:
    ackd = start(f"record: {record}\n")
    if not greeted:  # the greeting is the first reply that can't be sent
        ackd.signal(signal.SIGSTOP)
    lines = [b"line %d\r\n" % number for number in range(1000)]
    with Peer(ackd.port) as deaf:
        # In two pieces, which leave at once: at the close the kernel of the client drops all lines
        # that it has not sent yet.
        deaf.send(b"".join(lines[:500]))
        if greeted:
            deaf.expect(GREETING + ACK)  # further acks stay unread
        deaf.send(b"".join(lines[500:]))
    ackd.signal(signal.SIGCONT)
    assert ackd.journal.payloads(1000) == [b"line %d" % number for number in range(1000)]
    closed = ackd.journal.next(Kind.CLOSED)
    assert closed["ACKD_PAYLOADS"] == b"1000"


def test_lines_of_a_client_that_has_gone_wait_for_the_journal(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as deaf:
        ackd.journal.hold()
        fill(deaf, 5_000)
    with ackd.peer():
        ackd.journal.go_on()
    assert ackd.journal.payloads(5_000) == [b"payload %d" % number for number in range(5_000)]


def test_replies_are_sent_while_the_journal_takes_no_records(start: StartDaemon) -> None:
    ackd = start(f"ack: {'ok' * 2000}\n")
    ack = b"ok" * 2000 + b"\n"
    with ackd.peer() as slow:
        fill(slow, 3_000)  # 12 MB of acks
        ackd.journal.payloads(3_000)
        ackd.journal.hold()
        slow.send(b"payload\n" * 1_000)
        slow.expect(ack * 3_000)
        ackd.journal.go_on()
        slow.expect(ack * 1_000)


def test_a_reset_ends_only_its_own_connection(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as other:
        for data in (b"", b"half a line", b"a line\n", b"a line\n" * 10_000):
            hostile = ackd.peer()
            hostile.send(data)
            hostile.reset()
        other.send(b"hello\n")
        other.expect(ACK)
    assert ackd.journal.wait_for(
        lambda entry: entry.get("ACKD_REASON") == b"lost: Connection reset by peer"
    )


def test_clients_that_leave_before_the_greeting_are_not_counted(
    start: StartDaemon,
) -> None:
    ackd = start("max_connections: 10\n")
    ackd.signal(signal.SIGSTOP)
    for _ in range(50):
        Peer(ackd.port).reset()
    ackd.signal(signal.SIGCONT)
    with ExitStack() as stay:
        for _ in range(10):
            stay.enter_context(ackd.peer())
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0


def test_a_silent_client_is_disconnected(start: StartDaemon) -> None:
    ackd = start("idle_timeout: 0.2\n")
    with ackd.peer() as peer:
        peer.send(b"hello\nhalf a line")
        peer.expect(ACK)
        peer.expect_end()
    closed = ackd.journal.next(Kind.CLOSED)
    assert closed["ACKD_REASON"] == b"silent for too long"
    assert closed["ACKD_PAYLOADS"] == b"1"


@pytest.mark.skipif(shutil.which("ss") is None, reason="needs ss: apt-get install iproute2")
def test_a_client_whose_host_vanishes_is_noticed(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer():
        filter_ = f"sport = :{ackd.port}"
        sockets = subprocess.check_output(["ss", "-tnoH", filter_], text=True)
    assert "timer:(keepalive," in sockets


# Limits


def test_a_client_beyond_max_connections_is_rejected(start: StartDaemon) -> None:
    ackd = start("max_connections: 2\n")
    with ackd.peer(), ExitStack() as stay:
        second = stay.enter_context(ackd.peer())
        with Peer(ackd.port) as third:
            third.send(b"x" * 100_000)  # a reset because of unread input would lose the line
            third.expect(b"not connect: too many connections, the limit is 2\n")
            third.expect_end()
        with Peer(ackd.port) as fourth:
            fourth.expect(b"not connect: too many connections, the limit is 2\n")
        second.half_close()
        second.expect_end()
        with ackd.peer() as fifth:
            fifth.send(b"hello\n")
            fifth.expect(ACK)
    assert b"all 2 are in use" in ackd.journal.next(Kind.LIMIT_REACHED)["MESSAGE"]
    ackd.journal.next(Kind.PAYLOAD)
    limit_reached = Kind.LIMIT_REACHED.value.encode()
    assert all(entry["MESSAGE_ID"] != limit_reached for entry in ackd.journal.waiting())


def test_a_client_beyond_max_connections_per_client_is_rejected(start: StartDaemon) -> None:
    ackd = start("bind: 0.0.0.0\nmax_connections_per_client: 1\n")
    with ackd.peer():
        with Peer(ackd.port) as second:
            second.expect(b"not connect: too many connections from 127.0.0.1, the limit is 1\n")
        record = ackd.journal.next(Kind.REJECTED)
        with Peer(ackd.port, "127.0.0.2", "127.0.0.2") as other:
            other.expect(GREETING)
    assert record["PRIORITY"] == b"4"
    assert record["ACKD_PEER"] == b"127.0.0.1"
    client = b"127.0.0.1 port " + record["ACKD_PEER_PORT"]
    reason = b"too many connections from 127.0.0.1, the limit is 1"
    assert record["MESSAGE"] == b"turned away: " + client + b": " + reason


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Allow this process thousands of descriptors."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_client_can_not_use_all_connections_by_default(start: StartDaemon) -> None:
    ackd = start("bind: 0.0.0.0\n")
    with many_descriptors(), ExitStack() as stay:
        for _ in range(1024):
            stay.enter_context(ackd.peer())
        with Peer(ackd.port) as beyond:
            reason = b"too many connections from 127.0.0.1, the limit is 1024"
            beyond.expect(b"not connect: " + reason + b"\n")
        with Peer(ackd.port, "127.0.0.2", "127.0.0.2") as other:
            other.expect(GREETING)


def test_only_allowed_addresses_are_admitted(start: StartDaemon) -> None:
    ackd = start("bind: 0.0.0.0\nallow: [192.0.2.0/24, 127.0.0.2]\n")
    with Peer(ackd.port) as rejected:
        rejected.send(b"x" * 100_000)  # a reset because of unread input would lose the line
        rejected.expect(b"not connect: 127.0.0.1 is not allowed here\n")
        rejected.expect_end()
    record = ackd.journal.next(Kind.REJECTED)
    client = b"127.0.0.1 port " + record["ACKD_PEER_PORT"]
    assert record["MESSAGE"] == b"turned away: " + client + b": 127.0.0.1 is not allowed here"
    assert record["ACKD_PEER"] == b"127.0.0.1"
    with Peer(ackd.port, "127.0.0.2", "127.0.0.2") as peer:
        peer.expect(GREETING)


def test_a_reload_of_allow_applies_to_new_connections_only(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as inside:
        ackd.configure("allow: 192.0.2.0/24\n")
        assert run_ackd("--reload", str(ackd.process.pid)) == (0, "", "")
        with Peer(ackd.port) as rejected:
            rejected.expect(b"not connect: 127.0.0.1 is not allowed here\n")
        inside.send(b"hello\n")
        inside.expect(ACK)


def test_rejected_clients_can_not_fill_the_journal(start: StartDaemon) -> None:
    ackd = start("allow: 192.0.2.0/24\n")
    for _ in range(50):
        with Peer(ackd.port) as rejected:
            rejected.expect(b"not connect: 127.0.0.1 is not allowed here\n")
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
    left_out, stopped = ackd.journal.next(Kind.LIMITED), ackd.journal.next(Kind.STOPPED)
    assert left_out["MESSAGE"] == b"left out about 127.0.0.1: turned away: 49, beyond 1 a minute"
    assert left_out["PRIORITY"] == b"4"
    assert left_out["ACKD_PEER"] == b"127.0.0.1"
    assert left_out["ACKD_LEFT_OUT"] == b"49"
    assert stopped
    assert [entry["MESSAGE_ID"] for entry in ackd.journal.waiting()] == [
        Kind.REJECTED.value.encode()
    ]


def connect_repeatedly(ackd: Daemon, count: int) -> None:
    """Open this many connections, one after the other, and send one payload over each."""
    for _ in range(count):
        with ackd.peer() as peer:
            peer.send(b"hello\n")
            peer.expect(ACK)
            peer.half_close()
            peer.expect_end()


def test_a_clients_connections_beyond_a_hundred_a_minute_are_only_counted(
    start: StartDaemon,
) -> None:
    ackd = start()
    connect_repeatedly(ackd, 150)
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
    assert ackd.journal.payloads(150) == [b"hello"] * 150
    left_out = ackd.journal.next(Kind.LIMITED)["MESSAGE"]
    assert left_out == b"left out about 127.0.0.1: connections: 50, beyond 100 a minute"
    ackd.journal.next(Kind.STOPPED)
    connections: dict[bytes, list[bytes]] = {}
    for entry in ackd.journal.waiting():
        connections.setdefault(entry["ACKD_CONNECTION"], []).append(entry["MESSAGE_ID"])
    both = [Kind.CONNECTED.value.encode(), Kind.CLOSED.value.encode()]
    assert list(connections.values()) == [both] * 100


def test_debug_records_every_connection(start: StartDaemon) -> None:
    ackd = start("debug: true\n")
    connect_repeatedly(ackd, 150)
    for kind in (Kind.CONNECTED, Kind.CLOSED):
        for _ in range(150):
            ackd.journal.next(kind)
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
    ackd.journal.next(Kind.STOPPED)
    assert all(e["MESSAGE_ID"] != Kind.LIMITED.value.encode() for e in ackd.journal.waiting())


# ackd with a minute of one second.
_WITH_SHORT_MINUTE = """
import sys
from ackd.service import main as daemon
from ackd.server import quota
quota.MINUTE = 1
sys.exit(daemon.main())
"""


def test_left_out_records_are_counted_at_the_end_of_the_minute(start: StartDaemon) -> None:
    ackd = start("allow: 192.0.2.0/24\n", command=(sys.executable, "-c", _WITH_SHORT_MINUTE))
    for _ in range(20):
        with Peer(ackd.port) as rejected:
            rejected.expect(b"not connect: 127.0.0.1 is not allowed here\n")
    assert ackd.journal.next(Kind.LIMITED)  # although no client has connected since


def test_unfinished_lines_of_all_clients_have_a_common_bound(start: StartDaemon) -> None:
    ackd = start()
    with ExitStack() as stack:
        busy = stack.enter_context(ackd.peer())
        busy.send(b"half a payload, ")
        half_lines = []
        for _ in range(BOUND // 65536 + 10):
            half_lines.append(stack.enter_context(ackd.peer()))
            half_lines[-1].send(b"\xff" * 65536)
            busy.send(b"of many\nhalf a payload, ")
            busy.expect(ACK)
        for oldest in half_lines[:5]:
            oldest.expect_end()
            oldest.socket.close()
        closed = ackd.journal.next(Kind.CLOSED)
        assert closed["ACKD_REASON"] == b"its line was unfinished for too long"
        half_lines[-1].send(b"\n")
        half_lines[-1].expect(ACK)
        busy.send(b"and whole\n")
        busy.expect(ACK)


def test_five_thousand_clients_are_served(start: StartDaemon) -> None:
    ackd = start("max_connections: 5000\nmax_connections_per_client: null\n")
    with many_descriptors(), ExitStack() as stay:
        peers = [stay.enter_context(ackd.peer()) for _ in range(5_000)]
        for number, peer in enumerate(peers):
            peer.send(b"payload %d\n" % number)
        for peer in peers:
            peer.expect(ACK)
    assert sorted(ackd.journal.payloads(5_000)) == sorted(b"payload %d" % n for n in range(5_000))


def test_clients_wait_while_there_are_no_descriptors(start: StartDaemon) -> None:
    ackd = start(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    assert b"only 40 are allowed" in ackd.journal.next(Kind.LOG)["MESSAGE"]
    with ExitStack() as stay:
        greeted: list[Peer] = []
        waiting = [stay.enter_context(Peer(ackd.port)) for _ in range(60)]
        assert b"they wait" in ackd.journal.next(Kind.NO_DESCRIPTORS)["MESSAGE"]
        while waiting:
            greeted += [peer for peer in waiting if peer.readable()]
            waiting = [peer for peer in waiting if peer not in greeted]
            for peer in greeted:
                peer.expect(GREETING)
                peer.send(b"hello\n")
                peer.expect(ACK)
                peer.socket.close()
            greeted.clear()
            if waiting:
                waiting[0].socket.recv(1, socket.MSG_PEEK)  # wait until ackd greets the next client
    no_descriptors = Kind.NO_DESCRIPTORS.value.encode()
    assert all(entry["MESSAGE_ID"] != no_descriptors for entry in ackd.journal.waiting())


def test_the_service_manager_gets_messages_without_free_descriptors(start: StartDaemon) -> None:
    """sd_notify(3) needs a descriptor for each message."""
    ackd = start(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)), managed=True)
    with ExitStack() as stay:
        for _ in range(60):
            stay.enter_context(Peer(ackd.port))
        assert ackd.manager.wait_for("STATUS=out of descriptors")
        assert ackd.manager.wait_for("WATCHDOG=1")
    assert ackd.manager.wait_for("STATUS=clients: 0")


# Signals


def test_a_stop_acknowledges_received_payloads_and_closes_connections(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as busy, ackd.peer() as idle, ackd.peer() as half:
        busy.send(b"hello\n" * 1000)
        half.send(b"half a line")
        ackd.signal(signal.SIGTERM)
        busy.expect(ACK * 1000)
        for peer in (busy, idle, half):
            peer.expect_end()
    assert ackd.wait() == 0
    assert ackd.journal.payloads(1000) == [b"hello"] * 1000
    assert ackd.journal.next(Kind.STOPPED)
    assert all(e["MESSAGE_ID"] != Kind.PAYLOAD.value.encode() for e in ackd.journal.waiting())


def test_a_stop_leaves_a_client_time_to_read_its_replies(start: StartDaemon) -> None:
    ack = b"x" * 4000
    ackd = start(f"ack: {ack.decode()}\n")
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect(("127.0.0.1", ackd.port))
    with Peer.over(connection) as slow, ackd.peer() as idle:
        slow.expect(GREETING)
        slow.send(b"hello\n" * 2000)
        ackd.journal.payloads(200)
        before, acknowledged = b"", b"0"
        while acknowledged != before:  # until the kernel's buffers hold no further acks
            ackd.signal(signal.SIGUSR1)
            entry = ackd.journal.next(Kind.COUNTERS)
            before, acknowledged = acknowledged, entry["ACKD_ACKNOWLEDGED"]
        ackd.signal(signal.SIGTERM)
        idle.expect_end()  # ackd closes the connections of silent clients first
        slow.expect((ack + b"\n") * 2000)
        slow.expect_end()
    assert ackd.wait() == 0


@pytest.mark.parametrize("hold", [False, True])
def test_a_stop_ends_with_a_stuck_client_and_a_stuck_journal(
    start: StartDaemon, hold: bool
) -> None:
    ackd = start()
    with ackd.peer() as stuck, ackd.peer():
        if hold:
            ackd.journal.hold()
        if hold:
            stuck.send_until_stuck(b"hello\n" * 10_000)
        else:
            stuck.send(b"hello\n" * 200_000)
        ackd.signal(signal.SIGTERM)
        assert ackd.wait() == 0


def test_a_stop_is_the_reason_of_the_end_for_a_client_that_does_not_read(
    start: StartDaemon,
) -> None:
    ackd = start(f"ack: {'ok' * 2000}\n")
    with ackd.peer() as stuck:
        stuck.send(b"hello\n" * 10_000)
        ackd.signal(signal.SIGTERM)
        assert ackd.wait() == 0
    assert ackd.journal.next(Kind.CLOSED)["ACKD_REASON"] == b"ackd stopped"


def test_a_second_interrupt_ends_ackd_at_once(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        ackd.journal.hold()
        fill(peer, 20_000)
        ackd.signal(signal.SIGINT)
        ackd.await_closed()
        ackd.signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):  # one interrupt would close the connection well
            list(iter(lambda: peer.socket.recv(65536), b""))
        assert ackd.wait() == 0


def test_a_reload_takes_the_new_settings_and_keeps_all_connections(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as old:
        ackd.configure("ack: OK\ngreeting: Welcome\n")
        ackd.signal(signal.SIGHUP)
        ackd.journal.next(Kind.RELOADED)
        assert ackd.await_listening() == ackd.port
        old.send(b"hello\n")
        old.expect(b"OK\n")
        with Peer(ackd.port) as new:
            new.expect(b"Welcome\n")


def test_a_reload_changes_how_payloads_are_recorded_at_once(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        for record, shares in (("each", [1, 1]), ("batch", [2]), ("none", []), ("each", [1, 1])):
            ackd.configure(f"record: {record}\n")
            ackd.signal(signal.SIGHUP)
            ackd.journal.next(Kind.RELOADED)
            peer.send(b"one\ntwo\n")
            peer.expect(ACK * 2)
            entries = [ackd.journal.next(Kind.PAYLOAD) for _ in shares]
            assert [len(payloads_of(entry)) for entry in entries] == shares


def test_waiting_payloads_are_acknowledged_after_a_reload_to_record_none(
    start: StartDaemon,
) -> None:
    ackd = start("journal_wait: 60\n", managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"one\n")
        ackd.manager.wait_for("STATUS=the journal can't be reached, payloads wait")
        ackd.configure("record: none\n")
        ackd.signal(signal.SIGHUP)
        peer.expect(ACK)


def test_a_reload_changes_the_address_and_keeps_all_connections(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as old:
        ackd.configure("bind: [127.0.0.2, 127.0.0.3]\n")
        ackd.signal(signal.SIGHUP)
        ackd.journal.next(Kind.RELOADED)
        port = ackd.await_listening()
        with Peer(port, "127.0.0.2") as new:
            new.expect(GREETING)
        with pytest.raises(ConnectionRefusedError):
            Peer(ackd.port)
        old.send(b"hello\n")
        old.expect(ACK)


@pytest.mark.parametrize(("before", "after"), [("127.0.0.1", "0.0.0.0"), ("0.0.0.0", "127.0.0.1")])
def test_a_reload_can_change_from_one_address_to_all_and_back(
    start: StartDaemon, before: str, after: str
) -> None:
    free = start()
    port = free.port
    free.signal(signal.SIGTERM)
    free.wait()
    ackd = start(f"bind: {before}\nport: {port}\n")
    with ackd.peer() as old:
        ackd.configure(f"bind: {after}\nport: {port}\n")
        assert run_ackd("--reload", str(ackd.process.pid)) == (0, "", "")
        with ackd.peer() as new:
            new.send(b"hello\n")
            new.expect(ACK)
        assert ackd.journal.next(Kind.PAYLOAD)["ACKD_LISTENER"] == f"{after}:{port}".encode()
        old.send(b"hello\n")
        old.expect(ACK)
    status, _, error = run_ackd("--bind", "127.0.0.1", "--port", str(port))
    assert (status, "Address already in use" in error) == (1, True)


def test_a_failed_reload_changes_nothing_and_records_why(start: StartDaemon) -> None:
    ackd = start()
    taken = start()
    for settings, reason in (
        ("port: 70000\n", b":2:7: port: 70000 is not between 0 and 65535"),
        (f"bind: 127.0.0.1\nport: {taken.port}\n", b"Address already in use"),
    ):
        ackd.configure(settings)
        ackd.signal(signal.SIGHUP)
        assert reason in ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"]
        with ackd.peer() as peer:
            peer.send(b"hello\n")
            peer.expect(ACK)


# The service manager


def test_the_service_manager_gets_ready_without_a_watchdog_or_a_client(start: StartDaemon) -> None:
    assert start(managed=True, watchdog=False).manager.wait_for("READY=1")


def test_the_service_manager_gets_ready_reloading_stopping_and_the_status(
    start: StartDaemon,
) -> None:
    ackd = start(managed=True)
    ackd.manager.wait_for("READY=1")
    ackd.manager.wait_for("STATUS=clients: 0; payloads: 0 acknowledged, 0 refused")
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
        ackd.manager.wait_for("STATUS=clients: 1; payloads: 1 acknowledged, 0 refused")
        ackd.manager.wait_for("WATCHDOG=1")
    ackd.signal(signal.SIGHUP)
    ackd.manager.wait_for("RELOADING=1")
    ackd.manager.wait_for("READY=1")
    ackd.signal(signal.SIGTERM)
    ackd.manager.wait_for("STOPPING=1")
    assert ackd.wait() == 0


def test_the_reload_command_waits_and_returns_the_outcome(start: StartDaemon) -> None:
    ackd = start()
    pid = str(ackd.process.pid)
    ackd.configure("greeting: Welcome\n")
    assert run_ackd("--reload", pid) == (0, "", "")
    with Peer(ackd.port) as peer:
        peer.expect(b"Welcome\n")
    ackd.configure("prot: 1\n")
    status, _, error = run_ackd("--reload", pid)
    assert status == 1
    assert "prot: there is no such key; did you mean port?" in error


def test_a_reload_request_that_ends_early_harms_no_client(start: StartDaemon) -> None:
    ackd = start()
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.connect(f"\0ackd/{ackd.process.pid}")
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_a_reload_of_a_process_that_is_not_ackd_is_an_error() -> None:
    status, _, error = run_ackd("--reload", "1")
    assert (status, error) == (1, "ackd: process 1 can't be asked: Connection refused\n")


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it asks as another user")
def test_another_user_can_not_ask_for_a_reload(start: StartDaemon) -> None:
    ackd = start()
    pid = ackd.process.pid
    ackd.configure("greeting: Welcome\n")
    os.seteuid(65534)
    try:
        with pytest.raises(ControlError) as caught:
            request_reload(pid)
    finally:
        os.seteuid(0)
    assert str(caught.value) == f"only root and the user of process {pid} may reload it"
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_another_process_can_not_answer_a_reload_request_for_ackd() -> None:
    asked = os.getppid()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
        control.bind(f"\0ackd/{asked}")
        control.listen()
        status, _, error = run_ackd("--reload", str(asked))
    assert status == 1
    assert error == f"ackd: process {os.getpid()} listens in the place of process {asked}\n"


# Descriptors that the service manager passes


# Passes descriptors as a service manager does: a file as a client, and so on.
PASS = """
exec 3</etc/passwd 4</dev/null 5</dev/zero 6</dev/null
LISTEN_PID=$$ LISTEN_FDS=4 LISTEN_FDNAMES=client:client:state:listener-00 exec "$@"
"""


def test_stored_descriptors_that_are_not_what_their_names_say_are_dropped(
    start: StartDaemon,
) -> None:
    ackd = start(command=("sh", "-c", PASS, "sh", *COMMAND))
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
    problem = ackd.journal.next(Kind.LOG)["MESSAGE"]
    assert problem.endswith(b"disconnected: the descriptor of the state is not a file")
    opened = {os.readlink(link) for link in Path(f"/proc/{ackd.process.pid}/fd").iterdir()}
    assert not opened & {"/etc/passwd", "/dev/zero"}


# The command line


def run_ackd(*arguments: str) -> tuple[int, str, str]:
    """Run ackd until it ends; return the exit status, output and error."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE)
    return done.returncode, done.stdout, done.stderr


def test_check_config_accepts_a_good_configuration(tmp_path: Path) -> None:
    file = tmp_path / "ackd.yaml"
    file.write_text("port: 10008\n")
    status, output, warnings = run_ackd("--check-config", "--config", str(file))
    assert (status, output) == (0, f"ackd: {file}: good\n")
    # Root is warned of pytest's directory, which only root can read.
    assert all("the service can't read it" in line for line in warnings.splitlines())


@pytest.mark.parametrize("options", [("--check-config",), ()])
def test_all_errors_of_a_configuration_are_printed_before_ackd_listens(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "ackd.yaml"
    file.write_text("\n\n\n\n\n\nport: 70000\ngreting: hi\n")
    assert run_ackd(*options, "--config", str(file)) == (
        2,
        "",
        f"ackd: {file}:7:7: port: 70000 is not between 0 and 65535\n"
        f"ackd: {file}:8:1: greting: there is no such key; did you mean greeting?\n",
    )


def test_a_configuration_named_on_the_command_line_must_exist() -> None:
    status, _, error = run_ackd("--config", "/nowhere/ackd.yaml")
    assert (status, error) == (2, "ackd: /nowhere/ackd.yaml: No such file or directory\n")


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--port", "70000", "70000 is not between 0 and 65535"),
        ("--port", "http", "invalid port value: 'http'"),
        ("--bind", "localhost", "'localhost' is not an IPv4 or IPv6 address"),
        ("--pidfile", "/tmp/ackd.pid", "--pidfile is for --detach only"),
        ("--detach", "--terminal", "--detach can't be used with --terminal"),
    ],
)
def test_wrong_options_are_usage_errors(option: str, value: str, reason: str) -> None:
    status, _, error = run_ackd(option, value)
    assert status == 2
    assert reason in error


def test_an_address_in_use_is_an_error_with_advice(start: StartDaemon) -> None:
    taken = start()
    status, _, error = run_ackd("--bind", "127.0.0.1", "--port", str(taken.port))
    assert status == 1
    assert error == (
        f"ackd: can't listen on 127.0.0.1:{taken.port}: Address already in use;"
        " another program listens there: `ss -ltnp`, of iproute2, shows which\n"
    )


def test_all_addresses_in_use_are_reported_at_once(start: StartDaemon) -> None:
    taken = start()
    with socket.create_server(("127.0.0.2", taken.port)):
        addresses = ("--bind", "127.0.0.1", "--bind", "127.0.0.2")
        status, _, error = run_ackd(*addresses, "--port", str(taken.port))
    both = f"127.0.0.1:{taken.port} and 127.0.0.2:{taken.port}"
    assert status == 1
    assert error.startswith(f"ackd: can't listen on {both}: Address already in use;")


def test_options_override_the_file(start: StartDaemon) -> None:
    ackd = start("bind: 127.0.0.1\nport: 1\n", options=("--bind", "127.0.0.2", "--port", "0"))
    with Peer(ackd.port, "127.0.0.2") as peer:
        peer.expect(GREETING)


def test_no_socket_gets_the_number_of_a_closed_standard_stream(start: StartDaemon) -> None:
    ackd = start(prepare=lambda: os.closerange(0, 3))
    opened = [os.readlink(f"/proc/{ackd.process.pid}/fd/{number}") for number in range(3)]
    assert opened == ["/dev/null"] * 3


def test_a_very_long_log_line_does_not_stop_ackd(start: StartDaemon) -> None:
    ackd = start()
    ackd.config.write_text("x" * 1_000_000 + ": 1\n")
    ackd.signal(signal.SIGHUP)
    assert len(ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"]) <= 8192
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_records_on_the_terminal_are_readable(tmp_path: Path) -> None:
    config = tmp_path / "ackd.yaml"
    config.write_text("bind: 127.0.0.1\nport: 0\n")
    command = [*COMMAND, "--terminal", "--config", str(config)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as ackd:
        assert ackd.stdout
        port = int(ackd.stdout.readline().rpartition(":")[2])
        with Peer(port) as peer:
            peer.expect(GREETING)
            peer.send(b"hello \x1b[31m\xe2\x80\xae\n")
            peer.expect(ACK)
            here = f"127.0.0.1 port {peer.socket.getsockname()[1]}"
        lines = [ackd.stdout.readline().partition(" ")[2] for _ in range(3)]
        ackd.send_signal(signal.SIGTERM)
    assert lines[:2] == [
        f"{here}: socket connected\n",
        f"{here} #1: Buffer: hello \\x1b[31m\\u202e\n",
    ]
    assert lines[2].startswith(f"{here}: closed the socket: payloads: 1 acknowledged, 0 refused")


@contextmanager
def on_terminal(config: Path, stdout: int) -> Iterator["subprocess.Popen[str]"]:
    """Run an ackd that records on a standard output."""
    config.write_text("bind: 127.0.0.1\nport: 0\njournal_wait: 0\n")
    command = [*COMMAND, "--terminal", "--config", str(config)]
    with subprocess.Popen(command, stdout=stdout, stderr=subprocess.PIPE, text=True) as ackd:
        try:
            yield ackd
        finally:
            ackd.kill()


def test_ackd_ends_when_the_reader_of_its_records_has_ended(tmp_path: Path) -> None:
    with on_terminal(tmp_path / "ackd.yaml", subprocess.PIPE) as ackd:
        assert ackd.stdout
        assert ackd.stderr
        port = int(ackd.stdout.readline().rpartition(":")[2])
        with Peer(port) as peer:
            peer.expect(GREETING)
            ackd.stdout.close()  # as `head` does after its last line
            assert ackd.wait(DEADLINE) == 1
        assert ackd.stderr.read() == (
            "ackd: the standard output can't be written any more: it is closed\n"
        )


def test_ackd_ends_when_its_terminal_is_closed(tmp_path: Path) -> None:
    master, slave = os.openpty()
    with on_terminal(tmp_path / "ackd.yaml", slave) as ackd:
        os.close(slave)
        assert os.read(master, 1000)  # ackd listens
        os.close(master)
        assert ackd.wait(DEADLINE) == 1


def test_payloads_that_a_full_disk_does_not_take_are_refused_until_there_is_room(
    tmp_path: Path,
) -> None:
    records = tmp_path / "records"
    with records.open("wb") as file, on_terminal(tmp_path / "ackd.yaml", file.fileno()) as ackd:
        while b"\n" not in records.read_bytes():
            assert ackd.poll() is None
        refusal = b"not received: the standard output can't be reached\n"
        with Peer(int(records.read_text().rpartition(":")[2])) as peer:
            peer.expect(GREETING)
            peer.send(b"one\n")
            peer.expect(ACK)
            before = records.read_bytes()
            limit_files(ackd, len(before) + 60)
            peer.send(b"x" * 8000 + b"\n")
            peer.expect(refusal)
            assert records.read_bytes() == before
            limit_files(ackd, resource.RLIM_INFINITY)
            reply = b""
            while reply != ACK:
                peer.send(b"two\n")
                reply = peer.socket.recv(1000)
                assert reply in (refusal, ACK)
    lines = records.read_text().removeprefix(before.decode()).splitlines()
    assert "the standard output can't be reached" in lines[0]
    assert lines[0].endswith("payloads wait: File too large")
    assert any(line.endswith("#2: Buffer: two") for line in lines)


def limit_files(process: "subprocess.Popen[str]", size: int) -> None:
    """Let no file of the process become larger, as if the disk were full: prlimit(2)."""
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, hard))
