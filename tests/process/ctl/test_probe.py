"""`ackctl probe` as its users see it, against a real ackd and against other servers."""

import json
import re
import select
import signal
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackd.ctl.probe.connection import ProbeConnection
from ackd.ctl.probe.finding import EndedError, SilentError, Stage, Traffic
from ackd.ctl.probe.sweep import Search
from ackd.ctl.runs.payloads import Run, parse
from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, Ended, ackctl
from tests.support.ackctl_terminal import COLOUR, Terminal
from tests.support.fake_server import Caller, FakeServer, scripted_server
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING

THANKS = ACK.decode().strip()
GOOD = (
    "Data gets through and is acknowledged. `ackctl verify` on the server shows whether the data is"
    " in the journal of an ackd."
)
SOON = ("--timeout", "0.2")  # for a wait that must time out
LATER = ("--timeout", "0.5")  # for a wait that must time out after an answer that must not

LIKELY = (
    "A new connection works, so the silence is the likely cause. The silence is certainly the cause"
    " if another run fails after the same time."
)

Script = Callable[[Caller], None]


def probe(port: int, *arguments: str) -> Ended:
    """Run `ackctl probe` to its end."""
    return ackctl("probe", "--port", str(port), *arguments)


def with_placeholders(text: str) -> str:
    """Replace the name of the run and the times, which differ from run to run."""
    run = re.search(r"^run (\w+)", text)
    assert run
    text = re.sub(r"--since @\d+", "--since @THEN", text)
    return re.sub(
        r" +\d+\.\d{3} ms(?:  |$)", " TIME ", text.replace(run[1], "RUN"), flags=re.M
    ).replace(" \n", "\n")


def found(port: int, *arguments: str) -> tuple[int, list[str], dict[str, Any]]:
    """Return the exit status, the stages, and the summary."""
    status, out, complaint = probe(port, "--json", *arguments)
    *stages, summary = map(json.loads, out.splitlines())
    assert summary["status"] == status
    assert len(complaint.splitlines()) == (status != 0)
    return status, [_line(stage) for stage in stages], summary


def _line(stage: dict[str, Any]) -> str:
    words = (stage["stage"], stage.get("bytes"), stage.get("silence"), stage["outcome"])
    text = f": {stage['text']}" if "text" in stage else ""
    return " ".join(str(word) for word in words if word is not None) + text


def failed(port: int, *arguments: str) -> tuple[int, str, str]:
    """Return the exit status, the stage that failed with its text, and the meaning."""
    status, stages, summary = found(port, *arguments)
    (line,) = (stage for stage in stages if " failed" in stage)
    assert line.startswith(f"{summary['failed']} ")
    return status, line, summary["meaning"]


def read_until(process: Ackctl, beginning: str) -> None:
    while not process.read_line().startswith(beginning):
        pass


@contextmanager
def playing_in_turn(*scripts: Script) -> Iterator[int]:
    """Serve one client after another, each by its script; yield the port."""
    with FakeServer() as fake, ThreadPoolExecutor(1) as pool:

        def play() -> None:
            for script in scripts:
                serve_one(fake, script)

        played = pool.submit(play)
        yield fake.port
        played.result(DEADLINE)


def serve_one(fake: FakeServer, script: Script) -> None:
    caller = fake.accept()
    with caller:
        script(caller)


def acknowledge(caller: Caller, most: int | None = None) -> None:
    caller.send(GREETING)
    with caller.socket.makefile("rb") as lines:
        for _ in islice(lines, most):
            caller.send(ACK)


def acknowledge_short_ones(caller: Caller) -> None:
    caller.send(GREETING)
    with caller.socket.makefile("rb") as lines:
        for line in lines:
            if len(line) <= 1000:
                caller.send(ACK)


# A real ackd


