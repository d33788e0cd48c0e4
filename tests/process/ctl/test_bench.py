"""`ackctl bench` as its users see it: what it counts, and what it tells of it."""

import json
import re
import signal
import socket
from pathlib import Path

import pytest

from ackd.ctl.runs.payloads import ReceivedPayload, Run, parse
from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, Ended, ackctl, ackctl_alone
from tests.support.ackctl_terminal import COLOUR, Terminal
from tests.support.fake_server import FakeServer, acknowledge_run
from tests.support.peer import ACK, GREETING

RUN = Run("load-7")
NAMED = ("--name", RUN.name)
SHORT = ("--seconds", "0.1")


def bench(port: int, *arguments: str) -> Ended:
    """Run `ackctl bench` to its end."""
    return ackctl("bench", "--port", str(port), *NAMED, *arguments)


def benching(port: int, *arguments: str) -> Ackctl:
    """Start `ackctl bench` while the test plays the server."""
    return Ackctl("bench", "--port", str(port), *NAMED, *arguments)


def line(number: int) -> bytes:
    return RUN.payload(number) + b"\n"


SMALL = ("--size", "1")  # as small as they can be, so that they are known beforehand


# A real ackd


def test_all_counted_payloads_are_in_the_journal(start: StartDaemon) -> None:
    ackd = start()
    arguments = (*SHORT, "--clients", "3", "--depth", "4", "--json")
    status, out, complaint = bench(ackd.port, *arguments)
    printed = json.loads(out)
    latency = printed.pop("latency")
    assert list(latency) == ["min", "mean", "p50", "p95", "p99", "p99.9", "max"]
    assert 0 < latency["min"] <= latency["p50"] <= latency["max"]
    assert printed.pop("acks_per_second") > 0
    assert printed.pop("seconds") > 0
    count = printed["sent"]
    assert printed == {
        "run": "load-7",
        "host": "127.0.0.1",
        "port": ackd.port,
        "clients": 3,
        "depth": 4,
        "bytes": 80,
        "planned_seconds": 0.1,
        "timeout": 15.0,
        "sent": count,
        "acknowledged": count,
        "refused": 0,
        "unknown": 0,
        "end_acknowledged": True,
        "status": 0,
        "problem": None,
    }
    assert (status, complaint) == (0, "")
    payloads = ackd.journal.payloads(count + 1)
    assert {len(payload) for payload in payloads[:-1]} == {80}
    parts = [parse(payload) for payload in payloads]
    assert sorted(part.number for part in parts[:-1] if part) == list(range(1, count + 1))
    assert parts[-1] == ReceivedPayload("load-7", count, end=True)


def test_a_pipe_gets_aligned_text(start: StartDaemon) -> None:
    ackd = start()
    arguments = ("--seconds", "1", "--clients", "2", "--depth", "5")
    status, out, complaint = bench(ackd.port, *arguments)
    head, *lines = out.splitlines()
    assert head == (
        f"run load-7: 127.0.0.1 port {ackd.port}: 2 clients, 5 payloads of 80 bytes on the way"
        " from each, for 1 s; the server records each of them, unless it is set to record none"
    )
    table = lines[1 : lines.index("", 1)]
    assert [row.split()[0] for row in table] == [
        *("sent", "acknowledged", "refused", "unknown"),
        *("min", "mean", "p50", "p95", "p99", "p99.9", "max"),
    ]
    assert len({len(row) for row in table}) == 1
    hint = r"on the server, `ackctl verify load-7 --since @\d+` reports whether all is stored"
    assert re.fullmatch(hint, lines[-4])
    assert lines[-3] == "(without --since, earlier runs with this name count as well)"
    assert lines[-2] == ""
    assert re.fullmatch(r"[\d,]+ acks/s", lines[-1])
    assert (status, complaint) == (0, "")


def test_rejected_clients_are_reported_and_the_others_continue(start: StartDaemon) -> None:
    ackd = start("max_connections: 2")
    status, out, complaint = bench(ackd.port, *SHORT, "--clients", "5", "--json")
    printed = json.loads(out)
    assert printed["acknowledged"] == printed["sent"] > 0
    assert complaint == (
        "ackctl: 3 of 5 clients: turned away: not connect: too many connections, the limit is 2\n"
    )
    assert (printed["status"], status) == (1, 1)


