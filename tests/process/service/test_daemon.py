"""The daemon as its clients and its administrator see it: transcripts over real sockets."""

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
from tests.conftest import StartDaemon
from tests.support.daemon_process import COMMAND, Daemon
from tests.support.journal_socket import DEADLINE, Entry
from tests.support.peer import ACK, GREETING, Peer

# What a client sees


def payload_entry(ackd: Daemon, port: int, **fields: bytes) -> Entry:
    """Return what the first record of a connection's payloads has, but for the connection."""
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


def test_each_line_is_a_payload_also_an_empty_one_and_an_unterminated_rest(
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
        no = b"not received: longer than 10 bytes\n"
        peer.expect(ACK + no + ACK + no + ACK)
    assert ackd.journal.payloads(3) == [b"short", b"0123456789", b"last"]


def test_payloads_sent_in_one_go_are_all_recorded_in_order(start: StartDaemon) -> None:
    ackd = start()
    payloads = [b"payload %d" % number for number in range(20_000)]
    with ackd.peer() as peer:
        peer.send(b"\n".join(payloads) + b"\n")
        peer.expect(ACK * len(payloads))
    assert ackd.journal.payloads(len(payloads)) == payloads


def test_payloads_that_arrive_together_can_share_a_record(start: StartDaemon) -> None:
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


def test_all_of_many_payloads_that_share_records_are_recorded_in_order(start: StartDaemon) -> None:
    ackd = start("record: batch\n")
    payloads = [b"payload %d" % number for number in range(100_000)]
    with ackd.peer() as peer:
        peer.send(b"\n".join(payloads) + b"\n")
        peer.expect(ACK * len(payloads))
    assert ackd.journal.payloads(len(payloads)) == payloads


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


def test_ipv6_is_served_as_well(start: StartDaemon) -> None:
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
    said = subprocess.check_output(["php", "-r", _PHP, str(ackd.port)], timeout=DEADLINE)
    assert said == b"buffer data: " + GREETING + b"Response from server was: " + ACK
    assert ackd.journal.payloads(1) == [b"this data will send to server!"]


@pytest.mark.skipif(shutil.which("nc") is None, reason="needs nc: apt-get install netcat-openbsd")
def test_netcat_is_served(start: StartDaemon) -> None:
    ackd = start()
    command = ["nc", "-N", "127.0.0.1", str(ackd.port)]
    said = subprocess.check_output(command, input=b"one\ntwo\n", timeout=DEADLINE)
    assert said == GREETING + ACK * 2


# What is recorded beside the payloads


def test_a_connection_is_recorded_from_its_first_bytes_to_its_end(start: StartDaemon) -> None:
    ackd = start("max_payload: 5\n")
    with ackd.peer() as peer:
        peer.send(b"hello\ntoo long\n")
        peer.expect(ACK)
    connected, closed = ackd.journal.next(Kind.CONNECTED), ackd.journal.next(Kind.CLOSED)
    assert connected["MESSAGE"] == b"socket connected"
    assert closed["MESSAGE"].startswith(
        b"closed the socket: payloads: 1 acknowledged, 1 refused; 15 bytes, "
    )
    assert closed["ACKD_PAYLOADS"] == b"1"
    assert closed["ACKD_BYTES"] == b"15"
    assert float(closed["ACKD_SECONDS"]) >= 0
    assert connected["ACKD_CONNECTION"] == closed["ACKD_CONNECTION"]


def test_a_health_check_shows_at_debug_only(start: StartDaemon) -> None:
    quiet, talkative = start(), start("debug: true\n")
    for ackd in (quiet, talkative):
        with ackd.peer() as peer:
            peer.half_close()
            peer.expect_end()
    assert talkative.journal.next(Kind.CONNECTED)
    assert talkative.journal.next(Kind.ANSWERED)["MESSAGE"] == b"send data to client"
    assert talkative.journal.next(Kind.WROTE)["MESSAGE"] == b"wrote to socket: 8 bytes"
    assert talkative.journal.next(Kind.CLOSED)
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


def test_counters_are_told_on_request(start: StartDaemon) -> None:
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


# When the journal does not take records


def fill(ackd_peer: Peer, count: int) -> list[bytes]:
    """Send so many payloads at once."""
    payloads = [b"payload %d" % number for number in range(count)]
    ackd_peer.send(b"".join(payload + b"\n" for payload in payloads))
    return payloads


def test_acks_wait_for_a_full_journal_and_then_come_in_order(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as first, ackd.peer() as second:
        ackd.journal.hold()
        payloads = fill(first, 5_000)  # more than the longest queue of a datagram socket
        fill(second, 5_000)
        with ackd.peer() as third:  # greeted meanwhile
            third.send(b"me too\n")
            ackd.journal.go_on()
            third.expect(ACK)
        first.expect(ACK * 5_000)
        second.expect(ACK * 5_000)
    taken = ackd.journal.payloads(10_001)
    assert sorted(taken) == sorted([*payloads, *payloads, b"me too"])


def test_clients_that_only_come_and_go_leave_although_the_journal_is_full(
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


def test_nothing_is_acknowledged_that_the_journal_has_not_taken(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        ackd.journal.hold()
        fill(peer, 5_000)
        with ackd.peer():  # greeted after the journal was full: the loop has been round
            ackd.process.kill()
            ackd.wait()
        acks = peer.read_to_loss().count(b"\n")
    ackd.journal.go_on()
    recorded = ackd.journal.payloads(acks)
    assert recorded == [b"payload %d" % number for number in range(acks)]


def test_payloads_wait_for_a_journal_that_has_gone_and_are_recorded_when_it_is_back(
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
        no = b"not received: the journal can't be reached\n"
        peer.send(b"one\ntwo\n")
        peer.expect(no * 2)
        peer.send(b"three")
        peer.half_close()
        peer.expect(no)
        peer.expect_end()
    ackd.journal.open()
    with ackd.peer() as peer:
        peer.send(b"four\n")
        peer.expect(ACK)
    closed = ackd.journal.next(Kind.CLOSED)
    assert (closed["ACKD_PAYLOADS"], closed["ACKD_REFUSED"]) == (b"0", b"3")
    assert ackd.journal.payloads(1) == [b"four"]


def test_it_starts_before_the_journal(start: StartDaemon, tmp_path: Path) -> None:
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


# Peers that misbehave


def test_a_client_that_does_not_read_costs_only_itself(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as mute, ackd.peer() as honest:
        line = b"hello, are you there?\n"
        count = mute.send_until_stuck(line * 1000)  # its window is closed: nothing piles up
        honest.send(b"hello\n")
        honest.expect(ACK)
        mute.half_close()
        received = b"".join(iter(lambda: mute.socket.recv(65536), b""))
    assert received == ACK * -(-count // len(b"hello, are you there?\n"))


def test_a_reset_costs_only_the_connection(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as honest:
        for data in (b"", b"half a line", b"a line\n", b"a line\n" * 10_000):
            hostile = ackd.peer()
            hostile.send(data)
            hostile.reset()
        honest.send(b"hello\n")
        honest.expect(ACK)
    assert ackd.journal.wait_for(
        lambda entry: entry.get("ACKD_REASON") == b"lost: Connection reset by peer"
    )


def test_clients_that_have_gone_before_they_are_greeted_leave_nothing_behind(
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


def test_a_silent_client_is_sent_away(start: StartDaemon) -> None:
    ackd = start("idle_timeout: 0.2\n")
    with ackd.peer() as peer:
        peer.send(b"hello\nhalf a line")
        peer.expect(ACK)
        peer.expect_end()
    closed = ackd.journal.next(Kind.CLOSED)
    assert closed["ACKD_REASON"] == b"silent for too long"
    assert closed["ACKD_PAYLOADS"] == b"1"


def test_a_client_whose_host_vanishes_is_noticed(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer():
        filter_ = f"sport = :{ackd.port}"
        sockets = subprocess.check_output(["ss", "-tnoH", filter_], text=True)
    assert "timer:(keepalive," in sockets


# Limits


def test_one_client_too_many_is_told_so(start: StartDaemon) -> None:
    ackd = start("max_connections: 2\n")
    with ackd.peer(), ExitStack() as stay:
        second = stay.enter_context(ackd.peer())
        with Peer(ackd.port) as third:
            third.send(b"x" * 100_000)  # unread input must not reset the refusal away
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
    told_again = Kind.LIMIT_REACHED.value.encode()
    assert all(entry["MESSAGE_ID"] != told_again for entry in ackd.journal.waiting())


def test_one_address_can_be_limited(start: StartDaemon) -> None:
    ackd = start("bind: 0.0.0.0\nmax_connections_per_client: 1\n")
    with ackd.peer():
        with Peer(ackd.port) as second:
            second.expect(b"not connect: too many connections from 127.0.0.1, the limit is 1\n")
        told = ackd.journal.next(Kind.REJECTED)
        with Peer(ackd.port, "127.0.0.2", "127.0.0.2") as other:
            other.expect(GREETING)
    assert told["PRIORITY"] == b"4"
    assert told["ACKD_PEER"] == b"127.0.0.1"
    assert told["MESSAGE"] == (b"turned away: too many connections from 127.0.0.1, the limit is 1")


@contextmanager
def many_descriptors() -> Iterator[None]:
    """Let this process have thousands of connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_one_client_leaves_room_for_others_by_default(start: StartDaemon) -> None:
    ackd = start("bind: 0.0.0.0\n")
    with many_descriptors(), ExitStack() as stay:
        for _ in range(1024):
            stay.enter_context(ackd.peer())
        with Peer(ackd.port) as beyond:
            no = b"not connect: too many connections from 127.0.0.1, the limit is 1024\n"
            beyond.expect(no)
        with Peer(ackd.port, "127.0.0.2", "127.0.0.2") as other:
            other.expect(GREETING)


def test_only_those_who_are_allowed_are_let_in(start: StartDaemon) -> None:
    ackd = start("bind: 0.0.0.0\nallow: [192.0.2.0/24, 127.0.0.2]\n")
    with Peer(ackd.port) as stranger:
        stranger.send(b"x" * 100_000)  # unread input must not reset the refusal away
        stranger.expect(b"not connect: 127.0.0.1 is not allowed here\n")
        stranger.expect_end()
    told = ackd.journal.next(Kind.REJECTED)
    assert told["MESSAGE"] == b"turned away: 127.0.0.1 is not allowed here"
    assert told["ACKD_PEER"] == b"127.0.0.1"
    with Peer(ackd.port, "127.0.0.2", "127.0.0.2") as peer:
        peer.expect(GREETING)


def test_a_reload_of_allow_is_for_those_who_come_then(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as inside:
        ackd.configure("allow: 192.0.2.0/24\n")
        assert ackd_says("--reload", str(ackd.process.pid)) == (0, "", "")
        with Peer(ackd.port) as stranger:
            stranger.expect(b"not connect: 127.0.0.1 is not allowed here\n")
        inside.send(b"hello\n")
        inside.expect(ACK)


def test_those_who_are_turned_away_can_not_fill_the_journal(start: StartDaemon) -> None:
    ackd = start("allow: 192.0.2.0/24\n")
    for _ in range(50):
        with Peer(ackd.port) as stranger:
            stranger.expect(b"not connect: 127.0.0.1 is not allowed here\n")
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


def come_and_go(ackd: Daemon, count: int) -> None:
    """Send one payload over each of so many connections."""
    for _ in range(count):
        with ackd.peer() as peer:
            peer.send(b"hello\n")
            peer.expect(ACK)
            peer.half_close()
            peer.expect_end()


def test_comings_and_goings_beyond_a_hundred_a_minute_are_counted_only(start: StartDaemon) -> None:
    ackd = start()
    come_and_go(ackd, 150)
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


def test_whoever_asks_for_every_step_gets_every_step(start: StartDaemon) -> None:
    ackd = start("debug: true\n")
    come_and_go(ackd, 150)
    for kind in (Kind.CONNECTED, Kind.CLOSED):
        for _ in range(150):
            ackd.journal.next(kind)
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
    ackd.journal.next(Kind.STOPPED)
    assert all(e["MESSAGE_ID"] != Kind.LIMITED.value.encode() for e in ackd.journal.waiting())


_QUICK = """
import sys
from ackd.service import main as daemon
from ackd.server import quota
quota.MINUTE = 1
sys.exit(daemon.main())
"""


def test_what_was_left_out_is_told_when_the_minute_is_over(start: StartDaemon) -> None:
    ackd = start("allow: 192.0.2.0/24\n", command=(sys.executable, "-c", _QUICK))
    for _ in range(20):
        with Peer(ackd.port) as stranger:
            stranger.expect(b"not connect: 127.0.0.1 is not allowed here\n")
    assert ackd.journal.next(Kind.LIMITED)  # and nobody has come any more


def test_five_thousand_clients_are_served(start: StartDaemon) -> None:
    ackd = start("max_connections: 5000\nmax_connections_per_client: null\n")
    with many_descriptors(), ExitStack() as stay:
        peers = [stay.enter_context(ackd.peer()) for _ in range(5_000)]
        for number, peer in enumerate(peers):
            peer.send(b"payload %d\n" % number)
        for peer in peers:
            peer.expect(ACK)
    assert sorted(ackd.journal.payloads(5_000)) == sorted(b"payload %d" % n for n in range(5_000))


def test_without_descriptors_clients_wait_until_others_leave(start: StartDaemon) -> None:
    ackd = start(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)))
    assert b"only 40 are allowed" in ackd.journal.next(Kind.LOG)["MESSAGE"]
    with ExitStack() as stay:
        inside: list[Peer] = []
        outside = [stay.enter_context(Peer(ackd.port)) for _ in range(60)]
        assert b"they wait" in ackd.journal.next(Kind.NO_DESCRIPTORS)["MESSAGE"]
        while outside:
            inside += [peer for peer in outside if peer.readable()]
            outside = [peer for peer in outside if peer not in inside]
            for peer in inside:
                peer.expect(GREETING)
                peer.send(b"hello\n")
                peer.expect(ACK)
                peer.socket.close()
            inside.clear()
            if outside:
                outside[0].socket.recv(1, 2)  # MSG_PEEK: wait until the next one is greeted
    told = [
        e for e in ackd.journal.waiting() if e["MESSAGE_ID"] == Kind.NO_DESCRIPTORS.value.encode()
    ]
    assert not told


def test_without_descriptors_the_service_manager_is_told_all_the_same(start: StartDaemon) -> None:
    """sd_notify(3) needs one for each message."""
    ackd = start(prepare=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40)), managed=True)
    with ExitStack() as stay:
        for _ in range(60):
            stay.enter_context(Peer(ackd.port))
        assert ackd.manager.wait_for("STATUS=out of descriptors")
        assert ackd.manager.wait_for("WATCHDOG=1")
    assert ackd.manager.wait_for("STATUS=clients: 0")


# Signals


def test_a_stop_finishes_what_was_received_and_ends_well(start: StartDaemon) -> None:
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
        while acknowledged != before:  # until the kernel keeps no further acks for it
            ackd.signal(signal.SIGUSR1)
            entry = ackd.journal.next(Kind.COUNTERS)
            before, acknowledged = acknowledged, entry["ACKD_ACKNOWLEDGED"]
        ackd.signal(signal.SIGTERM)
        idle.expect_end()  # a silent one has been heard to the end by now
        slow.expect((ack + b"\n") * 2000)
        slow.expect_end()
    assert ackd.wait() == 0


@pytest.mark.parametrize("hold", [False, True])
def test_a_stop_ends_whatever_clients_and_the_journal_do(start: StartDaemon, hold: bool) -> None:
    ackd = start()
    with ackd.peer() as mute, ackd.peer():
        if hold:
            ackd.journal.hold()
        mute.send_until_stuck(b"hello\n" * 10_000)
        ackd.signal(signal.SIGTERM)
        assert ackd.wait() == 0


def test_a_client_that_does_not_read_is_not_called_silent_in_a_stop(start: StartDaemon) -> None:
    ackd = start(f"ack: {'ok' * 2000}\n")
    with ackd.peer() as mute:
        mute.send_until_stuck(b"hello\n" * 10_000)
        ackd.signal(signal.SIGTERM)
        assert ackd.wait() == 0
    assert ackd.journal.next(Kind.CLOSED)["ACKD_REASON"] == b"ackd stopped"


def test_a_second_interrupt_ends_it_at_once(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        ackd.journal.hold()
        fill(peer, 20_000)
        ackd.signal(signal.SIGINT)
        ackd.await_closed()
        ackd.signal(signal.SIGINT)
        with pytest.raises(ConnectionResetError):  # after a single one it would be closed well
            list(iter(lambda: peer.socket.recv(65536), b""))
        assert ackd.wait() == 0


def test_a_reload_takes_the_new_settings_and_keeps_everybody(start: StartDaemon) -> None:
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


def test_a_reload_changes_the_form_of_records_at_once(start: StartDaemon) -> None:
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


def test_payloads_that_wait_are_acknowledged_when_they_need_no_record_any_more(
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


def test_a_reload_moves_to_another_address_and_keeps_everybody(start: StartDaemon) -> None:
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
def test_a_reload_can_go_from_one_address_to_all_and_back(
    start: StartDaemon, before: str, after: str
) -> None:
    free = start()
    port = free.port
    free.signal(signal.SIGTERM)
    free.wait()
    ackd = start(f"bind: {before}\nport: {port}\n")
    with ackd.peer() as old:
        ackd.configure(f"bind: {after}\nport: {port}\n")
        assert ackd_says("--reload", str(ackd.process.pid)) == (0, "", "")
        with ackd.peer() as new:
            new.send(b"hello\n")
            new.expect(ACK)
        assert ackd.journal.next(Kind.PAYLOAD)["ACKD_LISTENER"] == f"{after}:{port}".encode()
        old.send(b"hello\n")
        old.expect(ACK)
    status, _, error = ackd_says("--bind", "127.0.0.1", "--port", str(port))
    assert (status, "Address already in use" in error) == (1, True)


def test_a_bad_reload_changes_nothing_and_says_why(start: StartDaemon) -> None:
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


def test_the_service_manager_is_told_without_a_watchdog_or_a_client(start: StartDaemon) -> None:
    assert start(managed=True, watchdog=False).manager.wait_for("READY=1")


def test_the_manager_is_told_when_clients_are_served_and_how_things_stand(
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


def test_a_reload_can_be_waited_for(start: StartDaemon) -> None:
    ackd = start()
    pid = str(ackd.process.pid)
    ackd.configure("greeting: Welcome\n")
    assert ackd_says("--reload", pid) == (0, "", "")
    with Peer(ackd.port) as peer:
        peer.expect(b"Welcome\n")
    ackd.configure("prot: 1\n")
    status, _, error = ackd_says("--reload", pid)
    assert status == 1
    assert "prot: there is no such key; did you mean port?" in error


def test_who_asks_for_a_reload_and_goes_costs_nobody_else(start: StartDaemon) -> None:
    ackd = start()
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as control:
            control.connect(f"\0ackd/{ackd.process.pid}")
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_a_reload_of_a_process_that_is_no_ackd_says_so() -> None:
    status, _, error = ackd_says("--reload", "1")
    assert (status, error) == (1, "ackd: process 1 can't be asked: Connection refused\n")


# The command line


def ackd_says(*arguments: str) -> tuple[int, str, str]:
    """Run ackd to its end; return exit status, output and error."""
    done = subprocess.run([*COMMAND, *arguments], capture_output=True, text=True, timeout=DEADLINE)
    return done.returncode, done.stdout, done.stderr


def test_a_good_configuration_is_called_good(tmp_path: Path) -> None:
    file = tmp_path / "ackd.yaml"
    file.write_text("port: 10008\n")
    assert ackd_says("--check-config", "--config", str(file)) == (0, f"ackd: {file}: good\n", "")


@pytest.mark.parametrize("options", [("--check-config",), ()])
def test_all_errors_of_a_configuration_are_told_before_anything_is_bound(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    file = tmp_path / "ackd.yaml"
    file.write_text("\n\n\n\n\n\nport: 70000\ngreting: hi\n")
    assert ackd_says(*options, "--config", str(file)) == (
        2,
        "",
        f"ackd: {file}:7:7: port: 70000 is not between 0 and 65535\n"
        f"ackd: {file}:8:1: greting: there is no such key; did you mean greeting?\n",
    )


def test_a_configuration_that_was_asked_for_must_be_there() -> None:
    status, _, error = ackd_says("--config", "/nowhere/ackd.yaml")
    assert (status, error) == (2, "ackd: /nowhere/ackd.yaml: No such file or directory\n")


@pytest.mark.parametrize(
    ("option", "value", "reason"),
    [
        ("--port", "70000", "70000 is not between 0 and 65535"),
        ("--port", "http", "invalid port value: 'http'"),
        ("--bind", "localhost", "'localhost' is not an IPv4 or IPv6 address"),
        ("--pidfile", "/tmp/ackd.pid", "--pidfile is for --detach only"),
        ("--detach", "--terminal", "it can't go with --terminal"),
    ],
)
def test_wrong_options_are_usage_errors(option: str, value: str, reason: str) -> None:
    status, _, error = ackd_says(option, value)
    assert status == 2
    assert reason in error


def test_an_address_in_use_is_told_with_what_to_do(start: StartDaemon) -> None:
    taken = start()
    status, _, error = ackd_says("--bind", "127.0.0.1", "--port", str(taken.port))
    assert status == 1
    assert error == (
        f"ackd: can't listen on 127.0.0.1:{taken.port}: Address already in use;"
        " another program listens there: `ss -ltnp` shows which\n"
    )


def test_options_override_the_file(start: StartDaemon) -> None:
    ackd = start("bind: 127.0.0.1\nport: 1\n", options=("--bind", "127.0.0.2", "--port", "0"))
    with Peer(ackd.port, "127.0.0.2") as peer:
        peer.expect(GREETING)


def test_closed_standard_streams_are_not_taken_by_sockets(start: StartDaemon) -> None:
    ackd = start(prepare=lambda: os.closerange(0, 3))
    opened = [os.readlink(f"/proc/{ackd.process.pid}/fd/{number}") for number in range(3)]
    assert opened == ["/dev/null"] * 3


def test_a_very_long_log_line_does_not_stop_the_recording(start: StartDaemon) -> None:
    ackd = start()
    ackd.config.write_text("x" * 9_000_000 + ": 1\n")
    ackd.signal(signal.SIGHUP)
    assert len(ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"]) <= 8192
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_without_a_journal_records_are_readable_on_the_terminal(tmp_path: Path) -> None:
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
