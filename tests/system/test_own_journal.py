"""ackd with a journal of its own: /usr/share/ackd/own-journal, there and back."""

import json
import re
import sys
from collections.abc import Iterator
from random import Random

import pytest

from ackd.records import Kind
from tests.support.peer import ACK, Peer
from tests.support.project import PROJECT

from .support.audit import (
    assert_exactly_once,
    assert_promise_kept,
    load,
    payloads_in_journal,
)
from .support.connections import connect, greeted
from .support.install import install
from .support.load_clients import ClientReport
from .support.machine import MACHINE_ADDRESS, JournalEntry, Machine, wait_until

SWITCH = "/usr/share/ackd/own-journal"
OWN = "--namespace=ackd"
JOURNALD = "systemd-journald@ackd.service"
SOCKET = "systemd-journald@ackd.socket"
FILES = "/var/log/journal/*.ackd"
PAYLOAD = f"MESSAGE_ID={Kind.PAYLOAD.value}"
# SD_MESSAGE_JOURNAL_USAGE, by which journald says at its start how much it may store.
USAGE = "MESSAGE_ID=ec387f577b844b8fa948f33cad9a75e6"
ADDRESS = f"[Socket]\nListenStream=\nListenStream={MACHINE_ADDRESS}:10008\n"


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    install(machine)
    machine.put("/etc/ackd.yaml", f"bind: {MACHINE_ADDRESS}\n")
    machine.put("/etc/systemd/system/ackd.socket.d/address.conf", ADDRESS)
    return machine


@pytest.fixture
def server(installed: Machine) -> Iterator[Machine]:
    """A machine whose ackd records in the system's journal."""
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.run(SWITCH, "--undo")
    installed.run("systemctl", "stop", "ackd")


@pytest.fixture
def apart(server: Machine) -> Machine:
    """One whose ackd has been switched to a journal of its own."""
    server.run(SWITCH)
    return server


@pytest.fixture(params=["open", "sealed"])
def either(request: pytest.FixtureRequest, server: Machine) -> Iterator[Machine]:
    """One whose ackd listens, or is sealed, and records in the system's journal."""
    if request.param == "open":
        yield server
    else:
        server.run("/usr/share/ackd/seal")
        yield server
        server.run("/usr/share/ackd/seal", "--undo")


def own_journal(machine: Machine, *matches: str) -> list[JournalEntry]:
    machine.run("journalctl", OWN, "--sync")
    return machine.journal(OWN, *matches)


def exchange(peer: Peer, payload: str) -> None:
    peer.send(payload.encode() + b"\n")
    peer.expect(ACK)


def send(machine: Machine, *payloads: str) -> None:
    """Have the client host send payloads, of which each is acknowledged."""
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, "--json", "-")
    lines = "".join(f"{payload}\n" for payload in payloads)
    done = machine.client.run(*command, input=lines, env={"PYTHONPATH": str(PROJECT)}, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1])["acknowledged"] == len(payloads)


def state_of(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit, check=False).stdout


def exposure(machine: Machine) -> str:
    said = machine.run("systemd-analyze", "security", "ackd.service").stdout
    match = re.search(r"level for ackd.service: ([0-9.]+)", said)
    assert match, said
    return match[1]


def assert_kept(machine: Machine, run: str, report: ClientReport) -> None:
    """Check that no ack was untrue; records may have been repeated."""
    assert_promise_kept(audit(machine, run, report, namespaces=("ackd",)))


# What is where


def test_records_are_in_the_own_journal_and_not_in_the_systems(apart: Machine) -> None:
    with greeted(apart) as peer:
        exchange(peer, "set apart")
    ours = (PAYLOAD, "MESSAGE=Buffer: set apart")
    assert [e["ACKD_BYTES"] for e in own_journal(apart, "-u", "ackd", *ours)] == [b"9"]
    assert apart.journal(*ours) == []
    explained = apart.run("journalctl", OWN, "-x", "-u", "ackd", "-n", "20").stdout
    assert "Subject: A payload has arrived from" in explained
    assert "Buffer: set apart" in apart.run("systemctl", "status", "ackd").stdout
    both = apart.run("journalctl", "--namespace=+ackd", "-u", "ackd", "-n", "20").stdout
    assert "Started ackd.service" in both
    assert "Buffer: set apart" in both
    assert exposure(apart) == "1.1"


