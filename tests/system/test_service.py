"""ackd as a service of a real Debian system, as its administrator sees it."""

import json
import re
import sys
from collections.abc import Iterator

import pytest

from ackd.records import Kind
from tests.support.peer import ACK, GREETING
from tests.support.project import PROJECT

from .accounts import assert_no_lie, assert_true, compare, load, payloads_in_journal
from .installed import HERE, MODULES, install
from .machine import CLIENT_ADDRESS, INTERFACE, MACHINE_ADDRESS, Machine, wait_until
from .network import connect, greeted


def send(machine: Machine, *payloads: str) -> int:
    """Have the client host send payloads; return ackctl's exit status."""
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, *payloads)
    return machine.client.run(*command, check=False, env={"PYTHONPATH": str(PROJECT)}).returncode


def send_signal(machine: Machine, name: str) -> None:
    """Send a signal to the daemon, past systemd."""
    machine.run("sh", "-c", f"kill -{name} {machine.pid_of('ackd')}")


def property_of(machine: Machine, name: str, unit: str = "ackd") -> str:
    return machine.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()


def status_text(machine: Machine) -> str:
    return property_of(machine, "StatusText")


# Start, stop and status


def test_it_starts_serves_and_stops(served: Machine) -> None:
    assert send(served, "this data will send to server!") == 0
    entry = served.journal("-u", "ackd", f"MESSAGE_ID={Kind.PAYLOAD.value}")[-1]
    assert entry["MESSAGE"] == b"Buffer: this data will send to server!"
    assert entry["ACKD_PEER"] == CLIENT_ADDRESS.encode()
    assert entry["SYSLOG_IDENTIFIER"] == b"ackd"
    wait_until(
        "the status is told",
        lambda: status_text(served) == "clients: 0; payloads: 1 acknowledged, 0 refused",
    )
    served.run("systemctl", "stop", "ackd")
    assert property_of(served, "Result") == "success"
    assert send(served, "hello") == 3


def test_a_stop_ends_every_connection_well(served: Machine) -> None:
    with greeted(served) as busy, greeted(served) as idle:
        busy.send(b"hello\n" * 1000 + b"half a line")
        busy.expect(ACK)
        served.run("systemctl", "stop", "ackd")
        busy.expect(ACK * 999)
        busy.expect_end()
        idle.expect_end()


def test_it_has_a_user_of_its_own_and_no_capability(served: Machine) -> None:
    pid = served.pid_of("ackd")
    status = served.run("cat", f"/proc/{pid}/status").stdout
    assert re.search(r"^Uid:\s+6\d{4}\s", status, re.M)  # a dynamic user
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)


def test_there_is_no_path_that_it_can_write(served: Machine) -> None:
    pid = str(served.pid_of("ackd"))
    user = served.run("stat", "--format=%u", f"/proc/{pid}").stdout.strip()
    as_it = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
    writable = "find / -path /proc -prune -o '(' -type d -o -type f ')' -writable -print"
    found = served.run(
        *("nsenter", f"--target={pid}", "--mount", "--", *as_it, "sh", "-c", writable), check=False
    ).stdout.splitlines()
    # By which a service asks to be told of memory pressure, from systemd 254 on; it keeps nothing.
    assert [path for path in found if not path.endswith("/ackd.service/memory.pressure")] == []


def test_the_journal_explains_each_record(served: Machine) -> None:
    assert send(served, "hello") == 0
    explained = served.run("journalctl", "-x", "-u", "ackd", "-n", "20").stdout
    assert f"Subject: A payload has arrived from {CLIENT_ADDRESS}" in explained
    assert "Subject: ackd listens" in explained


def test_a_second_instance_has_a_configuration_of_its_own(served: Machine) -> None:
    served.put("/etc/ackd/north.yaml", f"{HERE}port: 10009\ngreeting: North\n")
    served.run("systemctl", "start", "ackd@north")
    with connect(served, port=10009) as peer:
        peer.expect(b"North\n")
        peer.send(b"hello\n")
        peer.expect(ACK)
    served.run("systemctl", "stop", "ackd@north")
    assert send(served, "hello") == 0


# Reload