def test_each_stage_is_printed_and_what_the_outcome_means(start: StartDaemon) -> None:
    ackd = start()
    status, out, complaint = probe(ackd.port)
    assert (status, complaint) == (0, "")
    assert with_placeholders(out) == (
        f"run RUN: 127.0.0.1 port {ackd.port}\n"
        "resolved        passed TIME 127.0.0.1\n"
        "connected       passed TIME 127.0.0.1 from 127.0.0.1\n"
        "greeted         passed TIME Connect\n"
        "sent            passed TIME 43 bytes\n"
        f"acknowledged    passed TIME {THANKS}\n"
        "\n"
        f"{GOOD}\n"
        "\n"
        "run RUN: 1 acknowledged, 0 refused, 0 unknown\n"
        "on the server, `ackctl verify RUN --since @THEN` reports whether all is stored\n"
    )


def test_the_payloads_of_a_probe_are_a_run_with_an_end(start: StartDaemon) -> None:
    ackd = start()
    name = found(ackd.port)[2]["run"]
    assert ackd.journal.payloads(2) == [Run(name).payload(1), Run(name).end(1)]


def test_json_has_an_object_for_each_stage_and_one_for_all(start: StartDaemon) -> None:
    ackd = start()
    status, out, complaint = probe(ackd.port, "--json")
    assert (status, complaint) == (0, "")
    *stages, summary = map(json.loads, out.splitlines())
    assert all(stage.pop("seconds") > 0 for stage in stages)
    assert stages == [
        {"stage": "resolved", "outcome": "passed", "text": "127.0.0.1"},
        {
            "stage": "connected",
            "address": "127.0.0.1",
            "outcome": "passed",
            "text": "from 127.0.0.1",
        },
        {"stage": "greeted", "outcome": "passed", "text": "Connect"},
        {"stage": "sent", "outcome": "passed", "text": "43 bytes"},
        {"stage": "acknowledged", "outcome": "passed", "text": THANKS},
    ]
    assert re.fullmatch("[0-9a-f]{8}", summary.pop("run"))
    assert summary.pop("packets") > 0
    assert summary == {
        "acknowledged": 1,
        "refused": 0,
        "unknown": 0,
        "end_acknowledged": True,
        "failed": None,
        "meaning": GOOD,
        "largest": None,
        "too_large": None,
        "limit": None,
        "held": None,
        "not_held": None,
        "retransmitted": 0,
        "status": 0,
    }


def test_an_ackd_with_an_empty_greeting_is_probed_with_no_greeting(start: StartDaemon) -> None:
    ackd = start('greeting: ""')
    status, stages, _ = found(ackd.port, "--no-greeting")
    assert status == 0
    assert stages[2] == "greeted passed: no greeting, as expected with --no-greeting"


def test_a_greeting_is_not_taken_for_an_ack(start: StartDaemon) -> None:
    ackd = start()
    status, line, meaning = failed(ackd.port, "--no-greeting")
    assert (status, line) == (
        4,
        "greeted failed: the server sent Connect, although no greeting was expected",
    )
    assert "leave out --no-greeting" in meaning


def test_a_greeting_is_not_taken_for_an_ack_where_no_ack_ever_comes() -> None:
    def greet_and_wait_for_the_end(caller: Caller) -> None:
        caller.send(GREETING)
        caller.expect_end()

    with scripted_server(greet_and_wait_for_the_end) as port:
        status, stages, summary = found(port, "--no-greeting")
    assert (status, stages[2:]) == (
        4,
        [
            "greeted failed: the server sent Connect, although no greeting was expected",
            "sent not tried",
            "acknowledged not tried",
        ],
    )
    assert summary["unknown"] == 0


def test_a_rejection_without_a_greeting_is_reported(start: StartDaemon) -> None:
    ackd = start('allow: 192.0.2.1\ngreeting: ""')
    status, stages, _ = found(ackd.port, "--no-greeting")
    assert (status, stages[2:]) == (
        1,
        [
            "greeted failed: not connect: 127.0.0.1 is not allowed here",
            "sent not tried",
            "acknowledged not tried",
        ],
    )


