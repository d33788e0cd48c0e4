"""`ackctl status` on a real system: who may ask, and how it takes stops, restarts and crashes."""

import json
from collections.abc import Iterator

import pytest

from ackd.status import DaemonStatus, from_json
from tests.support.peer import ACK

from .support.audit import assert_exactly_once, load
from .support.connections import greeted
from .support.machine import Machine, wait_until

SOCKET, PROXY = "ackd-status.socket", "ackd-status.service"
OTHER = ("setpriv", "--reuid=4321", "--regid=4321")
NOBODY_ELSE = (*OTHER, "--clear-groups")
# What systemctl says about a unit that a socket could start again.
STILL_ACTIVE = ("can still be activated", "triggering units")
ASK = """
import socket, sys
asker = socket.socket(socket.AF_UNIX)
asker.connect(sys.argv[1])
while part := asker.recv(65536):
    sys.stdout.write(part.decode())
"""


@pytest.fixture
def sealed(server: Machine) -> Iterator[Machine]:
    server.run("/usr/share/ackd/seal")
    yield server
    server.run("/usr/share/ackd/seal", "--undo")


def status_of(machine: Machine, *arguments: str, user: tuple[str, ...] = ()) -> dict[str, object]:
    done = machine.run(*user, "ackctl", "status", "--json", *arguments)
    status: dict[str, object] = json.loads(done.stdout)
    return status


@pytest.fixture
def member(server: Machine) -> tuple[str, ...]:
    """Return what runs a command as a user in the group systemd-journal."""
    group = server.run("getent", "group", "systemd-journal").stdout.split(":")[2]
    return (*OTHER, f"--groups={group}")


def is_active(machine: Machine, unit: str) -> bool:
    return machine.run("systemctl", "--quiet", "is-active", unit, check=False).returncode == 0


def exchange(machine: Machine) -> None:
    with greeted(machine) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


# Who may ask


def test_root_sees_what_ackd_does(server: Machine) -> None:
    exchange(server)
    out = server.run("ackctl", "status").stdout
    assert "ackd.service, since" in out
    assert "1 acknowledged, 0 refused" in out
    status = status_of(server)
    assert status["unit"] == "ackd.service"
    assert status["pid"] == server.pid_of("ackd")
    assert status["status"] == 0


def test_the_group_that_may_read_the_journal_may_ask_and_nobody_else(
    server: Machine, member: tuple[str, ...]
) -> None:
    assert "ackd.service, since" in server.run(*member, "ackctl", "status").stdout
    other = server.run(*NOBODY_ELSE, "ackctl", "status", check=False)
    assert (other.returncode, other.stdout) == (2, "")
    assert "join the group systemd-journal" in other.stderr


def test_a_member_of_the_group_reaches_nothing_else_of_ackd(
    server: Machine, member: tuple[str, ...]
) -> None:
    assert server.run(*member, "ls", "/run/ackd/", check=False).returncode != 0
    pid = str(server.pid_of("ackd"))
    assert server.run(*member, "ackd", "--reload", pid, check=False).returncode == 1


def test_root_needs_no_proxy(server: Machine) -> None:
    server.run("systemctl", "stop", SOCKET)
    status_of(server)
    server.run("systemctl", "start", SOCKET)


def test_other_programs_get_the_report_as_json(server: Machine) -> None:
    report = server.python(ASK, "/run/ackd.status").stdout
    status: DaemonStatus = from_json(report.encode())
    assert status.listeners == ("192.168.150.1:10008",)


# Stops, restarts and crashes


def test_nobody_starts_a_stopped_ackd_by_asking(server: Machine, member: tuple[str, ...]) -> None:
    status_of(server, user=member)
    stopped = server.run("systemctl", "stop", "ackd")
    assert not any(text in stopped.stdout + stopped.stderr for text in STILL_ACTIVE)
    for user in ((), member):
        asked = server.run(*user, "ackctl", "status", check=False)
        assert asked.returncode == 3
        assert "ackd.service does not run" in asked.stderr
    assert not is_active(server, "ackd")
    server.run("systemctl", "start", "ackd")
    status_of(server, user=member)


def test_before_the_first_start_ackd_does_not_run(installed: Machine) -> None:
    installed.run("systemctl", "stop", "ackd", SOCKET)
    asked = installed.run("ackctl", "status", check=False)
    assert (asked.returncode, asked.stdout) == (3, "")