def test_a_reload_is_done_when_it_returns(served: Machine) -> None:
    with greeted(served) as stays:
        served.put("/etc/ackd.yaml", f"{HERE}greeting: Welcome\n")
        served.run("systemctl", "reload", "ackd")
        with connect(served) as new:
            new.expect(b"Welcome\n")
        stays.send(b"hello\n")
        stays.expect(ACK)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (f"{HERE}port: 70000\n", "/etc/ackd.yaml:2:7: port: 70000 is not between 0 and 65535"),
        (
            f"{HERE}port: 22222\n",
            f"can't listen on {MACHINE_ADDRESS}:22222: Address already in use",
        ),
    ],
)
def test_a_reload_that_fails_says_so_and_changes_nothing(
    served: Machine, settings: str, reason: str
) -> None:
    with served.popen("nc", "-l", MACHINE_ADDRESS, "22222"):
        wait_until("somebody listens", lambda: "22222" in served.run("ss", "-tlnH").stdout)
        served.put("/etc/ackd.yaml", f"{settings}greeting: Welcome\n")
        assert served.run("systemctl", "reload", "ackd", check=False).returncode == 1
    told = served.journal(f"MESSAGE_ID={Kind.NOT_RELOADED.value}")[-1]["MESSAGE"].decode()
    assert reason in told
    with greeted(served):
        pass
    assert property_of(served, "ActiveState") == "active"


# Restart


def test_ten_restarts_under_load_leave_no_trace(served: Machine) -> None:
    with load(served, "restarts", clients=40, depth=16) as clients:
        for _ in range(10):
            before = served.pid_of("ackd")
            served.run("systemctl", "restart", "ackd")
            assert served.pid_of("ackd") != before
        account = clients.stop()
    assert_true(served, "restarts", account)
    print(f"{sum(account.sent)} payloads, longest pause {account.longest_pause:.3f} s")


def test_a_half_sent_payload_outlives_a_restart(served: Machine) -> None:
    with greeted(served) as peer:
        peer.send(b"one\ntwo and a h")
        peer.expect(ACK)
        served.run("systemctl", "restart", "ackd")
        peer.send(b"alf\n")
        peer.expect(ACK)
        served.run("systemctl", "restart", "ackd")
        peer.send(b"three\n")
        peer.expect(ACK)
    entries = served.journal("-u", "ackd", f"MESSAGE_ID={Kind.PAYLOAD.value}")[-3:]
    assert [entry["MESSAGE"] for entry in entries] == [
        b"Buffer: one",
        b"Buffer: two and a half",
        b"Buffer: three",
    ]
    assert [entry["ACKD_SEQUENCE"] for entry in entries] == [b"1", b"2", b"3"]
    assert len({entry["ACKD_CONNECTION"] for entry in entries}) == 1


def test_a_restart_does_not_keep_connections_in_the_store(served: Machine) -> None:
    with greeted(served) as peer:
        served.run("systemctl", "restart", "ackd")
        peer.send(b"hello\n")
        peer.expect(ACK)
        assert property_of(served, "NFileDescriptorStore") == "1"  # the listener


def test_a_stored_listener_that_is_not_configured_any_more_is_dropped(served: Machine) -> None:
    served.put("/etc/ackd.yaml", f"{HERE}port: 10011\n")
    served.run("systemctl", "restart", "ackd")
    assert send(served, "hello") == 3
    with connect(served, port=10011) as peer:
        peer.expect(GREETING)
    assert property_of(served, "NFileDescriptorStore") == "1"


def listening_on(machine: Machine) -> bytes:
    return machine.journal("-u", "ackd", f"MESSAGE_ID={Kind.LISTENING.value}")[-1]["MESSAGE"]


def test_a_port_that_the_system_has_chosen_stays_over_restarts_and_crashes(served: Machine) -> None:
    served.put("/etc/ackd.yaml", f"{HERE}port: 0\n")
    served.run("systemctl", "restart", "ackd")
    before = listening_on(served)
    served.run("systemctl", "restart", "ackd")
    assert listening_on(served) == before
    served.run("systemctl", "reload", "ackd")
    assert listening_on(served) == before
    send_signal(served, "KILL")
    with connect(served, port=int(before.rpartition(b":")[2])) as peer:
        peer.expect(GREETING)
    assert listening_on(served) == before
    assert property_of(served, "NFileDescriptorStore") == "1"


