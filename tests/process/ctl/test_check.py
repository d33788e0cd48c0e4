"""`ackctl check` as a monitoring system sees it: one line, the exit status, nothing else."""

import re
import signal
import ssl
import subprocess
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from ackd.ctl.runs.payloads import is_of_a_run
from tests.conftest import StartDaemon
from tests.support.ackctl_process import COMMAND, ENVIRONMENT, Ackctl, ackctl
from tests.support.certificates import Authority, Issued, needs_openssl
from tests.support.fake_server import Caller, FakeServer, scripted_server
from tests.support.obstacle import needs_namespaces
from tests.support.peer import ACK, GREETING
from tests.support.probed_network import SERVER, probed_network, with_etc
from tests.support.project import PROJECT
from tests.support.tls_peers import acknowledge, over_tls

SOON = ("--timeout", "0.3")  # for a wait that must be in vain
REFUSED = "connection refused: nothing listens on that port, or a firewall refuses"
# 'label'=value[UOM];[warn];[crit];[min];[max], Monitoring Plugins Development Guidelines.
FIGURE = re.compile(r"'([a-z]+)'=(\d+(?:\.\d+)?)ms;((?:\d+\.?\d*)?);((?:\d+\.?\d*)?);0(?:;(\d+))?")


def check(
    port: int, *arguments: str, before: tuple[str, ...] = ()
) -> tuple[int, str, dict[str, float]]:
    """Run `ackctl check` to its end; return the status, the sentence and the performance data."""
    return read(ackctl("check", "--port", str(port), *arguments, before=before))


def read(ended: tuple[int, str, str]) -> tuple[int, str, dict[str, float]]:
    """Read the output as a monitoring system does: all after the first | is performance data."""
    status, out, complaint = ended
    assert complaint == ""
    assert out.count("\n") == 1
    sentence, _, data = out.strip("\n").partition(" | ")
    figures = [FIGURE.fullmatch(figure) for figure in data.split()]
    assert all(figures), data
    word = ("OK", "WARNING", "CRITICAL", "UNKNOWN")[status]
    assert sentence.startswith(f"ACKD {word}: ")
    said = re.sub(r"check-[0-9a-f]{8}", "check-NAME", sentence.removeprefix(f"ACKD {word}: "))
    took = {figure[1]: float(figure[2]) for figure in figures if figure}
    return status, re.sub(r"[\d,]+\.\d{3} ms", "TIME", said), took


@pytest.fixture(scope="module")
def own(authority: Authority) -> Issued:
    """Return the certificate of the server."""
    return authority.issue("server", names="IP:127.0.0.1")


# A real ackd


def test_a_payload_is_acknowledged(start: StartDaemon) -> None:
    ackd = start()
    status, said, took = check(ackd.port)
    assert (status, said) == (0, "payload check-NAME acknowledged after TIME")
    assert list(took) == ["total", "resolve", "connect", "greeting", "ack"]
    assert took.pop("total") == pytest.approx(sum(took.values()), abs=0.01)


def test_the_payload_can_be_found_by_the_name_in_the_line(start: StartDaemon) -> None:
    ackd = start()
    _, out, _ = ackctl("check", "--port", str(ackd.port))
    (payload,) = ackd.journal.payloads(1)
    name = re.search(r"payload (check-[0-9a-f]{8}) ", out)
    assert name
    assert payload.startswith(f"ackctl run={name[1]} number=1 ".encode())
    assert is_of_a_run(payload)


def test_the_limits_are_in_the_performance_data(start: StartDaemon) -> None:
    arguments = ("--warn", "20000.5", "--critical", "30000", "--timeout", "40")
    _, out, _ = ackctl("check", "--port", str(start().port), *arguments)
    assert re.search(r"'total'=[0-9.]+ms;20000\.5;30000;0;40000 ", out)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--warn", "0.001"), 1),
        (("--critical", "0.001"), 2),
        (("--warn", "0.001", "--critical", "0.001"), 2),
        (("--warn", "0.001", "--critical", "15000"), 1),
        (("--warn", "15000", "--critical", "15000"), 0),
    ],
)
def test_a_late_ack_is_a_warning_or_critical(
    start: StartDaemon, arguments: tuple[str, ...], status: int
) -> None:
    found, said, took = check(start().port, *arguments)
    assert found == status
    assert "total" in took
    if status:
        longest = max((step for step in took if step != "total"), key=lambda step: took[step])
        assert said == (
            "payload check-NAME acknowledged after TIME, more than TIME;"
            f" TIME of them for {longest}"
        )


def test_a_server_without_a_greeting_is_checked(start: StartDaemon) -> None:
    ackd = start('greeting: ""')
    assert check(ackd.port, "--no-greeting")[:2] == (
        *(0, "payload check-NAME acknowledged after TIME"),
    )


def test_a_refused_payload_is_critical(start: StartDaemon) -> None:
    status, said, took = check(start("max_payload: 5").port)
    assert (status, said) == (
        *(2, "payload check-NAME refused: not received: longer than 5 bytes"),
    )
    assert "ack" in took


