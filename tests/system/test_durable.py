"""ackd with a log on the disk: /usr/share/ackd/durable, and its --undo."""

import re
from collections.abc import Iterator

import pytest

from ackd.records import Kind
from tests.support.peer import ACK, Peer

from .support.audit import assert_exactly_once, assert_promise_kept, audit, load
from .support.connections import connect, greeted
from .support.install import install
from .support.machine import MACHINE_ADDRESS, Machine, wait_until

SWITCH = "/usr/share/ackd/durable"
SEAL, OWN_JOURNAL = "/usr/share/ackd/seal", "/usr/share/ackd/own-journal"
PAYLOAD = f"MESSAGE_ID={Kind.PAYLOAD.value}"
JOURNAL = f"bind: {MACHINE_ADDRESS}\n"
DISK = f"{JOURNAL}durability: disk\n"


@pytest.fixture
def server(installed: Machine) -> Iterator[Machine]:
    """A machine with a running ackd whose acks wait for the journal only."""
    installed.put("/etc/ackd.yaml", JOURNAL)
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.put("/etc/ackd.yaml", JOURNAL)
    for switch in (SWITCH, OWN_JOURNAL, SEAL):
        installed.run(switch, "--undo")
    installed.run("systemctl", "stop", "ackd")


@pytest.fixture
def durable(server: Machine) -> Machine:
    """A machine whose ackd has a log on the disk."""
    server.put("/etc/ackd.yaml", DISK)
    server.run(SWITCH)
    return server


def exchange(peer: Peer, payload: str) -> None:
    peer.send(payload.encode() + b"\n")
    peer.expect(ACK)


def exposure(machine: Machine) -> str:
    output = machine.run("systemd-analyze", "security", "ackd.service").stdout
    match = re.search(r"level for ackd.service: ([0-9.]+)", output)
    assert match, output
    return match[1]


def log_files(machine: Machine) -> list[str]:
    return machine.run("ls", "/var/lib/ackd/").stdout.split()


# The switch


def test_the_exposure_is_that_of_the_manual(server: Machine) -> None:
    server.run(SWITCH)
    assert exposure(server) == "1.1"
    server.run(SEAL)
    assert exposure(server) == "0.2"
    server.run(SWITCH, "--undo")
    assert exposure(server) == "0.2"


def test_the_switch_says_what_is_left_to_do(server: Machine) -> None:
    done = server.run(SWITCH)
    assert done.stdout == (
        "Now write `durability: disk` into /etc/ackd.yaml, and run: systemctl restart ackd\n"
    )
    assert log_files(server) == []
    server.put("/etc/ackd.yaml", DISK)
    server.run("systemctl", "restart", "ackd")
    assert "control" in log_files(server)
    with greeted(server) as peer:
        exchange(peer, "on the disk")
    assert server.run(SWITCH).stdout == ""


def test_without_the_switch_the_service_does_not_start_and_says_what_to_do(
    server: Machine,
) -> None:
    server.put("/etc/ackd.yaml", DISK)
    with greeted(server) as peer:
        assert server.run("systemctl", "restart", "ackd", check=False).returncode != 0
        (line,) = server.journal("-u", "ackd", "--grep=/usr/share/ackd/durable", "-n", "1")
        assert b"durability: disk" in line["MESSAGE"]
        server.run(SWITCH)
        exchange(peer, "the client has waited")


def test_undo_is_refused_while_a_configuration_needs_the_log(durable: Machine) -> None:
    done = durable.run(SWITCH, "--undo", check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "durable: /etc/ackd.yaml says `durability: disk`: write `durability: journal` first\n"
    )
    with greeted(durable) as peer:
        exchange(peer, "still on the disk")


def test_a_switch_that_fails_leaves_everything_as_it_was(server: Machine) -> None:
    server.put("/etc/ackd.yaml", f"{DISK}port: 70000\n")
    done = server.run(SWITCH, check=False)
    assert done.returncode == 1
    assert "durable: /etc/ackd.yaml:3:7: port: 70000 is not between" in done.stderr
    server.put("/etc/ackd.yaml", JOURNAL)
    server.put("/usr/share/ackd/durable.conf", "[Service]\nExecStartPre=/usr/bin/false\n")
    done = server.run(SWITCH, check=False)
    assert done.returncode == 1
    assert done.stderr.endswith(f"{SWITCH}: failed; everything is as it was before\n")
    assert "durable" not in server.run("find", "/etc/systemd").stdout
    install(server)
    server.put("/etc/ackd.yaml", JOURNAL)
    with greeted(server) as peer:
        exchange(peer, "as before")