def test_an_address_that_is_not_allowed_learns_whom_to_ask(start: StartDaemon) -> None:
    ackd = start("allow: 192.0.2.1")
    assert failed(ackd.port) == (
        1,
        "greeted failed: not connect: 127.0.0.1 is not allowed here",
        "The ackd there does not allow this address. Ask its administrator for `allow`.",
    )


def test_a_full_server_is_distinguished_from_an_absent_one(start: StartDaemon) -> None:
    ackd = start("max_connections: 1")
    with ackd.peer():
        status, line, meaning = failed(ackd.port)
    assert (status, line) == (
        1,
        "greeted failed: not connect: too many connections, the limit is 1",
    )
    assert "`max_connections`" in meaning


UNREACHABLE = b"not received: the journal can't be reached\n"


def refuse(refusal: bytes, caller: Caller) -> None:
    """Answer each line so."""
    caller.send(GREETING)
    with caller.socket.makefile("rb") as lines:
        for _ in lines:
            caller.send(refusal)


def test_a_journal_that_can_not_be_reached_is_a_problem_of_the_server(start: StartDaemon) -> None:
    ackd = start("journal_wait: 0")
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"in vain\n")
        peer.expect(UNREACHABLE)
    status, line, meaning = failed(ackd.port)
    assert (status, line) == (1, "greeted failed: not connect: the journal can't be reached")
    assert meaning.startswith("The path works, but the ackd there can't reach its journal. Ask")
    with scripted_server(partial(refuse, UNREACHABLE)) as port:
        status, line, again = failed(port)
    assert (status, again) == (1, meaning)
    assert line == "acknowledged failed: not received: the journal can't be reached"


def test_a_journal_that_does_not_store_is_a_problem_of_the_server() -> None:
    refusal = b"not received: the journal does not store payloads: Storage=none in /etc/x\n"
    with scripted_server(partial(refuse, refusal)) as port:
        status, line, meaning = failed(port)
    assert (status, line) == (1, f"acknowledged failed: {refusal.decode().strip()}")
    assert meaning == (
        "The path works, but the settings of the journal there drop payloads. Ask its administrator"
        " for the setting that the reply names."
    )


def test_a_limit_of_the_server_is_reported(start: StartDaemon) -> None:
    ackd = start("max_payload: 10")
    status, line, meaning = failed(ackd.port)
    assert (status, line) == (1, "acknowledged failed: not received: longer than 10 bytes")
    assert "`max_payload`" in meaning


# Other servers


def test_a_port_on_which_nothing_listens() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        status, stages, summary = found(bound.getsockname()[1])
    assert (status, stages) == (
        3,
        [
            "resolved passed: 127.0.0.1",
            "connected failed: refused",
            "greeted not tried",
            "sent not tried",
            "acknowledged not tried",
        ],
    )
    assert summary["meaning"].startswith("The host is there, but no program listens on that port")
    assert summary["unknown"] == 0


def test_a_server_that_sends_nothing() -> None:
    with scripted_server(Caller.expect_end) as port:
        status, line, meaning = failed(port, *SOON)
    assert (status, line) == (4, "greeted failed: no greeting within 0.2 s")
    assert "--no-greeting" in meaning
    # ackd records no connection on which nothing arrives.
    assert "whether `ss -tn` on it shows this connection" in meaning
    assert "journalctl" not in meaning


@pytest.mark.parametrize(
    ("how", "arguments"), [("closed", ()), ("reset", ()), ("reset", ("--no-greeting",))]
)
def test_a_server_that_ends_the_connection_at_once(how: str, arguments: tuple[str, ...]) -> None:
    where = ("probe", "--port")
    with FakeServer() as fake, Ackctl(*where, str(fake.port), *arguments) as probe:
        read_until(probe, "connected")  # by the kernel, before the server accepts the connection
        caller = fake.accept()
        if how == "reset":
            caller.reset()
        caller.socket.close()
        status, out, complaint = probe.ended()
    why = f"connected, but not greeted: {how} without a greeting"
    assert (status, complaint) == (4, f"ackctl: {why}\n")
    assert f"  {how} without a greeting\n" in out
    assert "a load balancer without a server behind it" in out


