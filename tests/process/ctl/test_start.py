"""How ackctl starts and ends: no signal and no error shows Python's stack."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ackd.ctl.exit_status import Status
from tests.support.ackctl_process import COMMAND, ENVIRONMENT, Ackctl, ackctl
from tests.support.fake_server import FakeServer
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING
from tests.support.project import PROJECT

THANKS = ACK.decode()
SIGNALS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.fixture
def launcher(tmp_path: Path) -> Path:
    """Return the launcher of the package, with this Python."""
    path = tmp_path / "ackctl"
    text = (PROJECT / "packaging" / "bin" / "ackctl").read_text()
    assert text.count("/usr/bin/python3") == 1
    path.write_text(text.replace("/usr/bin/python3", sys.executable))
    path.chmod(0o755)
    return path


def test_ctrl_c_ends_ackctl_in_silence_at_any_moment_of_its_start(launcher: Path) -> None:
    endings = set()
    with FakeServer(backlog=200) as server:  # which never greets
        for milliseconds in range(0, 200, 4):
            command = [str(launcher), "send", "--port", str(server.port), "hello"]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
            try:
                process.wait(milliseconds / 1000)
            except subprocess.TimeoutExpired:
                process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE)
            assert err in (b"", b"ackctl: interrupted (1 not sent)\n")
            endings.add((process.returncode, out))
    assert endings == {(-signal.SIGINT, b"")}


@pytest.mark.parametrize(
    ("name", "value"), [("PYTHONHOME", "/nowhere"), ("PYTHONPATH", "."), ("PYTHONSTARTUP", "x")]
)
def test_the_environment_can_not_break_ackctl(
    launcher: Path, tmp_path: Path, name: str, value: str
) -> None:
    for module in ("queue", "signal", "argparse", "ackd"):
        (tmp_path / f"{module}.py").write_text("raise SystemExit(1)")
    done = subprocess.run(
        [launcher, "--version"],
        cwd=tmp_path,
        env={**os.environ, name: value},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("ackctl ")


def test_without_its_modules_the_launcher_does_not_exit_with_the_status_of_a_refusal(
    launcher: Path,
) -> None:
    launcher.write_text(launcher.read_text().replace(" -I -c", " -I -S -c"))
    done = subprocess.run([launcher, "send", "hello"], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (Status.FAILED, "")
    assert done.stderr == "ackctl: No module named 'ackd'\n"


def test_an_error_of_ackctl_itself_has_a_status_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "argparse.py").write_text('raise RuntimeError("broken\\nin two lines")')
    done = subprocess.run(
        [*COMMAND, "send", "hello"],
        env={**ENVIRONMENT, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (Status.FAILED, "")
    assert done.stderr == (
        f"ackctl: ackctl itself has failed, {tmp_path}/argparse.py:1:"
        " RuntimeError: broken\\nin two lines\n"
    )


def test_ctrl_c_ends_the_loop_of_a_shell() -> None:
    # The shell leads a process group, as under job control, and the whole group gets the signal.
    with FakeServer() as server:
        each = f"{' '.join(COMMAND)} send --port {server.port} hello"
        process = subprocess.Popen(
            ["bash", "-c", f"for n in 1 2 3; do {each}; echo round $n; done; echo end"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            process_group=0,
        )
        with server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"hello\n")
            os.killpg(process.pid, signal.SIGINT)
            out, err = process.communicate(timeout=DEADLINE)
    assert out == b""
    assert err == b"ackctl: interrupted (1 unknown: sent, and perhaps recorded)\n"
    assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("number", SIGNALS)
def test_send_ends_by_the_signal_after_the_counts(number: signal.Signals) -> None:
    with FakeServer() as server, Ackctl("send", "--port", str(server.port), "-") as ackctl:
        with server.accept() as caller:
            caller.send(GREETING)
            ackctl.write(b"one\ntwo\n")
            caller.expect(b"one\ntwo\n")
            caller.send(ACK)
            assert ackctl.read_line() == THANKS
            ackctl.signal(number)
            caller.expect_end()
        complaint = "ackctl: interrupted (1 acknowledged, 1 unknown: sent, and perhaps recorded)\n"
        assert ackctl.ended() == (-number, "", complaint)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("verb", ["ping", "bench"])
def test_a_run_ends_with_its_summary_and_its_end(verb: str, number: signal.Signals) -> None:
    arguments = (verb, "--port", "{port}", "--name", "x")
    with (
        FakeServer() as server,
        Ackctl(*(each.format(port=server.port) for each in arguments)) as ackctl,
        server.accept() as caller,
    ):
        caller.send(GREETING)
        assert ackctl.read_line().startswith("run x: ")
        lines = caller.socket.makefile("rb")
        assert b" number=1 " in lines.readline()
        ackctl.signal(number)
        ackctl.await_delivery(number)
        caller.send(ACK)
        assert b" end=1 " in lines.readline()
        caller.send(ACK)
        status, out, _ = ackctl.ended()
    assert status == 0
    assert "acknowledged" in out


CLOSED = ("sh", "-c", '"$@" 2>&-', "sh")


def test_with_a_closed_standard_error_nothing_goes_to_the_standard_output_instead() -> None:
    for arguments, status in (
        (("send",), 2),
        (("send", "--port", "x", "y"), 2),
        (("send", "--unknown"), 2),
        (("send", "--port", "1", "hello"), 3),
        (("ping", "--port", "1", "--count", "1", "--json"), 3),
        (("bench", "--port", "1", "--seconds", "0.1", "--json"), 3),
        (("probe", "--port", "1", "--json"), 3),
    ):
        assert ackctl(*arguments)[:2] != (0, "")
        ended, out, err = ackctl(*arguments, before=CLOSED)
        assert (ended, err) == (status, "")
        assert all(text.startswith("{") for text in out.splitlines())


def test_with_closed_streams_no_message_goes_to_the_server() -> None:
    all_closed = ("sh", "-c", '"$@" <&- >&- 2>&-', "sh")
    arguments = ("send", "--port", "{port}", "hello")
    with FakeServer() as server:
        ready = [each.format(port=server.port) for each in arguments]
        with Ackctl(*ready, before=all_closed) as started, server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"hello\n")
            caller.send(b"not received: no\n")
            caller.expect_end()
            assert started.ended() == (1, "", "")


def test_with_a_closed_standard_output_help_goes_nowhere() -> None:
    assert ackctl("--help", before=("sh", "-c", '"$@" >&-', "sh")) == (0, "", "")


def test_nohup_keeps_the_signal_of_a_closed_terminal_away() -> None:
    with FakeServer() as server:
        arguments = ("send", "--port", str(server.port), "hello")
        with Ackctl(*arguments, before=("nohup",)) as started, server.accept() as caller:
            caller.send(GREETING)
            caller.expect(b"hello\n")
            started.signal(signal.SIGHUP)
            caller.send(ACK)
            status, out, _ = started.ended()
    assert (status, out) == (0, THANKS)


def test_an_ignored_ctrl_c_stays_ignored_before_a_verb_runs() -> None:
    ignoring = ("sh", "-c", 'trap "" INT; exec "$@"', "sh")
    assert ackctl("--version", before=ignoring)[0] == 0
