"""`ackctl status`: what it shows of a running ackd, and of what is not one."""

import json
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ackd.status import (
    CertificateStatus,
    Clients,
    ClientStatus,
    DaemonStatus,
    Durations,
    JournalStatus,
    LogStatus,
    to_json,
)
from ackd.status_names import abstract_name, socket_path
from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, ackctl
from tests.support.ackctl_terminal import Terminal
from tests.support.daemon_process import Daemon
from tests.support.peer import ACK

HOME = "\x1b[H"
NARROW = ("sh", "-c", 'stty cols 40 rows 12; exec "$@"', "sh")
WRONG = ("", "two", "@", "@a/b", "@a b", "0", "-1", "1.5", "9" * 11, "@" + "n" * 300)


@contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """Answer in the place of an ackd with the number of this process; yield this number."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(abstract_name(os.getpid()))
        listener.listen()

        def answer_all() -> None:
            try:
                while True:
                    asker, _ = listener.accept()
                    with asker:
                        asker.sendall(answer)
            except OSError:  # the end of the test
                return

        answerer = threading.Thread(target=answer_all)
        answerer.start()
        yield str(os.getpid())
        listener.shutdown(socket.SHUT_RDWR)
        answerer.join()


def pid_of(ackd: Daemon) -> str:
    return str(ackd.process.pid)


def test_a_status_shows_what_ackd_does(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        peer.send(b"hello\n" * 3)
        peer.expect(ACK * 3)
        status, out, err = ackctl("status", pid_of(ackd))
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert re.fullmatch(rf"ackd \S+ +process {ackd.process.pid}, since .* \d+ s", lines[0])
    assert re.fullmatch(r"wrong +nothing", lines[1])
    assert re.fullmatch(rf"listens on +127\.0\.0\.1:{ackd.port}", lines[2])
    assert lines[3].endswith("1 now, 1 at most, 4,096 allowed; 1 connection in all")
    assert lines[4].endswith("3 acknowledged, 0 refused; 18 B received")
    assert re.fullmatch("busiest clients +connections +acknowledged +refused +received", lines[-2])
    assert re.fullmatch(r"127\.0\.0\.1 +1 +3 +0 +18 B", lines[-1])


def test_a_trouble_is_shown_and_is_in_the_exit_status(start: StartDaemon) -> None:
    ackd = start("journal_wait: 600\n", managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"one\n")
        ackd.manager.wait_for("STATUS=the journal can't be reached")
        status, out, _ = ackctl("status", pid_of(ackd))
        _, line, _ = ackctl("status", "--json", pid_of(ackd))
    assert status == 6
    trouble = "the journal can't be reached, payloads wait: "
    assert re.search(f"^wrong +{trouble}", out, re.M)
    assert re.search("^journal +can't be reached: .*; 1 connection waiting for it$", out, re.M)
    report = json.loads(line)
    assert report["status"] == 6
    assert report["troubles"][0].startswith(trouble)


def test_json_is_one_line_with_all_that_ackd_reports(start: StartDaemon) -> None:
    ackd = start()
    status, out, err = ackctl("status", "--json", pid_of(ackd))
    assert (status, err, out.count("\n")) == (0, "", 1)
    report = json.loads(out)
    assert report["pid"] == ackd.process.pid
    assert report["status"] == 0
    assert {"clients", "payloads", "rates", "journal", "log", "commits"} <= report.keys()


def test_without_an_ackd_there_is_advice() -> None:
    if os.path.exists(socket_path("@none-of-them")):
        pytest.skip("there is one")
    status, out, err = ackctl("status", "@none-of-them")
    assert (status, out) == (3, "")
    assert err.startswith("ackctl: ackd@none-of-them.service does not run: see `systemctl status")
    status, out, err = ackctl("status", "--json", "@none-of-them")
    assert (status, err) == (3, "")
    assert json.loads(out)["status"] == 3
    status, _, err = ackctl("status", str(os.getpid()))
    assert status == 3
    assert "is no ackd that can be asked" in err


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it asks as another user")
def test_another_user_is_told_who_may_ask(start: StartDaemon) -> None:
    ackd = start()
    as_other = ("setpriv", "--reuid=4321", "--clear-groups")
    status, out, err = ackctl("status", pid_of(ackd), before=as_other)
    assert (status, out) == (2, "")
    assert err == f"ackctl: only root and the user of process {pid_of(ackd)} may ask it\n"


@pytest.mark.parametrize("answer", [b"hello\n", b'{"form": 2}\n', to_json(DaemonStatus())[:-1]])
def test_a_wrong_answer_is_an_error(answer: bytes) -> None:
    with answering(answer) as pid:
        status, out, err = ackctl("status", pid)
    assert (status, out) == (4, "")
    assert err.startswith(f"ackctl: can't read the answer of process {pid}: ")


def test_another_process_can_not_answer_for_ackd(start: StartDaemon) -> None:
    ackd = start()
    ackd.process.kill()
    ackd.wait()
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(abstract_name(ackd.process.pid))
        listener.listen()
        status, out, err = ackctl("status", pid_of(ackd))
    assert (status, out) == (4, "")
    assert err == f"ackctl: another process than {pid_of(ackd)} listens in its place\n"


def test_nothing_in_the_answer_does_anything_to_the_terminal() -> None:
    evil = "\x1b[2J\u202e\r\ud800\n\\"
    hostile = DaemonStatus(
        version=evil,
        unit=evil,
        troubles=(evil,),
        notes=(evil,),
        listeners=(evil,),
        clients=Clients(by_payloads=(ClientStatus(evil, 10**30, 10**30),)),
        journal=JournalStatus(evil, evil, why=evil, obstacle=evil, waits=Durations(p50=1e300)),
        log=LogStatus(place=evil, size=10**30),
        certificates=(CertificateStatus(evil, 0.0, 1e9),),
    )
    with answering(to_json(hostile)) as pid:
        status, out, err = ackctl("status", pid)
    assert (status, err) == (6, "")
    assert "".join(out.splitlines()).isprintable()
    assert r"\x1b[2J\u202e\r" in out


def test_times_that_no_calendar_has_are_no_reason_to_fail() -> None:
    far = DaemonStatus(started=1e300, certificates=(CertificateStatus("x", -1e300, 1e300),))
    with answering(to_json(far)) as pid:
        status, _, err = ackctl("status", pid)
    assert (status, err) == (0, "")


@pytest.mark.parametrize("name", WRONG[1:])
def test_wrong_usage_is_explained(name: str) -> None:
    status, out, err = ackctl("status", "--", name)
    assert (status, out) == (2, "")
    assert err.endswith(
        f"error: argument WHICH: {name!r} is neither @NAME nor the number of a process\n"
    )


# --watch


def test_watch_draws_again_and_again_until_ctrl_c(start: StartDaemon) -> None:
    ackd = start()
    with Terminal("status", "--watch", pid_of(ackd)) as terminal, ackd.peer() as peer:
        assert terminal.read_to("0 acknowledged").startswith(HOME)
        peer.send(b"hello\n")
        peer.expect(ACK)
        shown = terminal.read_to("1 acknowledged")
        assert HOME in shown
        terminal.type("\x03")
        status, _ = terminal.ended()
    assert status == 0


def test_watch_shows_as_much_as_fits_a_small_terminal(start: StartDaemon) -> None:
    ackd = start()
    with Terminal("status", "--watch", pid_of(ackd), before=NARROW) as terminal:
        shown = ""
        while shown.count(HOME) < 3:  # the end of the second block
            shown += terminal.read_to(HOME)
        terminal.type("\x03")
        terminal.ended()
    block = shown.split(HOME)[2]
    lines = block.removesuffix("\x1b[J").replace("\x1b[K", "").splitlines()
    assert len(lines) == 11
    assert all(len(line) <= 40 for line in lines)


def test_watch_goes_on_when_ackd_has_ended(start: StartDaemon) -> None:
    ackd = start()
    with Terminal("status", "--watch", pid_of(ackd)) as terminal:
        terminal.read_to("0 acknowledged")
        ackd.process.kill()
        terminal.read_to("is no ackd that can be asked")
        terminal.type("\x03")
        status, _ = terminal.ended()
    assert status == 0


def test_watch_prints_blocks_into_a_pipe(start: StartDaemon) -> None:
    ackd = start()
    with Ackctl("status", "--watch", pid_of(ackd)) as watching:
        first = watching.read_line()
        while line := watching.read_line().strip():
            assert line.isprintable()
        assert watching.read_line().split()[:2] == first.split()[:2]
        watching.signal(signal.SIGINT)
        status, _, err = watching.ended()
    assert (status, err) == (0, "")


def test_watch_with_json_prints_a_line_each_time(start: StartDaemon) -> None:
    ackd = start()
    with Ackctl("status", "--watch", "--json", pid_of(ackd)) as watching:
        first, second = (json.loads(watching.read_line()) for _ in range(2))
        watching.signal(signal.SIGTERM)
        watching.ended()
    assert first["pid"] == second["pid"]
    assert first["time"] < second["time"]


def test_watch_ends_with_its_reader(start: StartDaemon, tmp_path: Path) -> None:
    ackd = start()
    into_head = ("sh", "-c", '"$@" | head -1', "sh")
    status, out, err = ackctl("status", "--watch", pid_of(ackd), before=into_head)
    assert (status, err) == (0, "")
    assert out.startswith("ackd ")


def test_help_fits_in_80_columns() -> None:
    status, out, _ = ackctl("status", "--help")
    assert status == 0
    assert all(len(line) <= 80 for line in out.splitlines())