def test_a_journal_that_can_not_be_reached_is_critical(start: StartDaemon) -> None:
    ackd = start("journal_wait: 0.1")
    ackd.journal.close()
    assert check(ackd.port)[:2] == (
        *(2, "payload check-NAME refused: not received: the journal can't be reached"),
    )


def test_a_full_server_is_critical(start: StartDaemon) -> None:
    ackd = start("max_connections: 1")
    with ackd.peer():
        assert check(ackd.port)[:2] == (
            *(2, "turned away: not connect: too many connections, the limit is 1"),
        )


@needs_openssl
@pytest.mark.parametrize("greeted", [True, False])
def test_a_server_is_checked_over_tls(
    start: StartDaemon, authority: Authority, own: Issued, ca: tuple[str, str], greeted: bool
) -> None:
    settings = f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n"
    ackd = start(settings + "greeting: ''\n" * (not greeted))
    status, _, took = check(ackd.port, *ca, *["--no-greeting"] * (not greeted))
    assert status == 0
    assert list(took) == ["total", "resolve", "connect", "tls", "greeting", "ack"]


# Each step at which a path can be broken


def test_a_name_that_does_not_exist_is_critical() -> None:
    status, said, took = check(1, "--host", "no-such-host.invalid")
    assert status == 2
    assert said.startswith("not reached: no-such-host.invalid: the name can't be resolved: ")
    assert took == {}


def test_a_port_on_which_nothing_listens_is_critical() -> None:
    with FakeServer() as server:
        pass
    status, said, took = check(server.port)
    assert (status, said) == (2, f"not reached: 127.0.0.1 port {server.port}: {REFUSED}")
    assert list(took) == ["resolve"]


@needs_namespaces
def test_packets_that_are_dropped_are_critical() -> None:
    with probed_network() as network:
        network.drop()
        shell = network.client.shell
        assert check(10008, "--host", SERVER, *SOON, before=shell)[:2] == (
            2,
            f"not reached: {SERVER} port 10008: no answer within 0.3 s: the host is down, or a"
            " firewall drops packets",
        )


@needs_namespaces
def test_name_servers_that_do_not_answer_are_critical(tmp_path: Path) -> None:
    with probed_network() as network:
        network.drop()
        resolv_conf = f"nameserver {SERVER}\n"
        etc = with_etc(tmp_path, nsswitch_conf="hosts: dns\n", resolv_conf=resolv_conf)
        before = (*network.client.shell, *etc)
        assert check(10008, "--host", "server.example", *SOON, before=before)[:2] == (
            2,
            "not reached: server.example: the name can't be resolved: no answer within 0.3 s: the"
            " name servers, or the way to them, are down",
        )


@needs_openssl
def test_a_certificate_that_is_not_good_is_critical(server: ssl.SSLContext) -> None:
    with scripted_server(over_tls(server, acknowledge)) as port:
        assert check(port, "--tls")[:2] == (
            2,
            "connected, but TLS failed: the server's certificate is signed by Test CA, an"
            " authority that this host does not trust",
        )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--tls",), "connected, but TLS failed: in the handshake: no answer within 0.3 s"),
        ((), "connected, but not greeted: no answer within 0.3 s"),
        (
            ("--no-greeting",),
            "connection given up: it does not close a connection without payloads: no answer within"
            " 0.3 s",
        ),
    ],
)
def test_a_server_that_hangs_is_critical(arguments: tuple[str, ...], said: str) -> None:
    with FakeServer() as server:  # its kernel accepts the connection
        assert check(server.port, *SOON, *arguments)[:2] == (2, said)


def says(line: bytes, reply: bytes = b"") -> Callable[[Caller], None]:
    """Return a script that sends a line, and a reply to the payload; it waits for the client."""

    def script(caller: Caller) -> None:
        caller.send(line)
        caller.socket.recv(1000)
        caller.send(reply)
        caller.read_to_loss()

    return script


def echo(caller: Caller) -> None:
    caller.send(GREETING)
    caller.send(caller.socket.recv(1000))
    caller.read_to_loss()


def close(caller: Caller) -> None:
    caller.send(GREETING)
    caller.socket.recv(1000)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (says(GREETING), "payload check-NAME not acknowledged: no answer within 0.3 s"),
        (close, "payload check-NAME not acknowledged: the server closed the connection"),
        (says(b"not connect: any reason\n"), "turned away: not connect: any reason"),
    ],
)
def test_a_server_that_does_not_acknowledge_is_critical(
    script: Callable[[Caller], None], said: str
) -> None:
    with scripted_server(script) as port:
        assert check(port, *SOON)[:2] == (2, said)


def slowly(caller: Caller) -> None:
    """Greet and acknowledge, each after a silence of 0.6 s; the client may give up meanwhile."""
    caller.socket.settimeout(0.6)
    with suppress(TimeoutError):
        caller.expect_end()
    caller.send(GREETING)
    caller.socket.recv(1000)
    with suppress(TimeoutError):
        caller.expect_end()
        return
    caller.send(ACK)


