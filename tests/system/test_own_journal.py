"""ackd with a journal namespace of its own: /usr/share/ackd/own-journal, and its --undo."""

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
    audit,
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
# SD_MESSAGE_JOURNAL_USAGE: journald logs at its start how much it may store.
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
    """A machine with a running ackd that records in the system's journal."""
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.run(SWITCH, "--undo")
    installed.run("systemctl", "stop", "ackd")


@pytest.fixture
def switched(server: Machine) -> Machine:
    """A machine whose ackd has been switched to its own journal."""
    server.run(SWITCH)
    return server


@pytest.fixture(params=["open", "sealed"])
def open_or_sealed(request: pytest.FixtureRequest, server: Machine) -> Iterator[Machine]:
    """A machine whose ackd listens itself, or is sealed; it records in the system's journal."""
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
    """Send payloads from the client host, and check that ackd acknowledges all."""
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, "--json", "-")
    lines = "".join(f"{payload}\n" for payload in payloads)
    done = machine.client.run(*command, input=lines, env={"PYTHONPATH": str(PROJECT)}, timeout=120)
    assert json.loads(done.stdout.splitlines()[-1])["acknowledged"] == len(payloads)


def state_of(machine: Machine, unit: str) -> str:
    return machine.run("systemctl", "is-active", unit, check=False).stdout


def exposure(machine: Machine) -> str:
    output = machine.run("systemd-analyze", "security", "ackd.service").stdout
    match = re.search(r"level for ackd.service: ([0-9.]+)", output)
    assert match, output
    return match[1]


def assert_kept(machine: Machine, run: str, report: ClientReport) -> None:
    """Check that every ack was true; records may have been repeated."""
    assert_promise_kept(audit(machine, run, report, namespaces=("ackd",)))


# The journal of each record


def test_records_are_in_the_own_journal_and_not_in_the_systems_journal(switched: Machine) -> None:
    with greeted(switched) as peer:
        exchange(peer, "recorded here")
    ours = (PAYLOAD, "MESSAGE=Buffer: recorded here")
    assert [e["ACKD_BYTES"] for e in own_journal(switched, "-u", "ackd", *ours)] == [b"13"]
    assert switched.journal(*ours) == []
    explained = switched.run("journalctl", OWN, "-x", "-u", "ackd", "-n", "20").stdout
    assert "Subject: A payload has arrived from" in explained
    assert "Buffer: recorded here" in switched.run("systemctl", "status", "ackd").stdout
    both = switched.run("journalctl", "--namespace=+ackd", "-u", "ackd", "-n", "20").stdout
    assert "Started ackd.service" in both
    assert "Buffer: recorded here" in both
    assert exposure(switched) == "1.1"


def test_after_undo_new_records_are_in_the_systems_journal_and_old_ones_in_the_own_journal(
    switched: Machine,
) -> None:
    with greeted(switched) as peer:
        exchange(peer, "before undo")
        switched.run(SWITCH, "--undo")
        exchange(peer, "after undo")
    assert len(switched.journal(PAYLOAD, "MESSAGE=Buffer: after undo")) == 1
    assert own_journal(switched, PAYLOAD)[-1]["MESSAGE"] == b"Buffer: before undo"
    assert "own-journal" not in switched.run("find", "/etc/systemd").stdout


def test_other_instances_are_switched_and_keep_their_clients(server: Machine) -> None:
    server.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\ngreeting: ''\n")
    server.run("systemctl", "start", "ackd@north")
    with connect(server, port=10009) as peer:
        exchange(peer, "to the north")
        server.run(SWITCH)
        exchange(peer, "to the north, in the own journal")
    assert own_journal(server, PAYLOAD)[-1]["_SYSTEMD_UNIT"] == b"ackd@north.service"
    server.run("systemctl", "stop", "ackd@north")