def test_after_the_way_back_they_are_in_the_systems_and_the_others_are_still_there(
    apart: Machine,
) -> None:
    with greeted(apart) as peer:
        exchange(peer, "before the way back")
        apart.run(SWITCH, "--undo")
        exchange(peer, "after the way back")
    assert len(apart.journal(PAYLOAD, "MESSAGE=Buffer: after the way back")) == 1
    assert own_journal(apart, PAYLOAD)[-1]["MESSAGE"] == b"Buffer: before the way back"
    assert "own-journal" not in apart.run("find", "/etc/systemd").stdout


def test_further_instances_are_switched_and_keep_their_clients(server: Machine) -> None:
    server.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\ngreeting: ''\n")
    server.run("systemctl", "start", "ackd@north")
    with connect(server, port=10009) as peer:
        exchange(peer, "to the north")
        server.run(SWITCH)
        exchange(peer, "to the north, apart")
    assert own_journal(server, PAYLOAD)[-1]["_SYSTEMD_UNIT"] == b"ackd@north.service"
    server.run("systemctl", "stop", "ackd@north")


def test_what_does_not_run_is_not_started(installed: Machine) -> None:
    installed.run(SWITCH)
    installed.run(SWITCH, "--undo")
    assert state_of(installed, "ackd") == "inactive\n"


def test_another_word_than_undo_switches_nothing(installed: Machine) -> None:
    done = installed.run(SWITCH, "--help", check=False)
    assert (done.returncode, done.stderr) == (2, f"usage: {SWITCH} [--undo]\n")
    assert "own-journal" not in installed.run("find", "/etc/systemd").stdout


# Under load


def test_switching_there_and_back_under_load_leaves_no_trace(either: Machine) -> None:
    run = f"switch-{exposure(either)}"
    with load(either, run, clients=40, depth=16) as clients:
        either.run(SWITCH)
        either.run("systemctl", "restart", "ackd")
        either.run("systemctl", "reload", "ackd")
        either.run(SWITCH, "--undo")
        either.run(SWITCH)
        report = clients.stop()
    assert_exactly_once(either, run, report, namespaces=("", "ackd"))
    assert payloads_in_journal(either, run)
    assert payloads_in_journal(either, run, namespace="ackd")
    assert exposure(either) == run.removeprefix("switch-")
    print(f"{sum(report.sent)} payloads, longest pause {report.longest_pause:.3f} s")


def test_150_000_payloads_in_one_go_are_there_even_without_the_units_own_limit(
    apart: Machine,
) -> None:
    default = "[Service]\nLogRateLimitIntervalSec=0\nLogRateLimitBurst=0\n"
    apart.put("/run/systemd/system/ackd.service.d/limit.conf", default)
    apart.run("systemctl", "daemon-reload")
    apart.run("systemctl", "restart", "ackd")
    send(apart, *(f"flood-{number}" for number in range(150_000)))
    recorded = payloads_in_journal(apart, "flood", namespace="ackd")
    apart.run("rm", "/run/systemd/system/ackd.service.d/limit.conf")
    assert recorded == {f"flood-{number}": 1 for number in range(150_000)}


# Its journald


def end_journald(machine: Machine, signal: str) -> None:
    """Return when another one is there."""

    def pid() -> str:
        return machine.run("systemctl", "show", "--property=MainPID", "--value", JOURNALD).stdout

    before = pid()
    machine.run("systemctl", "kill", f"--signal={signal}", JOURNALD)
    wait_until("another has been started", lambda: pid() not in (before, "0\n"))


def test_its_journald_ended_as_it_ends_by_itself_when_idle_loses_nothing(apart: Machine) -> None:
    # One payload at a time: it does not end before it has nothing to read.
    with load(apart, "idle", clients=1, depth=1) as clients:
        for _ in range(10):
            end_journald(apart, "TERM")
        report = clients.stop()
    assert report.errors == []
    assert_kept(apart, "idle", report)


def test_its_journald_killed_loses_nothing(apart: Machine) -> None:
    with load(apart, "killed", clients=40, depth=16) as clients:
        for _ in range(25):
            end_journald(apart, "KILL")
        report = clients.stop()
    assert report.errors == []
    assert_kept(apart, "killed", report)