def test_the_timeout_is_that_of_the_whole_check() -> None:
    with scripted_server(slowly) as port:
        status, said, _ = check(port, "--timeout", "1")
    assert status == 2
    assert said.endswith(": no answer within 1 s")


# Servers that are no ackd


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (echo, "no ackd: the server sent the payload back, as an echo server does"),
        (
            says(GREETING, b"500 5.5.2 Error: bad syntax\r\n"),
            r"no ackd: a mail or FTP server answers: 500 5.5.2 Error: bad syntax\r",
        ),
        (
            says(b"SSH-2.0-OpenSSH_9.2p1\n"),
            "no ackd: an SSH server answers: SSH-2.0-OpenSSH_9.2p1",
        ),
        (
            says(GREETING, b"one\ntwo\n"),
            "connection given up: the server sent more replies than it was sent payloads: it is no"
            " ackd",
        ),
    ],
)
def test_another_server_is_critical(script: Callable[[Caller], None], said: str) -> None:
    with scripted_server(script) as port:
        assert check(port)[:2] == (2, said)


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (b"x | 'total'=1ms;;;0", r"x \x7c 'total'=1ms;;;0"),
        (b"x\r| 'total'=1ms", r"x\r\x7c 'total'=1ms"),
        ("x\u2028y\x1b[31m\x00".encode(), r"x\u2028y\x1b[31m\x00"),
        (b"y" * 60000, "y" * 400),
    ],
    ids=["a pipe", "a CR", "control characters", "60000 bytes"],
)
def test_no_server_forges_performance_data(reply: bytes, said: str) -> None:
    with scripted_server(says(GREETING, b"not received: " + reply + b"\n")) as port:
        status, found, took = check(port)
    assert status == 2
    begin = "payload check-NAME refused: not received: "
    assert found.removesuffix("...") == begin + said[: len(found.removesuffix("...")) - len(begin)]
    assert list(took)[1:] == ["resolve", "connect", "greeting", "ack"]


# What is no result


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--port", "x"), "argument --port: 'x' is not a whole number from 1 to 65535"),
        (("--warn", "0"), "argument --warn: '0' is not a number of milliseconds, more than 0 and"),
        (("--critical", "nan"), "argument --critical: 'nan' is not a number of milliseconds"),
        (("--warn", "2", "--critical", "1"), "--warn is more than --critical"),
        (("--unknown",), "unrecognized arguments: --unknown"),
        (("x | 'y'=1\n",), r"unrecognized arguments: x \x7c 'y'=1\n"),
        (("--ca", "/nonexistent"), "/nonexistent: No such file or directory"),
        (("--cert-key", "k"), "--cert-key needs --cert"),
    ],
)
def test_a_wrong_command_line_is_unknown(arguments: tuple[str, ...], said: str) -> None:
    status, found, took = read(ackctl("check", *arguments))
    assert (status, took) == (3, {})
    assert found.startswith(said)
    assert found.endswith("; `ackctl check --help` shows the options")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_an_interrupted_check_is_unknown(number: signal.Signals) -> None:
    with FakeServer() as server, Ackctl("check", "--port", str(server.port)) as checking:
        with server.accept() as caller:
            caller.send(GREETING)
            assert caller.socket.recv(1000)
            checking.signal(number)
            caller.expect_end()
        status, out, complaint = checking.ended()
    # Ctrl-C, of which no monitoring system knows, ends a loop of the shell as well.
    assert status == (-number if number is signal.SIGINT else 3)
    assert re.fullmatch(r"ACKD UNKNOWN: interrupted \| 'resolve'=.*\n", out)
    assert complaint == ""


def test_a_fault_of_ackctl_is_unknown(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text('raise RuntimeError("broken\\nin two lines")')
    environment = {**ENVIRONMENT, "PYTHONPATH": str(tmp_path)}
    command = [*COMMAND, "check"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (
        3,
        f"ACKD UNKNOWN: ackctl itself has failed, {tmp_path}/argparse.py:1:"
        " RuntimeError: broken\\nin two lines\n",
        "",
    )


def test_a_line_that_can_not_be_printed_is_unknown(start: StartDaemon) -> None:
    to_full = ("sh", "-c", '"$@" >/dev/full', "sh")
    assert ackctl("check", "--port", str(start().port), before=to_full)[0] == 3


# Run by cron


def test_cron_sends_a_mail_only_if_the_check_fails(start: StartDaemon) -> None:
    *_, line = (PROJECT / "examples" / "monitoring" / "cron").read_text().splitlines()
    (example,) = re.findall(r"^\S+ \S+ \S+ \S+ \S+ nobody (.*)$", line)
    with FakeServer() as closed:
        pass
    for port, mail in ((start().port, ""), (closed.port, "ACKD CRITICAL: not reached: .*\n")):
        here = f"{' '.join(COMMAND)} check --host 127.0.0.1 --port {port} "
        command = example.replace("/usr/bin/ackctl check --host 192.168.150.1 ", here)
        assert command != example
        cron = ["sh", "-c", command]
        done = subprocess.run(cron, env=ENVIRONMENT, capture_output=True, text=True)
        assert re.fullmatch(mail, done.stdout)
        assert done.stderr == ""