def test_refusals_are_counted(start: StartDaemon) -> None:
    ackd = start("max_payload: 50")
    status, out, complaint = bench(ackd.port, *SHORT, "--size", "51", "--json")
    printed = json.loads(out)
    assert printed["refused"] == printed["sent"] > 0
    assert (printed["acknowledged"], printed["latency"], printed["status"], status) == (0, {}, 1, 1)
    assert re.fullmatch(
        r"ackctl: refused: not received: longer than 50 bytes \([\d,]+ sent, [\d,]+ refused\)\n",
        complaint,
    )


def test_there_can_be_more_clients_than_descriptors_by_default(start: StartDaemon) -> None:
    ackd = start("max_connections: 2000\nmax_connections_per_client: 2000")
    few = ("sh", "-c", 'ulimit -Sn 256; exec "$@"', "sh")
    arguments = ("bench", "--port", str(ackd.port), *SHORT, "--clients", "300", "--json")
    status, out, complaint = ackctl(*arguments, before=few)
    assert (status, complaint) == (0, "")
    assert json.loads(out)["acknowledged"] >= 300


# Servers that are not as they should be


def test_nothing_listens_on_the_port() -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
        status, out, complaint = bench(port, *SHORT)
    assert [row.split() for row in out.splitlines()[2:]] == [
        *(["sent", "0"], ["acknowledged", "0"], ["refused", "0"], ["unknown", "0"]),
        *([], ["0", "acks/s"]),
    ]
    assert complaint == (
        f"ackctl: not reached: 127.0.0.1 port {port}: connection refused: nothing"
        " listens on that port, or a firewall refuses\n"
    )
    assert status == 3


def test_the_server_greets_and_never_acknowledges() -> None:
    arguments = (*SMALL, "--depth", "2", "--timeout", "0.5")
    with FakeServer() as server, benching(server.port, *arguments) as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1) + line(2))
            caller.expect_end()
        status, out, complaint = ackctl.ended()
    assert re.search(r"^unknown +2$", out, re.M)
    assert complaint == "ackctl: connection lost: no answer within 0.5 s\n"
    assert status == 5


def test_the_load_keeps_its_depth() -> None:
    arguments = (*SMALL, "--depth", "3", "--seconds", "60", "--json")
    with FakeServer() as server, benching(server.port, *arguments) as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(line(1) + line(2) + line(3))
            assert not caller.readable()
            caller.send(ACK * 2)
            caller.expect(line(4) + line(5))
            assert not caller.readable()
            ackctl.signal(signal.SIGINT)
            caller.send(ACK * 3)
            count = acknowledge_run(caller)
        status, out, complaint = ackctl.ended()
    printed = json.loads(out)
    assert (printed["sent"], printed["acknowledged"]) == (count, count)
    assert (status, complaint) == (0, "")


def test_one_client_that_is_reset_does_not_stop_the_others() -> None:
    arguments = ("--clients", "2", "--seconds", "60", "--json")
    with FakeServer() as server, benching(server.port, *arguments) as ackctl:
        one, other = server.accept(), server.accept()
        one.send(GREETING)
        other.send(GREETING)
        one.expect(b"ackctl run=load-7 number=")
        one.reset()
        ackctl.signal(signal.SIGINT)
        with other:
            count = acknowledge_run(other)
            status, out, complaint = ackctl.ended()
    printed = json.loads(out)
    assert (printed["sent"], printed["acknowledged"], printed["unknown"]) == (count, count - 1, 1)
    assert complaint == (
        "ackctl: 1 of 2 clients: connection lost: the other side reset the connection\n"
    )
    assert (printed["status"], status) == (5, 5)


def test_a_rejection_instead_of_the_first_ack_refuses_all_payloads() -> None:
    arguments = (*SMALL, "--depth", "2", "--no-greeting", "--json")
    with FakeServer() as server, benching(server.port, *arguments) as ackctl:
        with server.accept() as silent:
            silent.expect_end()
        with server.accept() as caller:
            caller.expect(line(1) + line(2))
            caller.send(b"not connect: go away\n")
            caller.expect_end()
        status, out, complaint = ackctl.ended()
    printed = json.loads(out)
    assert (printed["sent"], printed["refused"], printed["unknown"]) == (2, 2, 0)
    assert (status, complaint) == (1, "ackctl: turned away: not connect: go away\n")


# Ctrl-C and the terminal


def test_ctrl_c_ends_the_load_early_and_is_no_failure(start: StartDaemon) -> None:
    ackd = start()
    with benching(ackd.port, "--seconds", "3600", "--json") as ackctl:
        ackd.journal.payloads(1)
        ackctl.signal(signal.SIGINT)
        status, out, complaint = ackctl.ended()
    printed = json.loads(out)
    assert printed["acknowledged"] == printed["sent"] > 0
    assert printed["end_acknowledged"]
    assert (status, complaint) == (0, "")