def test_its_journald_is_there_again_before_anything_is_sent(apart: Machine) -> None:
    end_journald(apart, "KILL")
    wait_until("it runs", lambda: state_of(apart, JOURNALD) == "active\n")


def test_its_socket_stopped_under_load_stops_ackd_first_and_loses_nothing(apart: Machine) -> None:
    # Not so much that its journald never comes to its signal.
    with load(apart, "stop", clients=2, depth=1) as clients:
        apart.run("systemctl", "stop", SOCKET)
        report = clients.stop()
    assert state_of(apart, "ackd") == "inactive\n"
    apart.run("systemctl", "start", "ackd")
    assert_kept(apart, "stop", report)


def test_its_socket_restarted_under_load_loses_nobody_and_nothing(apart: Machine) -> None:
    with load(apart, "socket", clients=40, depth=16) as clients:
        apart.run("systemctl", "restart", SOCKET)
        report = clients.stop()
    assert report.errors == []
    assert_kept(apart, "socket", report)


# The disk


def test_what_is_acknowledged_is_on_the_disk_soon(apart: Machine) -> None:
    """journald sets OFFLINE after fsync(2), ONLINE before it writes: see JOURNAL_FILE_FORMAT."""

    def written() -> str:
        return apart.run("journalctl", OWN, "-q", "MESSAGE=Buffer: to the disk").stdout

    def synced() -> bool:
        header = apart.run("journalctl", "--header", f"--file={FILES}/system.journal").stdout
        return "State: OFFLINE\n" in header

    with greeted(apart) as peer:
        exchange(peer, "to the disk")
        wait_until("it is written", written)
        wait_until("it is synced", synced)


def test_the_administrator_overrides_what_the_package_sets(apart: Machine) -> None:
    says = own_journal(apart, USAGE)[-1]["MESSAGE"]
    apart.put("/etc/systemd/journald@ackd.conf.d/50-local.conf", "[Journal]\nSystemMaxUse=32M\n")
    apart.run("systemctl", "restart", JOURNALD)
    assert b"max 32" not in says
    assert re.search(rb"max 32(\.0)?M", own_journal(apart, USAGE)[-1]["MESSAGE"])
    apart.run("rm", "-r", "/etc/systemd/journald@ackd.conf.d")
    apart.run("systemctl", "restart", JOURNALD)


def test_no_file_is_deleted_for_the_number_of_files(apart: Machine) -> None:
    with greeted(apart) as peer:
        for number in range(105):  # the default keeps 100
            exchange(peer, f"file-{number}")
            apart.run("journalctl", OWN, "--rotate")
    recorded = payloads_in_journal(apart, "file", namespace="ackd")
    assert recorded == {f"file-{number}": 1 for number in range(105)}


@pytest.fixture
def crammed(apart: Machine) -> Iterator[Machine]:
    """One in which either journal has room for 32 MiB."""
    small = "[Journal]\nSystemMaxUse=32M\nSystemMaxFileSize=8M\n"
    for name in ("journald", "journald@ackd"):
        apart.put(f"/etc/systemd/{name}.conf.d/50-small.conf", small)
    apart.run("systemctl", "restart", JOURNALD, "systemd-journald")
    yield apart
    for name in ("journald", "journald@ackd"):
        apart.run("rm", "-r", f"/etc/systemd/{name}.conf.d")
    apart.run("systemctl", "restart", JOURNALD, "systemd-journald")


def test_neither_journal_takes_the_others_room(crammed: Machine) -> None:
    random = Random("more than has room, and can't be compressed")
    lines = [random.randbytes(30_000).hex() for _ in range(2_000)]
    crammed.run("logger", "-t", "witness", "in the system's journal")
    with greeted(crammed) as peer:
        exchange(peer, "the first to go")
    send(crammed, *lines)
    assert own_journal(crammed, "MESSAGE=Buffer: the first to go") == []
    assert len(crammed.journal("SYSLOG_IDENTIFIER=witness")) == 1

    with greeted(crammed) as peer:
        exchange(peer, "in the own journal")
    crammed.run("systemd-cat", input="".join(f"{line}\n" for line in lines))
    assert crammed.journal("SYSLOG_IDENTIFIER=witness") == []
    assert len(own_journal(crammed, "MESSAGE=Buffer: in the own journal")) == 1