def test_a_listener_on_one_interface_is_kept_over_a_restart(served: Machine) -> None:
    served.run("ip", "address", "add", "fe80::1/64", "dev", INTERFACE, "nodad")
    served.put("/etc/ackd.yaml", f'bind: "fe80::1%{INTERFACE}"\n')
    served.run("systemctl", "restart", "ackd")
    listening = ("ss", "--listening", "--tcp", "--extended", "--no-header", "sport = :10008")
    before = served.run(*listening).stdout
    served.run("systemctl", "restart", "ackd")
    assert re.findall(r"ino:(\d+)", served.run(*listening).stdout) == re.findall(
        r"ino:(\d+)", before
    )
    served.put("/etc/ackd.yaml", HERE)
    served.run("systemctl", "restart", "ackd")
    assert property_of(served, "NFileDescriptorStore") == "1"


# One signal after the other: those of the same number don't queue, signal(7).
_ASK_A_THOUSAND_TIMES = """
import os, re, signal, sys
pid = int(sys.argv[1])
for _ in range(1000):
    os.kill(pid, signal.SIGUSR1)
    while not re.search("ShdPnd:\\t0{16}", open(f"/proc/{pid}/status").read()):
        pass
"""


def freeze_journal(machine: Machine) -> None:
    """Have journald take nothing more, and fill its queue by what ackd says."""
    machine.run("sh", "-c", f"kill -STOP {machine.pid_of('systemd-journald')}")
    machine.python(_ASK_A_THOUSAND_TIMES, str(machine.pid_of("ackd")))


def test_what_a_frozen_journal_has_not_taken_is_handed_over_also_without_clients(
    served: Machine,
) -> None:
    stopped = ("-u", "ackd", f"MESSAGE_ID={Kind.STOPPED.value}")
    before = len(served.journal(*stopped))
    freeze_journal(served)
    served.run("systemctl", "restart", "ackd")
    served.run("sh", "-c", f"kill -CONT {served.pid_of('systemd-journald')}")
    assert send(served, "hello") == 0
    assert len(served.journal(*stopped)) == before + 1


def test_what_was_left_out_is_told_before_a_restart(served: Machine) -> None:
    served.put("/etc/ackd.yaml", f"{HERE}allow: 127.0.0.1\n")
    served.run("systemctl", "reload", "ackd")
    for _ in range(3):
        with connect(served) as peer:
            peer.expect(f"not connect: {CLIENT_ADDRESS} is not allowed here\n".encode())
    served.run("systemctl", "restart", "ackd")
    with connect(served) as peer:
        peer.expect(f"not connect: {CLIENT_ADDRESS} is not allowed here\n".encode())
    told = [entry["MESSAGE"] for entry in served.journal("-u", "ackd", "-p", "4", "-n", "3")]
    refused = f"turned away: {CLIENT_ADDRESS} is not allowed here".encode()
    left_out = f"left out about {CLIENT_ADDRESS}: turned away: 2, beyond 1 a minute".encode()
    assert told == [refused, left_out, refused]


def test_a_restart_hands_over_4000_clients_and_closes_those_beyond_well(served: Machine) -> None:
    many = "max_connections: 5000\nmax_connections_per_client: null\n"
    served.put("/etc/ackd.yaml", HERE + many)
    served.run("systemctl", "reload", "ackd")
    with load(served, "many", clients=4100, depth=1) as clients:
        wait_until("all are inside", lambda: status_text(served).startswith("clients: 4100;"))
        served.run("systemctl", "restart", "ackd")
        account = clients.stop()
    told = served.journal("-u", "ackd", f"MESSAGE_ID={Kind.TAKEN_OVER.value}")[-1]["MESSAGE"]
    assert told == b"took over clients: 4000"
    assert len(account.trouble) == 100
    assert all(re.search("closed with [01] unanswered", line) for line in account.trouble)
    assert_no_lie(compare(served, "many", account))


def test_clients_whose_state_is_of_another_version_are_closed_well(served: Machine) -> None:
    handover = f"{MODULES}/service/handover.py"
    with greeted(served) as peer:
        peer.send(b"one\nhalf a pay")
        peer.expect(ACK)
        served.run("sed", "-i", "s/^VERSION = .*/VERSION = 0/", handover)
        served.run("systemctl", "restart", "ackd")
        peer.expect_end()
    assert "is of no use" in served.run("journalctl", "-u", "ackd", "-n", "20").stdout
    assert send(served, "hello") == 0
    install(served)