def test_the_switch_does_not_start_an_ackd_that_does_not_run(installed: Machine) -> None:
    installed.run(SWITCH)
    installed.run(SWITCH, "--undo")
    assert state_of(installed, "ackd") == "inactive\n"


def test_an_option_other_than_undo_switches_nothing(installed: Machine) -> None:
    done = installed.run(SWITCH, "--undoo", check=False)
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, f"usage: {SWITCH} [--undo]")
    assert installed.run(SWITCH, "--help").stdout == done.stderr
    assert "own-journal" not in installed.run("find", "/etc/systemd").stdout


# Under load


def test_switching_and_undo_under_load_lose_nothing(open_or_sealed: Machine) -> None:
    run = f"switch-{exposure(open_or_sealed)}"
    with load(open_or_sealed, run, clients=40, depth=16) as clients:
        open_or_sealed.run(SWITCH)
        open_or_sealed.run("systemctl", "restart", "ackd")
        open_or_sealed.run("systemctl", "reload", "ackd")
        open_or_sealed.run(SWITCH, "--undo")
        open_or_sealed.run(SWITCH)
        report = clients.stop()
    assert_exactly_once(open_or_sealed, run, report, namespaces=("", "ackd"))
    assert payloads_in_journal(open_or_sealed, run)
    assert payloads_in_journal(open_or_sealed, run, namespace="ackd")
    assert exposure(open_or_sealed) == run.removeprefix("switch-")
    print(f"{sum(report.sent)} payloads, longest pause {report.longest_pause:.3f} s")


def test_150_000_payloads_at_once_are_recorded_even_without_the_units_rate_limit(
    switched: Machine,
) -> None:
    default = "[Service]\nLogRateLimitIntervalSec=0\nLogRateLimitBurst=0\n"
    switched.put("/run/systemd/system/ackd.service.d/limit.conf", default)
    switched.run("systemctl", "daemon-reload")
    switched.run("systemctl", "restart", "ackd")
    send(switched, *(f"flood-{number}" for number in range(150_000)))
    recorded = payloads_in_journal(switched, "flood", namespace="ackd")
    switched.run("rm", "/run/systemd/system/ackd.service.d/limit.conf")
    assert recorded == {f"flood-{number}": 1 for number in range(150_000)}


# The journald of the own journal


def end_journald(machine: Machine, signal: str) -> None:
    """End the journald of the own journal, and wait until systemd has started another."""

    def pid() -> str:
        return machine.run("systemctl", "show", "--property=MainPID", "--value", JOURNALD).stdout

    before = pid()
    machine.run("systemctl", "kill", f"--signal={signal}", JOURNALD)
    wait_until("another journald has been started", lambda: pid() not in (before, "0\n"))


def test_ending_ackds_own_journald_as_when_idle_loses_nothing(switched: Machine) -> None:
    # One payload at a time: journald ends only when it has nothing to read.
    with load(switched, "idle", clients=1, depth=1) as clients:
        for _ in range(10):
            end_journald(switched, "TERM")
        report = clients.stop()
    assert report.errors == []
    assert_kept(switched, "idle", report)


def test_killing_ackds_own_journald_loses_nothing(switched: Machine) -> None:
    with load(switched, "killed", clients=40, depth=16) as clients:
        for _ in range(25):
            end_journald(switched, "KILL")
        report = clients.stop()
    assert report.errors == []
    assert_kept(switched, "killed", report)


def test_a_killed_journald_is_started_again_before_ackd_sends_anything(switched: Machine) -> None:
    end_journald(switched, "KILL")
    wait_until("its journald runs", lambda: state_of(switched, JOURNALD) == "active\n")


def test_stopping_the_own_journals_socket_stops_ackd_first_and_loses_nothing(
    switched: Machine,
) -> None:
    # A small load: under a large one journald would not get to its signal.
    with load(switched, "stop", clients=2, depth=1) as clients:
        switched.run("systemctl", "stop", SOCKET)
        report = clients.stop()
    assert state_of(switched, "ackd") == "inactive\n"
    switched.run("systemctl", "start", "ackd")
    assert_kept(switched, "stop", report)