@pytest.mark.parametrize(
    ("banner", "seen"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", r"an SSH server answers: SSH-2.0-OpenSSH_9.2\r\n"),
        (b"220 mail.example.org ESMTP\r\n", r"a mail or FTP server answers: 220 mail.exa"),
        (b"\x15\x03\x01\x00\x02\x02\x0a", r"a server that wants TLS answers: \x15\x03\x01\x00"),
        (b"a\x1b[2J\nb\nc\n", r"the server sent a\x1b[2J\nb\nc\n"),
        (b"J\x00\x00\x00\x0a8.0.36\x00", r"the server sent J\x00\x00\x00\n8.0.36\x00"),
        (b"login: ", "the server sent login: , and the line did not end within 0.2 s"),
        (b"x" * 70000, f"the server sent {'x' * 80}..."),
    ],
)
def test_a_greeting_of_another_server_is_shown_escaped(banner: bytes, seen: str) -> None:
    def speak(caller: Caller) -> None:
        caller.send(banner)
        caller.read_to_loss()

    with scripted_server(speak) as port:
        status, line, meaning = failed(port, *SOON)
    assert status == 4
    assert line.startswith(f"greeted failed: {seen}")
    assert meaning.startswith(
        "Another program listens on that port. Check whether the port is right."
    )


def test_a_server_that_closes_within_its_greeting() -> None:
    with scripted_server(lambda caller: caller.send(b"Conn")) as port:
        assert failed(port)[:2] == (4, "greeted failed: the server sent Conn, then closed")


def test_a_server_that_greets_and_never_acknowledges() -> None:
    def greet_and_be_mute(caller: Caller) -> None:
        caller.send(GREETING)
        caller.read_to_loss()

    with scripted_server(greet_and_be_mute) as port:
        status, stages, summary = found(port, *LATER)
    assert (status, stages[3:]) == (
        5,
        ["sent passed: 43 bytes", "acknowledged failed: no ack within 0.5 s"],
    )
    assert summary["unknown"] == 1
    assert summary["meaning"] == (
        "The payload has arrived at the host, or at a proxy or load balancer before the host, but"
        " no reply comes back. `ackctl verify RUN` on the server shows whether the payload is"
        " recorded. If the payload is recorded, replies are lost on the way back: ask the"
        " administrators of the network. Otherwise ask the administrator of the server for the"
        " output of `systemctl status ackd systemd-journald`. A longer --timeout shows whether the"
        " ack is only late."
    )


def test_a_connection_that_was_reset_before_anything_could_be_sent() -> None:
    with FakeServer() as fake:
        ours = socket.create_connection(("127.0.0.1", fake.port))
        fake.accept().reset()
    connection = ProbeConnection(ours, DEADLINE, False, Traffic())
    with select.epoll() as ended:
        ended.register(ours, 0)
        assert ended.poll(DEADLINE)
    with pytest.raises(EndedError, match=r"^reset$") as failure:
        connection.exchange(b"hello")
    connection.close()
    assert failure.value.stage is Stage.SENT


def test_a_server_that_neither_greets_nor_closes() -> None:
    with FakeServer() as fake:  # the kernel connects, and the server does not accept
        status, line, meaning = failed(fake.port, "--no-greeting", *SOON)
    assert (status, line) == (4, "greeted failed: no greeting, but not closed within 0.2 s")
    assert "The program that listens there hangs, is overloaded, or is no ackd" in meaning


def test_a_server_that_stops_reading_is_not_taken_for_a_path_on_which_nothing_arrives() -> None:
    with FakeServer(buffer=2048) as fake:
        ours = socket.create_connection(("127.0.0.1", fake.port))
        ours.setblocking(False)
        connection = ProbeConnection(ours, 0.2, False, Traffic())
        with fake.accept(), pytest.raises(SilentError) as failure:
            connection.exchange(b"x" * 131072)
        connection.close()
    assert failure.value.stage is Stage.ACKNOWLEDGED
    assert re.fullmatch(
        r"no ack within 0\.2 s, and the server has not read \d+ bytes", failure.value.text
    )
    assert failure.value.advice.startswith("The beginning of the payload has arrived")