@pytest.mark.parametrize("who", ["root", "member"])
def test_restarts_under_load_lose_no_question_and_no_payload(
    server: Machine, member: tuple[str, ...], who: str
) -> None:
    user = member if who == "member" else ()
    run = f"asked-by-{who}"
    with load(server, run, clients=5, depth=1) as clients:
        clients.await_acks(100)
        for _ in range(2):
            before = status_of(server)["pid"]
            restart = server.popen("systemctl", "restart", "ackd")
            while restart.poll() is None:
                status_of(server, user=user)
            assert restart.returncode == 0
            assert status_of(server)["pid"] != before
        report = clients.stop()
    assert_exactly_once(server, run, report)


def test_after_a_crash_the_next_process_answers(server: Machine) -> None:
    before = server.pid_of("ackd")
    server.run("systemctl", "kill", "--signal=KILL", "ackd")

    def next_answers() -> bool:
        asked = server.run("ackctl", "status", "--json", check=False)
        return asked.returncode == 0 and json.loads(asked.stdout)["pid"] != before

    wait_until("the next process answers", next_answers)


def test_the_socket_comes_back_after_its_own_stop(server: Machine, member: tuple[str, ...]) -> None:
    status_of(server, user=member)
    server.run("systemctl", "stop", SOCKET)
    assert server.run(*member, "ackctl", "status", check=False).returncode == 3
    server.run("systemctl", "restart", "ackd")
    status_of(server, user=member)


def test_questions_leave_no_records(server: Machine, member: tuple[str, ...]) -> None:
    cursor = server.journal("-n", "1")[-1]["__CURSOR"].decode()
    status_of(server, user=member)
    assert is_active(server, PROXY)
    server.run("systemctl", "stop", PROXY)
    new = server.journal(f"--after-cursor={cursor}", "-u", PROXY)
    assert [entry["MESSAGE"] for entry in new] == []


def test_a_hung_ackd_is_reported_as_such(server: Machine, member: tuple[str, ...]) -> None:
    server.run("systemctl", "kill", "--signal=STOP", "ackd")
    asked = [server.run(*user, "ackctl", "status", check=False) for user in ((), member)]
    server.run("systemctl", "kill", "--signal=CONT", "ackd")
    for answer in asked:
        assert answer.returncode == 4
        assert "does not answer within 10 s" in answer.stderr


# Variants


def test_the_sealed_variant_answers(sealed: Machine, member: tuple[str, ...]) -> None:
    exchange(sealed)
    for user in ((), member):
        assert status_of(sealed, user=user)["listeners"] == ["192.168.150.1:10008"]
    sealed.run("systemctl", "restart", "ackd")
    status_of(sealed, user=member)


def test_each_instance_has_its_own_status(server: Machine, member: tuple[str, ...]) -> None:
    server.put("/etc/ackd/two.yaml", "port: 10009\n")
    server.run("systemctl", "start", "ackd@two")
    two = status_of(server, "@two")
    assert status_of(server, "@two", user=member)["unit"] == "ackd@two.service"
    assert two["unit"] == "ackd@two.service"
    assert two["listeners"] == ["127.0.0.1:10009", "[::1]:10009"]
    server.run("systemctl", "stop", "ackd@two")
    for user in ((), member):
        assert server.run(*user, "ackctl", "status", "@two", check=False).returncode == 3
        assert status_of(server, user=user)["unit"] == "ackd.service"


def test_the_journal_of_its_own_is_named(server: Machine) -> None:
    server.run("/usr/share/ackd/own-journal")
    journal = status_of(server)["journal"]
    server.run("/usr/share/ackd/own-journal", "--undo")
    assert isinstance(journal, dict)
    assert journal["journald"] == "journald@ackd"
    assert journal["reachable"] is True


def test_the_proxy_has_no_more_rights_than_it_needs(server: Machine) -> None:
    line = server.run("systemd-analyze", "security", PROXY).stdout.splitlines()[-1]
    assert float(line.split(": ")[1].split()[0]) <= 0.6


def test_an_unknown_group_does_not_keep_ackd_from_starting(
    server: Machine, member: tuple[str, ...]
) -> None:
    server.put(
        f"/run/systemd/system/{SOCKET}.d/group.conf", "[Socket]\nSocketGroup=no-such-group\n"
    )
    server.run("systemctl", "stop", "ackd", SOCKET)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "start", "ackd")
    exchange(server)
    server.run("rm", "-r", f"/run/systemd/system/{SOCKET}.d")
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "reset-failed", SOCKET, check=False)
    server.run("systemctl", "restart", "ackd")
    status_of(server, user=member)