def test_restarting_the_own_journals_socket_loses_no_client_and_no_payload(
    switched: Machine,
) -> None:
    with load(switched, "socket", clients=40, depth=16) as clients:
        switched.run("systemctl", "restart", SOCKET)
        report = clients.stop()
    assert report.errors == []
    assert_kept(switched, "socket", report)


# The disk


def test_acknowledged_payloads_are_soon_on_the_disk(switched: Machine) -> None:
    """journald sets OFFLINE after fsync(2), and ONLINE before it writes: JOURNAL_FILE_FORMAT."""

    def written() -> str:
        return switched.run("journalctl", OWN, "-q", "MESSAGE=Buffer: to the disk").stdout

    def synced() -> bool:
        header = switched.run("journalctl", "--header", f"--file={FILES}/system.journal").stdout
        return "State: OFFLINE\n" in header

    with greeted(switched) as peer:
        exchange(peer, "to the disk")
        wait_until("the record is written", written)
        wait_until("the journal file is synced", synced)


def test_the_administrator_can_override_the_settings_of_the_package(switched: Machine) -> None:
    usage = own_journal(switched, USAGE)[-1]["MESSAGE"]
    switched.put("/etc/systemd/journald@ackd.conf.d/50-local.conf", "[Journal]\nSystemMaxUse=96M\n")
    switched.run("systemctl", "restart", JOURNALD)
    assert b"max 96" not in usage
    assert re.search(rb"max 96(\.0)?M", own_journal(switched, USAGE)[-1]["MESSAGE"])
    switched.run("rm", "-r", "/etc/systemd/journald@ackd.conf.d")
    switched.run("systemctl", "restart", JOURNALD)


def test_no_journal_file_is_deleted_because_of_their_number(switched: Machine) -> None:
    with greeted(switched) as peer:
        for number in range(105):  # the default keeps 100
            exchange(peer, f"file-{number}")
            switched.run("journalctl", OWN, "--rotate")
    recorded = payloads_in_journal(switched, "file", namespace="ackd")
    assert recorded == {f"file-{number}": 1 for number in range(105)}


@pytest.fixture
def small_journals(switched: Machine) -> Iterator[Machine]:
    """A machine in which each journal has room for 32 MiB."""
    small = "[Journal]\nSystemMaxUse=32M\nSystemMaxFileSize=8M\n"
    for name in ("journald", "journald@ackd"):
        switched.put(f"/etc/systemd/{name}.conf.d/50-small.conf", small)
    switched.run("systemctl", "restart", JOURNALD, "systemd-journald")
    yield switched
    for name in ("journald", "journald@ackd"):
        switched.run("rm", "-r", f"/etc/systemd/{name}.conf.d")
    switched.run("systemctl", "restart", JOURNALD, "systemd-journald")


def test_neither_journal_uses_the_room_of_the_other(small_journals: Machine) -> None:
    random = Random("a fixed seed")
    # More than the journal has room for; random bytes cannot be compressed.
    lines = [random.randbytes(30_000).hex() for _ in range(2_000)]
    small_journals.run("logger", "-t", "witness", "in the system's journal")
    with greeted(small_journals) as peer:
        exchange(peer, "deleted first")
    send(small_journals, *lines)
    assert own_journal(small_journals, "MESSAGE=Buffer: deleted first") == []
    assert len(small_journals.journal("SYSLOG_IDENTIFIER=witness")) == 1

    with greeted(small_journals) as peer:
        exchange(peer, "in the own journal")
    small_journals.run("systemd-cat", input="".join(f"{line}\n" for line in lines))
    assert small_journals.journal("SYSLOG_IDENTIFIER=witness") == []
    assert len(own_journal(small_journals, "MESSAGE=Buffer: in the own journal")) == 1