def test_an_ack_without_an_end() -> None:
    def acknowledge_by_half(caller: Caller) -> None:
        caller.send(GREETING)
        caller.socket.recv(1000)
        caller.send(ACK[:9])
        caller.expect_end()

    with scripted_server(acknowledge_by_half) as port:
        assert failed(port, *LATER)[:2] == (
            5,
            "acknowledged failed: the reply did not end within 0.5 s: thank you",
        )


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_server_that_greets_and_ends_the_connection(how: str) -> None:
    def greet_and_end(caller: Caller) -> None:
        caller.send(GREETING)
        caller.socket.recv(1000)
        if how == "reset":
            caller.reset()

    with scripted_server(greet_and_end) as port:
        status, line, meaning = failed(port)
    assert (status, line) == (5, f"acknowledged failed: {how}")
    assert meaning.startswith("It is unknown whether the payload is recorded.")


@pytest.mark.parametrize("greeting", [b"", GREETING])
def test_an_echo_server(greeting: bytes) -> None:
    def echo(caller: Caller) -> None:
        caller.send(greeting)
        caller.send(caller.socket.recv(1000))
        caller.expect_end()

    with playing_in_turn(*([] if greeting else [Caller.expect_end]), echo) as port:
        assert failed(port, *(() if greeting else ["--no-greeting"])) == (
            5,
            "acknowledged failed: the server sent the payload back",
            "An echo server listens there. It records nothing. Ask the administrator of the host"
            " which program listens on that port, and on which port ackd listens.",
        )


