"""`ackctl ping` as its users see it: against a real ackd, and servers that fail in every way."""

import json
import re
import signal
import socket
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from ackd.ctl.runs.payloads import ReceivedPayload, Run, parse
from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, Ended, ackctl
from tests.support.ackctl_terminal import Terminal
from tests.support.fake_server import FakeServer, acknowledge_run
from tests.support.peer import ACK, GREETING, Peer

RUN = Run("link-7")
NAMED = ("--name", RUN.name)
SOON = "0.2"  # seconds, for a first wait that is meant to be in vain
LATER = "0.5"  # for one after a greeting, which must come in time


def ping(port: int, *arguments: str, before: tuple[str, ...] = ()) -> Ended:
    """Run `ackctl ping` to its end."""
    return ackctl("ping", "--port", str(port), *NAMED, *arguments, before=before)


def pinging(port: int, *arguments: str) -> Ackctl:
    """Start `ackctl ping` while the test plays the server."""
    return Ackctl("ping", "--port", str(port), *NAMED, *arguments)


def steady(text: str) -> list[str]:
    """Return lines, with what differs from run to run replaced: times, and what is made of them."""
    text = re.sub(r"(?m)^ *[\d,.]+ to .*\n", "", text)  # the histogram
    text = re.sub(r" --since @\d+`", " --since @THEN`", text)
    text = re.sub(r"\b\d\d:\d\d:\d\d\.\d{3}\b", "TIME", text)
    text = re.sub(r" +[\d,]+\.\d{3} ms\b", " TOOK", text)
    text = re.sub(r", \d+\.\d{3} s\b", ", SO LONG", text)
    return text.splitlines()