def test_an_instance_has_a_log_of_its_own(durable: Machine) -> None:
    text = f"bind: {MACHINE_ADDRESS}\nport: 10009\ngreeting: ''\ndurability: disk\n"
    durable.put("/etc/ackd/north.yaml", text)
    durable.run("systemctl", "start", "ackd@north")
    with connect(durable, port=10009) as peer:
        exchange(peer, "to the north")
    assert "control" in durable.run("ls", "/var/lib/ackd@north/").stdout
    durable.run("systemctl", "stop", "ackd@north")
    durable.run("rm", "/etc/ackd/north.yaml")


def await_journal(machine: Machine) -> None:
    """Wait until the journal has what the log on the disk has: acks do not wait for that."""
    status = ("systemctl", "show", "--property=StatusText", "ackd")
    waits = "wait for the journal"
    wait_until("the journal has caught up", lambda: waits not in machine.run(*status).stdout, 300)


# Under load, with the other switches


def test_all_switches_in_any_order_under_load_lose_nothing(server: Machine) -> None:
    with load(server, "switches", clients=10, depth=1) as clients:
        server.put("/etc/ackd.yaml", DISK)
        server.run(SWITCH)
        server.run(OWN_JOURNAL)
        server.run("systemctl", "restart", "ackd")
        server.put("/etc/ackd.yaml", JOURNAL)
        server.run(SWITCH, "--undo")
        server.put("/etc/ackd.yaml", DISK)
        server.run(SWITCH)
        server.run(OWN_JOURNAL, "--undo")
        report = clients.stop()
    assert report.errors == []
    await_journal(server)
    assert_promise_kept(audit(server, "switches", report, namespaces=("", "ackd")))


def test_the_sealed_service_has_a_log_on_the_disk(durable: Machine) -> None:
    durable.run(SEAL)
    with load(durable, "sealed", clients=40, depth=16) as clients:
        durable.run("systemctl", "restart", "ackd")
        report = clients.stop()
    assert report.errors == []
    await_journal(durable)
    assert_exactly_once(durable, "sealed", report)
    assert "control" in log_files(durable)


# journald


def test_payloads_that_need_no_room_in_the_journal_do_not_fill_the_log_for_ever(
    server: Machine,
) -> None:
    """journald stores equal payloads once, so they never fill a file that it would archive."""
    server.put("/etc/ackd.yaml", f"{DISK}wal_size: {16 << 20}\njournal_wait: 300\n")
    server.run(SWITCH)
    with greeted(server) as peer:
        peer.socket.settimeout(300)
        for _ in range(400):
            exchange(peer, "equal" * 12_000)


def test_acks_go_on_while_journald_is_frozen_and_killed(durable: Machine) -> None:
    with greeted(durable) as peer:
        exchange(peer, "before")
        durable.run("systemctl", "kill", "--signal=STOP", "systemd-journald")
        for number in range(2000):
            exchange(peer, f"frozen {number}")
        durable.run("systemctl", "kill", "--signal=KILL", "systemd-journald")
        for number in range(2000):
            exchange(peer, f"killed {number}")
    durable.run("systemctl", "start", "systemd-journald")  # which waits until it runs again

    def recorded() -> bool:
        return len(durable.journal(PAYLOAD, "MESSAGE=Buffer: killed 1999")) > 0

    wait_until("the journal has caught up", recorded)
    entries = durable.journal(PAYLOAD, "-u", "ackd", "--grep=frozen|killed")
    texts = [e["MESSAGE"] for e in entries if not e.all("ACKD_REPEATED")]
    frozen = [b"Buffer: frozen %d" % number for number in range(2000)]
    killed = [b"Buffer: killed %d" % number for number in range(2000)]
    assert list(dict.fromkeys(texts)) == [*frozen, *killed]