def test_a_web_server_is_known_by_its_answer() -> None:
    def serve(caller: Caller) -> None:
        caller.socket.recv(1000)
        caller.send(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")

    with playing_in_turn(Caller.expect_end, serve) as port:
        status, line, meaning = failed(port, "--no-greeting")
    assert status == 5
    assert line.startswith(
        r"acknowledged failed: a web server answers: HTTP/1.1 400 Bad Request\r\n"
    )
    assert meaning.startswith("A program that is no ackd answers there. Ask the administrator")


def test_an_answer_in_pieces_is_one_answer_and_its_pieces_are_counted() -> None:
    with FakeServer() as fake:
        ours = socket.create_connection(("127.0.0.1", fake.port))
        theirs = fake.accept()
    connection = ProbeConnection(ours, DEADLINE, True, Traffic())

    def dribble() -> None:
        with theirs as caller:
            for before, line in ((b"", GREETING), (b"hello\n", ACK)):
                caller.expect(before)
                for count, byte in enumerate(line):
                    caller.send(bytes([byte]))
                    while connection.pieces == count:
                        pass  # until it is read

    with ThreadPoolExecutor(1) as pool:
        dribbled = pool.submit(dribble)
        assert connection.greet() == b"Connect"
        assert connection.pieces == len(GREETING)
        assert connection.exchange(b"hello").reply.text == THANKS.encode()
        assert connection.pieces == len(ACK)
        dribbled.result(DEADLINE)
    connection.close()


def test_a_server_that_acknowledges_once_and_ends_the_connection() -> None:
    with scripted_server(lambda caller: acknowledge(caller, most=1)) as port:
        status, stages, summary = found(port)
    assert (status, stages[4]) == (5, f"acknowledged passed: {THANKS}")
    assert not summary["end_acknowledged"]
    assert (
        "The last payload, which has the number of payloads for `ackctl verify`, was not"
        " acknowledged" in (summary["meaning"])
    )


# Sizes


def test_all_sizes_are_tried_up_to_the_servers_limit(start: StartDaemon) -> None:
    ackd = start("max_payload: 1000")
    status, stages, summary = found(ackd.port, "--sweep")
    assert (status, stages[5:]) == (
        0,
        [
            "sweep 64 passed",
            "sweep 128 passed",
            "sweep 256 passed",
            "sweep 512 passed",
            "sweep 1024 refused: not received: longer than 1000 bytes",
            "sweep 1000 passed",
        ],
    )
    assert (summary["largest"], summary["limit"], summary["too_large"]) == (1000, 1000, None)
    assert "up to 1000 bytes, the server's limit" in summary["meaning"]
    assert "on the way back" in summary["meaning"]
    payloads = ackd.journal.payloads(7)
    assert [len(payload) for payload in payloads[1:6]] == [64, 128, 256, 512, 1000]
    parts = [parse(payload) for payload in payloads]
    assert [(part.number, part.end) for part in parts if part] == [
        *((number, False) for number in range(1, 7)),
        (6, True),
    ]


def test_the_largest_payload_that_any_ackd_takes_is_the_last(start: StartDaemon) -> None:
    ackd = start("max_payload: 131072")
    status, stages, summary = found(ackd.port, "--sweep")
    assert (status, stages[-1]) == (0, "sweep 131072 passed")
    assert (summary["largest"], summary["limit"]) == (131072, None)
    assert "the most that any ackd takes" in summary["meaning"]


def test_sizes_are_a_column_of_numbers(start: StartDaemon) -> None:
    ackd = start("max_payload: 200")
    _, out, _ = probe(ackd.port, "--sweep")
    assert with_placeholders(out).splitlines()[6:10] == [
        "    64 bytes    passed TIME",
        "   128 bytes    passed TIME",
        "   256 bytes    refused TIME not received: longer than 200 bytes",
        "   200 bytes    passed TIME",
    ]


def test_long_lines_that_arrive_without_an_ack_are_not_taken_for_lost_packets() -> None:
    # The first size that fails is tried over the first connection and over a new connection.
    clients = [acknowledge_short_ones] * 20
    with FakeServer() as fake, ThreadPoolExecutor(len(clients)) as pool:
        served = [pool.submit(serve_one, fake, script) for script in clients]
        status, stages, summary = found(fake.port, "--sweep", *LATER)
        for _ in clients:
            socket.create_connection(("127.0.0.1", fake.port)).close()
        assert served
    assert status == 5
    assert stages[9] == "sweep 1024 failed: no ack within 0.5 s; trying a new connection"
    assert (summary["largest"], summary["too_large"]) == (999, 1000)
    assert (
        "Payloads of up to 999 bytes get through, payloads of 1000 bytes or more do not. The long"
        " payloads arrive, but" in summary["meaning"]
    )


def test_a_reset_after_three_acks_is_not_taken_for_a_limit_of_size() -> None:
    def acknowledge_three_and_reset(caller: Caller) -> None:
        acknowledge(caller, most=3)
        caller.reset()

    with playing_in_turn(acknowledge_three_and_reset, acknowledge) as port:
        status, stages, summary = found(port, "--sweep")
    assert status == 5
    assert stages[5:9] == [
        "sweep 64 passed",
        "sweep 128 passed",
        "sweep 256 failed: reset; trying a new connection",
        "sweep 256 passed",
    ]
    assert (summary["largest"], summary["too_large"], summary["unknown"]) == (131072, None, 1)
    assert (
        "The connection broke once with a payload whose size a new connection took."
        in (summary["meaning"])
    )


def test_a_connection_that_falls_silent_is_not_reported_as_ended() -> None:
    def acknowledge_three_and_fall_silent(caller: Caller) -> None:
        acknowledge(caller, most=3)
        caller.read_to_loss()

    with playing_in_turn(acknowledge_three_and_fall_silent, acknowledge) as port:
        status, stages, summary = found(port, "--sweep", *LATER)
    assert status == 5
    assert stages[7] == "sweep 256 failed: no ack within 0.5 s; trying a new connection"
    assert (summary["largest"], summary["too_large"], summary["unknown"]) == (131072, None, 1)
    assert (
        "The connection fell silent once with a payload whose size a new connection took."
        in (summary["meaning"])
    )
    assert "ends connections" not in summary["meaning"]


def test_a_server_that_stops_acknowledging_is_not_taken_for_a_limit_of_size() -> None:
    def greet_only(caller: Caller) -> None:
        caller.send(GREETING)
        caller.read_to_loss()

    # Each of them gets one size: 256, then the sizes down to 129, and at last 128 again.
    servers = [lambda caller: acknowledge(caller, most=3), *[greet_only] * 9]
    with playing_in_turn(*servers) as port:
        status, stages, summary = found(port, "--sweep", *LATER)
    assert (status, stages[-1]) == (5, "sweep 129 failed: no ack within 0.5 s")
    assert (
        "A later payload failed (no ack within 0.5 s). The payload has arrived"
        in summary["meaning"]
    )
    assert "Payloads of up to" not in summary["meaning"]


@given(edge=st.integers(64, 131072), limit=st.integers(64, 131072))
def test_the_edge_between_sizes_is_found_to_the_byte(edge: int, limit: int) -> None:
    search = Search()
    tries = 0
    while size := search.next:
        tries += 1
        if size > limit:
            search.too_long(size, limit)
        elif size > edge:
            search.lost = size
        else:
            search.passed = size
    assert search.passed == min(edge, limit)
    assert search.lost == (edge + 1 if edge < limit else None)
    assert tries <= 30


@given(st.integers(1, 131072), st.integers(1, 1000))
def test_a_limit_that_sinks_with_each_refusal_takes_few_tries(limit: int, step: int) -> None:
    search = Search()
    tries = 0
    while size := search.next:
        tries += 1
        if size > limit:
            limit = max(0, min(limit, size) - step)
            search.too_long(size, limit)
        else:
            search.passed = size
    assert tries <= 45


def test_a_server_that_lowers_its_limit_each_time_ends_the_sweep() -> None:
    def lower(caller: Caller) -> None:
        caller.send(GREETING)
        with caller.socket.makefile("rb") as lines:
            for line in lines:
                part = parse(line.rstrip())
                short = len(line) <= 65 or (part and part.end)
                caller.send(
                    ACK if short else b"not received: longer than %d bytes\n" % (len(line) - 2)
                )

    with playing_in_turn(lower) as port:
        status, stages, summary = found(port, "--sweep")
    assert status == 0
    assert summary["largest"] == 64
    assert len([stage for stage in stages if stage.startswith("sweep")]) < 20


def test_a_stated_limit_above_the_refused_size_ends_the_search() -> None:
    search = Search()
    while size := search.next:
        search.too_long(size, 10**9)
    assert search.limit == 0


# Silences


def test_a_connection_outlasts_a_silence(start: StartDaemon) -> None:
    ackd = start()
    status, stages, summary = found(ackd.port, "--hold", "0.2,0.1,0.2")
    assert (status, stages[5:]) == (0, ["hold 0.1 passed", "hold 0.2 passed"])
    assert (summary["held"], summary["not_held"]) == (0.2, None)
    assert summary["meaning"].endswith("A connection outlasts a silence of 0.2 s.")
    assert len(ackd.journal.payloads(4)) == 4


def test_a_server_that_ends_a_silent_connection_is_distinguished_from_one_that_forgets_it(
    start: StartDaemon,
) -> None:
    ackd = start("idle_timeout: 0.3")
    status, stages, summary = found(ackd.port, "--hold", "0.1,20,30")
    assert status == 3
    assert stages[5] == "hold 0.1 passed"
    assert re.fullmatch(r"hold 20.0 failed: closed by the other side after 0\.\d s", stages[6])
    assert stages[7] == "hold 30.0 not tried"
    assert (summary["held"], summary["not_held"], summary["unknown"]) == (0.1, 20, 0)
    assert "An ackd ends a silent connection after its `idle_timeout`" in summary["meaning"]
    assert summary["meaning"].endswith(LIKELY)


def test_a_connection_that_is_reset_by_the_first_payload_after_a_silence() -> None:
    def forget(caller: Caller) -> None:
        acknowledge(caller, most=1)
        caller.socket.recv(1000)
        caller.reset()

    with playing_in_turn(forget, acknowledge) as port:
        status, stages, summary = found(port, "--hold", "0.1")
    assert (status, stages[5:]) == (5, ["hold 0.1 failed: reset"])
    assert (
        "has probably forgotten the silent connection, and resets or closes it only when something"
        " is sent" in (summary["meaning"])
    )


def test_the_silence_is_not_blamed_for_a_server_that_is_gone() -> None:
    with scripted_server(lambda caller: acknowledge(caller, most=1)) as port:
        status, stages, summary = found(port, "--hold", "20", *SOON)
    assert status == 3
    assert re.fullmatch(r"hold 20.0 failed: closed by the other side after \d\.\d s", stages[5])
    assert "A new connection fails too" in summary["meaning"]


# The command line, the terminal

SECONDS = "is not a number of seconds, more than 0 and at most 86400"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("--hold", "1,x"), f"argument --hold: 'x' {SECONDS}"),
        (("--hold", ""), f"argument --hold: '' {SECONDS}"),
        (
            ("--name", "two words"),
            "argument --name: 'two words' is not 1 to 64 letters, digits, '.', '_' or '-'",
        ),
        (("--port", "0"), "argument --port: '0' is not a whole number from 1 to 65535"),
    ],
)
def test_a_wrong_command_line_is_one_sentence(arguments: tuple[str, ...], complaint: str) -> None:
    status, out, usage = ackctl("probe", *arguments)
    assert (status, out) == (2, "")
    assert usage.splitlines()[-1] == f"ackctl probe: error: {complaint}"