def objects(out: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Return the objects of the payloads, and the last one."""
    *payloads, summary = map(json.loads, out.splitlines())
    return payloads, summary


def verdicts(payloads: list[dict[str, Any]]) -> list[tuple[int, str]]:
    return [(payload["number"], payload["verdict"]) for payload in payloads]


def line(number: int) -> bytes:
    return RUN.payload(number) + b"\n"


def end(count: int) -> bytes:
    return RUN.end(count) + b"\n"


FIGURES = ["min TOOK", "mean TOOK", "p50 TOOK", "max TOOK"]  # of a few acks
VERIFY = (
    "on the server, `ackctl verify link-7 --since @THEN` reports whether all is stored",
    "(without --since, earlier runs with this name count as well)",
)
NOT_ENDED = "(the last payload, which has the number of payloads, will be missing)"


def closed_port() -> int:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port: int = closed.getsockname()[1]
        return port


# A real ackd


def test_each_payload_has_a_line_and_the_summary_has_figures(start: StartDaemon) -> None:
    ackd = start()
    status, out, complaint = ping(ackd.port, "--count", "3", "--interval", "0.01")
    assert steady(out) == [
        f"run link-7: 127.0.0.1 port {ackd.port}, a payload every 0.01 s",
        "TIME     #1 TOOK",
        "TIME     #2 TOOK",
        "TIME     #3 TOOK",
        "",
        "3 sent, 3 acknowledged, 0 refused, 0 unknown, 0 not sent",
        "",
        *FIGURES,
        "",
        "",
        *VERIFY,
    ]
    assert (status, complaint) == (0, "")
    assert ackd.journal.payloads(4) == [*(RUN.payload(n) for n in (1, 2, 3)), RUN.end(3)]


def test_the_hint_names_a_time_before_the_run_and_not_long_before(start: StartDaemon) -> None:
    ackd = start()
    before = time.time()
    _, out, _ = ping(ackd.port, "--count", "1")
    (since,) = re.findall(r"`ackctl verify link-7 --since @(\d+)`", out)
    assert before - 7200 < int(since) < before - 1800  # clocks differ


def test_a_run_has_another_name_each_time(start: StartDaemon) -> None:
    ackd = start()
    once = (*("ping", "--port", str(ackd.port), "--count", "1"), "--json")
    names = {json.loads(ackctl(*once)[1].splitlines()[-1])["run"] for _ in range(2)}
    assert len(names) == 2
    parts = map(parse, ackd.journal.payloads(4))
    assert {part.run for part in parts if part} == names


def test_json_is_an_object_a_payload_then_one_for_all(start: StartDaemon) -> None:
    ackd = start()
    status, out, complaint = ping(ackd.port, "--count", "2", "--interval", "0.01", "--json")
    payloads, summary = objects(out)
    for payload in payloads:
        assert payload.pop("seconds") > 0
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d", payload["time"])
        del payload["time"]
    answer = {"verdict": "acknowledged", "reply": ACK.decode().strip(), "server": "127.0.0.1"}
    assert payloads == [
        {"number": 1, "connection": 1, **answer, "bytes": len(RUN.payload(1))},
        {"number": 2, "connection": 1, **answer, "bytes": len(RUN.payload(2))},
    ]
    latency = summary.pop("latency")
    assert list(latency) == ["min", "mean", "p50", "p95", "p99", "p99.9", "max"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["max"]
    assert summary == {
        "run": "link-7",
        "host": "127.0.0.1",
        "port": ackd.port,
        "sent": 2,
        "acknowledged": 2,
        "refused": 0,
        "unknown": 0,
        "not_sent": 0,
        "reconnects": 0,
        "end_acknowledged": True,
        "outages": [],
        "status": 0,
        "problem": None,
    }
    assert (status, complaint) == (0, "")


def test_each_of_several_connections_has_its_payloads(start: StartDaemon) -> None:
    ackd = start()
    arguments = ("--count", "5", "--interval", "0.001", "--parallel", "10")
    status, out, complaint = ping(ackd.port, *arguments)
    lines = steady(out)
    assert lines[0].endswith(", a payload every 0.001 s on each of 10 connections")
    for connection in range(1, 11):
        assert sum(text.startswith(f"TIME [{connection:2}] ") for text in lines) == 5
    assert "50 sent, 50 acknowledged, 0 refused, 0 unknown, 0 not sent" in lines
    assert (status, complaint) == (0, "")
    parts = [parse(payload) for payload in ackd.journal.payloads(51)]
    assert sorted(part.number for part in parts[:-1] if part) == list(range(1, 51))
    assert parts[-1] == ReceivedPayload("link-7", 50, end=True)


def acknowledge_all(caller: Peer) -> None:
    with caller:
        for _ in caller.socket.makefile("rb"):
            caller.send(ACK)


def test_several_connections_take_turns_from_the_first_payload_on() -> None:
    arguments = ("--parallel", "3", "--count", "2", "--json")
    with FakeServer() as server, pinging(server.port, *arguments) as ackctl:
        callers = [server.accept() for _ in range(3)]
        for caller in reversed(callers):
            caller.send(GREETING)
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(acknowledge_all, callers))
        _, out, _ = ackctl.ended()
    payloads, _ = objects(out)
    turns = sorted((payload["number"], payload["connection"]) for payload in payloads)
    assert turns == [(1, 1), (2, 2), (3, 3), (4, 1), (5, 2), (6, 3)]


def test_a_refusal_is_printed_and_the_end_is_not_expected(start: StartDaemon) -> None:
    ackd = start("max_payload: 50")
    status, out, complaint = ping(ackd.port, "--size", "51", "--count", "1")
    assert steady(out)[1:] == [
        "TIME     #1 TOOK  refused: not received: longer than 50 bytes",
        "",
        "1 sent, 0 acknowledged, 1 refused, 0 unknown, 0 not sent",
        "no ack from TIME to the end, SO LONG",
        "",
        *VERIFY,
    ]
    refused = "ackctl: refused: not received: longer than 50 bytes (1 sent, 1 refused)\n"
    assert (status, complaint) == (1, refused)


def test_payloads_have_the_size_of_the_option(start: StartDaemon) -> None:
    ackd = start()
    assert ping(ackd.port, "--size", "1400", "--count", "1")[0] == 0
    payload, _ = ackd.journal.payloads(2)
    assert len(payload) == 1400
    assert parse(payload) == ReceivedPayload("link-7", 1)


def test_with_no_greeting_ping_does_not_wait_for_one(start: StartDaemon) -> None:
    ackd = start('greeting: ""')
    status, out, complaint = ping(ackd.port, "--no-greeting", "--count", "2", "--interval", "0.01")
    assert "2 sent, 2 acknowledged, 0 refused, 0 unknown, 0 not sent" in steady(out)
    assert (status, complaint) == (0, "")


def test_ping_connects_from_the_given_source(start: StartDaemon) -> None:
    ackd = start()
    assert ping(ackd.port, "--source", "127.0.0.2", "--count", "1")[0] == 0
    assert ackd.journal.next(Kind.PAYLOAD)["ACKD_PEER"] == b"127.0.0.2"


def test_a_full_server_rejects_the_client(start: StartDaemon) -> None:
    ackd = start("max_connections: 1")
    with ackd.peer():
        status, out, complaint = ping(ackd.port, "--count", "1")
    assert steady(out)[1:] == [
        "TIME turned away: not connect: too many connections, the limit is 1",
        "",
        "0 sent, 0 acknowledged, 0 refused, 0 unknown, 1 not sent",
        "no ack from TIME to the end, SO LONG",
    ]
    why = "turned away: not connect: too many connections, the limit is 1"
    assert (status, complaint) == (1, f"ackctl: {why} (1 not sent)\n")


# Servers that are not as they should be


def test_nothing_listens_on_the_port() -> None:
    port = closed_port()
    status, out, complaint = ping(port, "--count", "1")
    why = (
        f"not reached: 127.0.0.1 port {port}: connection refused: nothing"
        " listens on that port, or a firewall refuses"
    )
    assert steady(out) == [
        f"run link-7: 127.0.0.1 port {port}, a payload every 1 s",
        f"TIME {why}",
        "",
        "0 sent, 0 acknowledged, 0 refused, 0 unknown, 1 not sent",
        "no ack from TIME to the end, SO LONG",
    ]
    assert (status, complaint) == (3, f"ackctl: {why} (1 not sent)\n")


def test_the_summary_at_100_percent_loss_in_json() -> None:
    status, out, complaint = ping(closed_port(), "--count", "3", "--interval", "0.01", "--json")
    payloads, summary = objects(out)
    assert payloads == []
    assert [outage["until"] for outage in summary["outages"]] == [None]
    assert (summary["not_sent"], summary["latency"], summary["status"], status) == (3, {}, 3, 3)
    assert "not reached: 127.0.0.1 port" in complaint


def test_the_server_never_greets() -> None:
    with FakeServer() as server:
        status, out, complaint = ping(server.port, "--timeout", SOON, "--count", "1")
    assert steady(out)[1:4] == [
        "TIME connected, but not greeted: no answer within 0.2 s",
        "",
        "0 sent, 0 acknowledged, 0 refused, 0 unknown, 1 not sent",
    ]
    why = "connected, but not greeted: no answer within 0.2 s"
    assert (status, complaint) == (4, f"ackctl: {why} (1 not sent)\n")


def test_the_server_greets_and_never_acknowledges() -> None:
    with (
        FakeServer() as server,
        pinging(server.port, "--timeout", LATER, "--count", "1") as ackctl,
    ):
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1))
            caller.expect_end()
        status, out, complaint = ackctl.ended()
    assert steady(out)[1:] == [
        "TIME     #1  unknown: no answer within 0.5 s",
        "TIME connection lost: no answer within 0.5 s",
        "",
        "1 sent, 0 acknowledged, 0 refused, 1 unknown, 0 not sent",
        "no ack from TIME to the end, SO LONG",
        "",
        *VERIFY,
        NOT_ENDED,
    ]
    why = "connection lost: no answer within 0.5 s"
    assert (status, complaint) == (5, f"ackctl: {why} (1 sent, 1 unknown)\n")


def next_number(caller: Peer) -> int:
    """Return the number of the next payload that comes."""
    received = b""
    while not received.endswith(b"\n"):
        received += caller.socket.recv(1)
    part = parse(received[:-1])
    assert part
    return part.number


def acknowledge(caller: Peer, ackctl: Ackctl, number: int) -> None:
    """Acknowledge a payload, and check that ping prints it."""
    caller.expect(line(number))
    caller.send(ACK)
    assert verdicts([json.loads(ackctl.read_line())]) == [(number, "acknowledged")]


def test_after_a_reset_ping_connects_again_and_reports_the_outage() -> None:
    with (
        FakeServer() as server,
        pinging(server.port, "--interval", "0.01", "--json") as ackctl,
    ):
        caller = server.accept()
        caller.send(GREETING)
        for n in (1, 2, 3):
            acknowledge(caller, ackctl, n)
        caller.expect(line(4))
        caller.reset()
        with server.accept() as again:
            again.send(GREETING)
            first = next_number(again)  # the 5th, or a later one if some were on the way to nobody
            again.send(ACK)
            lost = first - 4
            heard = [json.loads(ackctl.read_line()) for _ in range(lost + 1)]
            assert verdicts(heard) == [
                *((n, "unknown") for n in range(4, first)),
                (first, "acknowledged"),
            ]
            ackctl.signal(signal.SIGINT)
            count = acknowledge_run(again)
            status, out, complaint = ackctl.ended()
    _, summary = objects(out)
    assert (summary["sent"], summary["unknown"]) == (count, lost)
    assert summary["acknowledged"] == count - lost
    assert summary["reconnects"] == 1
    (outage,) = summary["outages"]
    assert outage["until"] > outage["since"]
    assert summary["end_acknowledged"]
    assert (summary["status"], status) == (5, 5)
    assert steady(complaint)[:2] == [
        "ackctl: TIME connection lost: the other side reset the connection",
        "ackctl: TIME connected",
    ]


def test_ping_connects_again_to_a_server_that_was_gone() -> None:
    with FakeServer() as server, pinging(server.port, "--interval", "0.01") as ackctl:
        ackctl.read_line()
        server.accept().socket.close()
        assert steady(ackctl.read_line()) == [
            "TIME connected, but not greeted: the server closed the connection"
        ]
        with server.accept() as caller:
            caller.send(GREETING)
            assert steady(ackctl.read_line()) == ["TIME connected"]
            caller.expect(line(1))
            caller.send(ACK)
            assert steady(ackctl.read_line()) == ["TIME     #1 TOOK"]
            ackctl.signal(signal.SIGINT)
            acknowledge_run(caller)
            status, out, _ = ackctl.ended()
    assert status == 4  # payloads were due before that
    assert re.search(r"0 unknown, [1-9]\d* not sent$", out, re.M)
    assert "no ack from TIME to TIME, SO LONG" in steady(out)


def test_late_answers_belong_to_their_payloads() -> None:
    with FakeServer() as server, pinging(server.port, "--interval", "0.01") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1) + line(2) + line(3))
            caller.send(ACK + b"not received: no\n")
            heard = steady("".join(ackctl.read_line() for _ in range(3)))
            assert heard[1:] == ["TIME     #1 TOOK", "TIME     #2 TOOK  refused: not received: no"]
            caller.send(ACK)
            assert steady(ackctl.read_line()) == ["TIME     #3 TOOK"]
            ackctl.signal(signal.SIGINT)
            acknowledge_run(caller)
        status, out, _ = ackctl.ended()
    assert status == 1
    assert "no ack from TIME to TIME, SO LONG" in steady(out)


def test_a_rejection_instead_of_the_first_ack_is_reported() -> None:
    arguments = ("--no-greeting", "--count", "1")
    with FakeServer() as server, pinging(server.port, *arguments) as ackctl:
        with server.accept() as silent:
            silent.expect_end()
        with server.accept() as caller:
            caller.expect(line(1))
            caller.send(b"not connect: go away\n")
            caller.expect_end()
        status, out, _ = ackctl.ended()
    assert steady(out)[1:5] == [
        "TIME     #1 TOOK  refused: not connect: go away",
        "TIME turned away: not connect: go away",
        "",
        "1 sent, 0 acknowledged, 1 refused, 0 unknown, 0 not sent",
    ]
    assert status == 1


def test_a_greeting_is_never_taken_for_an_ack() -> None:
    with FakeServer() as server, pinging(server.port, "--no-greeting", "--count", "1") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect_end()
        status, out, _ = ackctl.ended()
    assert steady(out)[1:4] == [
        "TIME connection given up: no greeting was expected, and it says Connect",
        "",
        "0 sent, 0 acknowledged, 0 refused, 0 unknown, 1 not sent",
    ]
    assert status == 4


def test_a_connection_that_is_being_opened_does_not_delay_others() -> None:
    arguments = ("--parallel", "2", "--interval", "0.01", "--json")
    with (
        FakeServer() as server,
        pinging(server.port, *arguments) as ackctl,
        server.accept() as first,
        server.accept() as second,
    ):
        first.send(GREETING)
        for number in range(1, 6):
            acknowledge(first, ackctl, number)
        second.send(GREETING)
        second.expect(b"ackctl run=link-7 number=")


def test_connections_that_are_being_opened_need_no_threads() -> None:
    with (
        FakeServer() as server,
        pinging(server.port, "--parallel", "2") as ackctl,
        server.accept() as first,
        server.accept() as second,
    ):
        assert ackctl.threads == 1
        first.send(GREETING)
        second.send(GREETING)
        first.expect(b"ackctl run=link-7 number=")
        assert ackctl.threads == 1


def test_replies_of_the_server_are_escaped() -> None:
    with FakeServer() as server, pinging(server.port, "--count", "1") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1))
            caller.send(b"not received: \x1b[2J\xff\n")
            caller.expect(end(1))
            caller.send(ACK)
            caller.expect_end()
        _, out, _ = ackctl.ended()
    assert "refused: not received: \\x1b[2J\\xff\n" in out


# What lasts, and what happens again


def test_a_stall_is_reported_while_it_lasts_and_is_an_outage() -> None:
    arguments = ("--interval", "60", "--count", "1")
    with FakeServer() as server, pinging(server.port, *arguments) as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1))
            assert steady(ackctl.read_line())[0].startswith("run link-7: ")
            assert re.fullmatch(r"\S+     #1  no ack for 2\.\d s\n", ackctl.read_line())
            assert re.fullmatch(r"\S+     #1  no ack for 4\.\d s\n", ackctl.read_line())
            caller.send(ACK)
            acknowledge_run(caller)
        status, out, _ = ackctl.ended()
    assert steady(out)[:4] == [
        "TIME     #1 TOOK",
        "",
        "1 sent, 1 acknowledged, 0 refused, 0 unknown, 0 not sent",
        "no ack from TIME to TIME, SO LONG",
    ]
    assert status == 0


def test_a_failure_that_repeats_is_printed_once_and_counted() -> None:
    with FakeServer() as server, pinging(server.port, "--interval", "0.2") as ackctl:
        ackctl.read_line()
        for _ in range(4):
            server.accept().socket.close()
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1))
            caller.send(ACK)
            shown = "".join(ackctl.read_line() for _ in range(4))
            ackctl.signal(signal.SIGINT)
            acknowledge_run(caller)
        ackctl.ended()
    assert steady(shown) == [
        "TIME connected, but not greeted: the server closed the connection",
        "TIME connected",
        "TIME 3 times more: connected, but not greeted: the server closed the connection",
        "TIME     #1 TOOK",
    ]


def test_what_takes_turns_is_counted_as_well() -> None:
    with FakeServer() as server, pinging(server.port, "--interval", "60", "--json") as ackctl:
        for _ in range(3):
            with server.accept() as caller:
                caller.send(GREETING)
        with server.accept() as caller:
            ackctl.signal(signal.SIGINT)
            status, _, complaint = ackctl.ended()
    lost = "connection lost: the server closed the connection"
    said = steady(complaint)
    assert said[:2] == [f"ackctl: TIME {lost}", "ackctl: TIME connected"]
    assert [text for text in said if "more: " in text] == [
        f"ackctl: TIME 2 times more: {lost}",
        "ackctl: TIME 1 time more: connected",
    ]
    assert status in (3, 5)


def test_a_dead_server_costs_a_line_not_one_for_each_try() -> None:
    arguments = ("--count", "40", "--interval", "0.05")
    _, out, _ = ping(closed_port(), *arguments)
    assert len(re.findall(r"\S+ not reached: ", out)) == 2
    assert re.search(r"\S+ \d times more: not reached: ", out)


def test_a_line_with_the_date_comes_when_the_day_changes(start: StartDaemon) -> None:
    ackd = start()
    now = datetime.now(UTC)
    midnight = (now.replace(hour=0, minute=0, second=0) + timedelta(days=1)) - now
    seconds = int(midnight.total_seconds()) - 3  # west of Greenwich is positive, POSIX.1 TZ
    east = f"{seconds // 3600}:{seconds // 60 % 60}:{seconds % 60}"
    zone = ("env", f"TZ=XYZ-{east}")
    arguments = ("ping", "--port", str(ackd.port), "--interval", "0.1")
    lines = [""]
    with Ackctl(*arguments, before=zone) as ackctl:
        while not re.fullmatch(r"\d{4}-\d\d-\d\d\n", lines[-1]):
            lines.append(ackctl.read_line())
        assert lines[-2].startswith("23:59:5")
        assert ackctl.read_line().startswith("00:00:0")


def test_ping_ends_after_its_duration(start: StartDaemon) -> None:
    ackd = start()
    status, out, complaint = ping(ackd.port, "--duration", "0.25", "--interval", "0.1")
    assert (status, complaint) == (0, "")
    counts = re.search(r"([123]) sent, \1 acknowledged, 0 refused, 0 unknown, 0 not sent", out)
    assert counts  # fewer than three on a host that is too busy
    sent = int(counts[1])
    assert ackd.journal.payloads(sent + 1)[-1] == RUN.end(sent)


def test_a_duration_in_which_nothing_was_reached_is_a_failure() -> None:
    with FakeServer(backlog=0) as server, Peer(server.port):
        status, out, complaint = ping(server.port, "--duration", "0.3", "--timeout", "60")
    assert "0 sent, 0 acknowledged, 0 refused, 0 unknown, 1 not sent" in steady(out)
    assert (status, complaint) == (3, "ackctl: not reached: no answer so far (1 not sent)\n")


def test_more_replies_than_payloads_are_a_failure() -> None:
    with FakeServer() as server, pinging(server.port, "--count", "1") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1))
            caller.send(ACK * 3)
            caller.expect_end()
        status, _, complaint = ackctl.ended()
    assert status == 4
    assert "the server sent more replies than it was sent payloads: it is no ackd" in complaint


def test_percentiles_are_shown_of_as_many_acks_as_they_need(start: StartDaemon) -> None:
    ackd = start()
    for count, shown in (("1", set()), ("2", {"p50"}), ("20", {"p50", "p95"})):
        _, out, _ = ping(ackd.port, "--count", count, "--interval", "0.001")
        assert set(re.findall(r"(?m)^p[\d.]+", out)) == shown
    _, out, _ = ping(ackd.port, "--count", "100", "--interval", "0.001", "--parallel", "10")
    assert set(re.findall(r"(?m)^p[\d.]+", out)) == {"p50", "p95", "p99", "p99.9"}


def test_a_host_that_is_not_utf_8_is_escaped_in_json() -> None:
    _, out, _ = ackctl("ping", "--host", "\udcff.example", "--count", "1", "--json")
    summary = json.loads(out)
    assert summary["host"] == "\\xff.example"
    assert str(summary).encode()  # no lone surrogates


# Ctrl-C


def test_ctrl_c_prints_the_summary_and_is_no_failure(start: StartDaemon) -> None:
    ackd = start()
    with pinging(ackd.port) as ackctl:
        shown = steady(ackctl.read_line() + ackctl.read_line())
        assert shown[1:] == ["TIME     #1 TOOK"]
        ackctl.signal(signal.SIGINT)
        status, out, complaint = ackctl.ended()
    assert "1 sent, 1 acknowledged, 0 refused, 0 unknown, 0 not sent" in steady(out)
    assert (status, complaint) == (0, "")
    assert ackd.journal.payloads(2) == [RUN.payload(1), RUN.end(1)]


def test_ctrl_c_waits_for_replies_and_a_second_ctrl_c_does_not() -> None:
    with FakeServer() as server, pinging(server.port, "--interval", "60") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1))
            ackctl.signal(signal.SIGINT)
            assert ackctl.read_error() == (
                "ackctl: waiting for the reply; press Ctrl-C again to stop waiting\n"
            )
            ackctl.signal(signal.SIGINT)
            caller.expect_end()
        status, out, _ = ackctl.ended()
    assert steady(out)[1:5] == [
        "TIME     #1  unknown: interrupted",
        "",
        "1 sent, 0 acknowledged, 0 refused, 1 unknown, 0 not sent",
        "no ack from TIME to the end, SO LONG",
    ]
    assert status == 5


def test_ctrl_c_before_anything_is_known() -> None:
    with FakeServer(backlog=0) as server, Peer(server.port), pinging(server.port) as ackctl:
        assert ackctl.read_line().startswith("run link-7: ")
        ackctl.signal(signal.SIGINT)
        status, out, complaint = ackctl.ended()
    assert steady(out) == [
        "",
        "0 sent, 0 acknowledged, 0 refused, 0 unknown, 0 not sent",
    ]
    assert (status, complaint) == (-signal.SIGINT, "ackctl: interrupted (nothing was sent)\n")


def test_ctrl_c_while_nothing_has_answered_so_far() -> None:
    with FakeServer(backlog=0) as server, Peer(server.port), pinging(server.port) as ackctl:
        ackctl.read_line()
        assert steady(ackctl.read_line()) == ["TIME not reached: no answer so far"]
        ackctl.signal(signal.SIGINT)
        status, out, complaint = ackctl.ended()
    assert steady(out) == [
        "",
        "0 sent, 0 acknowledged, 0 refused, 0 unknown, 1 not sent",
        "no ack from TIME to the end, SO LONG",
    ]
    assert (status, complaint) == (3, "ackctl: not reached: no answer so far (1 not sent)\n")


def test_an_outage_at_the_start_begins_at_the_start() -> None:
    with FakeServer() as server, pinging(server.port, "--count", "1", "--json") as ackctl:
        with server.accept() as caller:
            assert "no answer so far" in ackctl.read_error()
            before = datetime.now().astimezone()
            caller.socket.close()
            assert "connected, but not greeted" in ackctl.read_error()
        status, out, _ = ackctl.ended()
    summary = json.loads(out)
    assert datetime.fromisoformat(summary["outages"][0]["since"]) < before
    assert summary["problem"] == "connected, but not greeted: the server closed the connection"
    assert (summary["not_sent"], status) == (1, 4)


# The terminal and the shell around it


def test_ctrl_c_at_the_keyboard_prints_figures_and_a_histogram(start: StartDaemon) -> None:
    ackd = start()
    with Terminal("ping", "--port", str(ackd.port), *NAMED) as terminal:
        terminal.read_to("#1")
        terminal.type("\x03")
        status, shown = terminal.ended()
    assert "1 sent, 1 acknowledged" in shown
    assert re.search(r"\r\n *\d+\.\d00 to +\d+\.\d00 ms  1  █{40}\r\n", shown)
    assert "\x1b" not in shown
    assert status == 0


@pytest.mark.parametrize(
    ("no_colour", "trouble"), [("", "\x1b[31mnot reached: "), ("1", " not reached: ")]
)
def test_trouble_is_red_unless_colours_are_unwanted(no_colour: str, trouble: str) -> None:
    arguments = ("ping", "--port", str(closed_port()), "--count", "1")
    with Terminal(*arguments, NO_COLOR=no_colour) as terminal:
        status, shown = terminal.ended()
    assert trouble in shown
    assert ("\x1b" in shown) is ("\x1b" in trouble)
    assert status == 3


def test_a_dumb_terminal_gets_no_colour() -> None:
    arguments = ("ping", "--port", str(closed_port()), "--count", "1")
    with Terminal(*arguments, TERM="dumb") as terminal:
        assert "\x1b" not in terminal.ended()[1]


def test_a_host_name_is_escaped() -> None:
    status, out, _ = ackctl("ping", "--host", "evil\x1b31m", "--count", "1")
    assert out.startswith("run ")
    assert r" evil\x1b31m port 10008, " in out
    assert "\x1b" not in out
    assert status == 3


def test_without_block_characters_the_histogram_is_plain(start: StartDaemon) -> None:
    ackd = start()
    plain = ("env", "PYTHONIOENCODING=ascii")
    _, out, _ = ping(ackd.port, "--count", "1", before=plain)
    assert re.search(r" ms  1  #{40}\n", out)


def test_no_output_is_needed(start: StartDaemon) -> None:
    ackd = start()
    silent = ("sh", "-c", '"$@" >&-', "sh")
    assert ping(ackd.port, "--count", "1", before=silent) == (0, "", "")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--interval", "0.0001"), "argument --interval: '0.0001' is less than 0.001 seconds"),
        (
            ("--name", "two words"),
            "argument --name: 'two words' is not 1 to 64 letters, digits, '.', '_' or '-'",
        ),
    ],
)
def test_wrong_usage_is_explained(arguments: tuple[str, ...], complaint: str) -> None:
    status, out, usage = ackctl("ping", *arguments)
    assert (status, out) == (2, "")
    assert usage.splitlines()[-1] == f"ackctl ping: error: {complaint}"


def test_help_fits_in_80_columns() -> None:
    status, text, _ = ackctl("ping", "--help", before=("env", "COLUMNS=80"))
    assert status == 0
    assert max(map(len, text.splitlines())) <= 80