def test_ctrl_c_before_all_clients_are_connected() -> None:
    with FakeServer() as server, benching(server.port, "--json") as ackctl, server.accept():
        ackctl.signal(signal.SIGINT)
        status, out, complaint = ackctl.ended()
    assert json.loads(out)["sent"] == 0
    assert (status, complaint) == (-signal.SIGINT, "ackctl: interrupted (nothing was sent)\n")


def test_a_second_ctrl_c_does_not_wait() -> None:
    with FakeServer() as server, benching(server.port, "--json") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            caller.socket.makefile("rb").readline()
            ackctl.signal(signal.SIGINT)
            ackctl.await_delivery(signal.SIGINT)
            ackctl.signal(signal.SIGINT)
            caller.expect_end()
        status, out, _ = ackctl.ended()
    assert json.loads(out)["unknown"] == 1
    assert status == 5


def test_a_terminal_shows_progress_and_a_table(start: StartDaemon) -> None:
    ackd = start()
    arguments = ("bench", "--port", str(ackd.port), "--seconds", "0.5")
    with Terminal(*arguments) as terminal:
        status, shown = terminal.ended()
    progress, _, table = shown.partition("┌")
    assert re.search(r"[\d,]+ acks/s", progress)
    assert re.search(COLOUR, progress)
    assert re.search(r"│ acknowledged +│.*\d.*│\r\n", table)
    assert re.search(r"\r\n[\d,]+ acks/s\r\n$", table)
    assert status == 0


def test_there_is_no_colour_if_colours_are_unwanted(start: StartDaemon) -> None:
    ackd = start()
    arguments = ("bench", "--port", str(ackd.port), "--seconds", "0.5")
    with Terminal(*arguments, NO_COLOR="1") as terminal:
        status, shown = terminal.ended()
    assert not re.search(COLOUR, shown)
    assert status == 0


# The picture


@pytest.mark.parametrize(("name", "begins"), [("x.svg", b"<?xml"), ("x.PNG", b"\x89PNG\r\n")])
def test_the_latencies_are_drawn(
    start: StartDaemon, tmp_path: Path, name: str, begins: bytes
) -> None:
    pytest.importorskip("matplotlib")
    ackd = start()
    picture = tmp_path / name
    status, _, complaint = bench(ackd.port, *SHORT, "--plot", str(picture))
    assert (status, complaint) == (0, "")
    assert picture.read_bytes().startswith(begins)


def test_a_picture_says_what_it_shows(start: StartDaemon, tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    ackd = start()
    picture = tmp_path / "x.svg"
    bench(ackd.port, "--seconds", "2", "--plot", str(picture))
    drawn = picture.read_text()
    assert f"127.0.0.1 port {ackd.port}: 1 client, 1 payload of 80 bytes on the way" in drawn
    assert all(re.search(rf">{name} [\d.]+ ms<", drawn) for name in ("p50", "p95", "p99", "p99.9"))


@pytest.mark.parametrize(
    ("path", "problem"),
    [
        ("x.jpg", "x.jpg ends neither in .svg nor in .png"),
        ("svg", "svg ends neither in .svg nor in .png"),
        ("/nowhere/x.svg", "/nowhere is no directory"),
    ],
)
def test_an_impossible_picture_is_reported_before_anything_is_sent(path: str, problem: str) -> None:
    status, out, usage = bench(1, "--plot", path)
    assert (status, out) == (2, "")
    assert usage.splitlines()[-1] == f"ackctl bench: error: argument --plot: {problem}"


def test_without_matplotlib_a_picture_is_refused_before_anything_is_sent(
    tmp_path: Path,
) -> None:
    status, out, usage = ackctl_alone(tmp_path, "bench", "--port", "1", "--plot", "x.svg")
    assert (status, out) == (2, "")
    assert usage.splitlines()[-1] == (
        "ackctl bench: error: argument --plot: matplotlib is not installed;"
        " on Debian: apt install python3-matplotlib"
    )


def test_a_picture_that_could_not_be_written_is_reported(
    start: StartDaemon, tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    ackd = start()
    picture = tmp_path / "x.svg"
    picture.symlink_to("/dev/full")
    status, _, complaint = bench(ackd.port, *SHORT, "--plot", str(picture))
    assert complaint == f"ackctl: --plot: {picture}: No space left on device\n"
    assert status == 2


def test_help_fits_in_80_columns() -> None:
    status, text, _ = ackctl("bench", "--help", before=("env", "COLUMNS=80"))
    assert status == 0
    assert max(map(len, text.splitlines())) <= 80