def test_help_fits_a_terminal_and_has_examples() -> None:
    status, text, _ = ackctl("probe", "--help", before=("env", "COLUMNS=80"))
    assert status == 0
    assert "examples:\n  ackctl probe" in text
    assert max(map(len, text.splitlines())) <= 80


def test_ctrl_c_in_a_silence_prints_the_summary(start: StartDaemon) -> None:
    ackd = start()
    with Ackctl("probe", "--port", str(ackd.port), "--hold", "3600") as probe:
        read_until(probe, "acknowledged")
        probe.signal(signal.SIGINT)
        status, rest, complaint = probe.ended()
    assert (status, complaint) == (-signal.SIGINT, "ackctl: interrupted\n")
    assert "Interrupted: later stages were not tried." in rest
    assert ": 1 acknowledged, 0 refused, 0 unknown\n" in rest


def test_lines_of_the_server_are_escaped() -> None:
    def misbehave(caller: Caller) -> None:
        caller.send(b"\x1b]0;owned\x07\n")
        caller.socket.recv(1000)
        caller.send(b"\x9b2J\n")
        caller.read_to_loss()

    with scripted_server(misbehave) as port:
        _, out, complaint = probe(port, *LATER)
    assert r"\x1b]0;owned\x07" in out
    assert r"\x9b2J" in out
    assert "\x1b" not in out + complaint


@pytest.mark.parametrize(
    ("variables", "alive", "coloured"),
    [({}, True, True), ({"NO_COLOR": "1"}, True, False), ({"TERM": "dumb"}, False, False)],
)
def test_output_suits_the_terminal(
    start: StartDaemon, variables: dict[str, str], alive: bool, coloured: bool
) -> None:
    ackd = start()
    with Terminal("probe", "--port", str(ackd.port), before=(), **variables) as terminal:
        status, shown = terminal.ended()
    assert status == 0
    assert ("\r\x1b[2K" in shown, bool(re.search(COLOUR, shown))) == (alive, coloured)
    assert alive or "\x1b" not in shown


def test_a_run_can_have_a_name(start: StartDaemon) -> None:
    ackd = start()
    assert found(ackd.port, "--name", "office")[2]["run"] == "office"
    assert ackd.journal.payloads(2) == [Run("office").payload(1), Run("office").end(1)]


def test_a_source_of_the_other_family_reaches_no_address() -> None:
    status, out, _ = probe(1, "--source", "::1")
    assert status == 3
    assert (
        "connected       not tried                 127.0.0.1: not of the same family as --source"
        in (out)
    )