def test_a_bad_configuration_at_a_restart_loses_nobody(served: Machine) -> None:
    with greeted(served) as peer:
        peer.send(b"one\nhalf")
        peer.expect(ACK)
        served.put("/etc/ackd.yaml", "prot: 1\n")
        served.run("systemctl", "restart", "ackd", check=False)
        served.put("/etc/ackd.yaml", HERE)
        peer.send(b" and half\n")
        peer.expect(ACK)


def test_a_restart_can_go_from_one_address_to_all(served: Machine) -> None:
    with greeted(served) as peer:
        served.put("/etc/ackd.yaml", "bind: 0.0.0.0\n")
        served.run("systemctl", "restart", "ackd")
        peer.send(b"hello\n")
        peer.expect(ACK)
    assert send(served, "hello") == 0
    entry = served.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}")[-1]
    assert entry["ACKD_LISTENER"] == b"0.0.0.0:10008"


# Crashes


def test_after_a_crash_a_half_read_payload_is_not_taken_for_a_whole_one(served: Machine) -> None:
    with greeted(served) as peer:
        peer.send(b"one\nhalf a pay")
        peer.expect(ACK)
        send_signal(served, "KILL")
        assert peer.read_to_loss() == b""
    wait_until("it is back", lambda: send(served, "hello") == 0)
    messages = [e["MESSAGE"] for e in served.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}", "-n", "2")]
    assert messages == [b"Buffer: one", b"Buffer: hello"]


def test_nobody_is_refused_in_a_crash_loop(served: Machine) -> None:
    restarts = int(property_of(served, "NRestarts"))
    for _ in range(20):
        send_signal(served, "KILL")
        # Accepted by the kernel while nobody is there, served by the next peer.
        assert send(served, "hello") == 0
    assert int(property_of(served, "NRestarts")) == restarts + 20
    assert property_of(served, "ActiveState") == "active"


def test_a_daemon_that_hangs_is_replaced_by_the_watchdog(served: Machine) -> None:
    served.run("mkdir", "-p", "/run/systemd/system/ackd.service.d")
    served.put("/run/systemd/system/ackd.service.d/quick.conf", "[Service]\nWatchdogSec=1s\n")
    served.run("systemctl", "daemon-reload")
    served.run("systemctl", "restart", "ackd")
    hung = served.pid_of("ackd")
    send_signal(served, "STOP")
    assert send(served, "hello") == 0
    assert served.pid_of("ackd") != hung
    assert send(served, "still fed") == 0
    served.run("rm", "/run/systemd/system/ackd.service.d/quick.conf")
    served.run("systemctl", "daemon-reload")


# The journal


def test_150_000_payloads_in_one_go_are_all_in_the_journal(served: Machine) -> None:
    lines = "".join(f"flood-{number}\n" for number in range(150_000))
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, "--json", "-")
    done = served.client.run(*command, input=lines, env={"PYTHONPATH": str(PROJECT)}, timeout=120)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["acknowledged"] == 150_000
    recorded = payloads_in_journal(served, "flood")
    assert recorded == {f"flood-{number}": 1 for number in range(150_000)}


def test_payloads_that_share_records_are_all_in_the_journal_once_and_in_order(
    served: Machine,
) -> None:
    served.put("/etc/ackd.yaml", f"{HERE}record: batch\n")
    served.run("systemctl", "reload", "ackd")
    with load(served, "shared", clients=20, depth=64, payloads=100_000) as clients:
        account = clients.finish()
    assert_true(served, "shared", account)
    counts = served.run("journalctl", "--field=ACKD_COUNT").stdout.split()
    assert max(map(int, counts)) >= 64


def test_lines_that_share_a_record_are_shown_as_lines(served: Machine) -> None:
    served.put("/etc/ackd.yaml", f"{HERE}record: batch\n")
    served.run("systemctl", "reload", "ackd")
    with greeted(served) as peer:
        peer.send(b"gr\xc3\xbcn\tis one\n\x1b[31m is red\ntwo\nthree\n")
        peer.expect(ACK * 4)
    shown = served.run("journalctl", "--output=cat", f"MESSAGE_ID={Kind.PAYLOAD.value}").stdout
    assert (
        "Buffer: gr\u00fcn\tis one\nBuffer: \x1b[31m is red\nBuffer: two\nBuffer: three\n" in shown
    )
    short = served.run("journalctl", "--boot", f"MESSAGE_ID={Kind.PAYLOAD.value}").stdout
    assert re.search(r": Buffer: two\n +Buffer: three\n", short)


def test_an_unreachable_journal_shows_in_the_status_and_does_not_stop_the_service(
    served: Machine,
) -> None:
    units = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
    served.run("systemctl", "stop", *units, "systemd-journald.service", check=False)
    served.run("rm", "-f", "/run/systemd/journal/socket")
    with greeted(served) as peer:
        peer.send(b"while it is away\n")
        wait_until("the status tells", lambda: "can't be reached" in status_text(served))
        served.run("systemctl", "start", *units, "systemd-journald.service")
        peer.expect(ACK)
    wait_until("the status tells", lambda: "can't be reached" not in status_text(served))


# Boot


def test_an_address_that_comes_late_is_served_when_it_is_there(served: Machine) -> None:
    late = "192.168.150.77"
    served.put("/etc/ackd.yaml", f"bind: [{MACHINE_ADDRESS}, {late}]\n")
    served.run("systemctl", "restart", "ackd")
    assert send(served, "hello") == 0
    served.add_address(late)
    with connect(served, late) as peer:
        peer.expect(GREETING)


@pytest.fixture
def without_ipv6(served: Machine) -> Iterator[Machine]:
    """A machine on which ackd gets the answer of a kernel that has no IPv6."""
    dropin = "/run/systemd/system/ackd.service.d/ipv4.conf"
    families = "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_UNIX\n"
    served.put(dropin, f"[Service]\n{families}")
    served.run("systemctl", "daemon-reload")
    yield served
    served.run("rm", dropin)
    served.run("systemctl", "daemon-reload")


def test_a_host_without_ipv6_serves_the_default_address_that_it_has(without_ipv6: Machine) -> None:
    without_ipv6.put("/etc/ackd.yaml", "")
    without_ipv6.run("systemctl", "restart", "ackd")
    assert "received" in without_ipv6.run("ackctl", "send", "hello").stdout.lower()
    told = without_ipv6.journal("-u", "ackd", f"MESSAGE_ID={Kind.LISTENING.value}")[-1]["MESSAGE"]
    assert told == b"listening on 127.0.0.1:10008"


def test_a_host_without_ipv6_can_not_serve_what_was_asked_for(without_ipv6: Machine) -> None:
    without_ipv6.put("/etc/ackd.yaml", "")
    without_ipv6.run("systemctl", "restart", "ackd")
    without_ipv6.put("/etc/ackd.yaml", 'bind: ["127.0.0.1", "::"]\n')
    assert without_ipv6.run("systemctl", "reload", "ackd", check=False).returncode == 1
    told = without_ipv6.journal(f"MESSAGE_ID={Kind.NOT_RELOADED.value}")[-1]["MESSAGE"]
    assert b"this host has no IPv6" in told


# Exposure, and the sealed variant


def exposure(machine: Machine) -> float:
    last = machine.run("systemd-analyze", "security", "ackd.service").stdout.splitlines()[-1]
    match = re.search(r"level for ackd.service: ([0-9.]+)", last)
    assert match, last
    return float(match[1])


def test_it_is_exposed_by_1_1_at_most(served: Machine) -> None:
    assert exposure(served) <= 1.1


def test_the_sealed_variant_is_exposed_by_0_2_at_most_and_has_no_network(served: Machine) -> None:
    served.put(
        "/etc/systemd/system/ackd.socket.d/address.conf",
        f"[Socket]\nListenStream=\nListenStream={MACHINE_ADDRESS}:10008\n",
    )
    served.run("/usr/share/ackd/seal")
    assert exposure(served) <= 0.2
    assert send(served, "sealed") == 0
    pid = served.pid_of("ackd")
    assert "lan0" not in served.run("nsenter", f"--target={pid}", "--net", "ip", "link").stdout
    told = served.journal("-u", "ackd", f"MESSAGE_ID={Kind.LISTENING.value}")[-1]["MESSAGE"]
    assert (
        told
        == (
            f"listening on {MACHINE_ADDRESS}:10008, passed by systemd: bind and port are not used"
        ).encode()
    )
    with greeted(served) as peer:
        peer.send(b"half")
        served.run("systemctl", "restart", "ackd")
        served.run("systemctl", "reload", "ackd")
        peer.send(b" and half\n")
        peer.expect(ACK)
    served.run("/usr/share/ackd/seal", "--undo")
    assert exposure(served) > 0.2
    assert send(served, "open again") == 0
