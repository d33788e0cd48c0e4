"""ackd as a service in a booted Debian system."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from ackd.records import Kind
from tests.support.peer import ACK, GREETING
from tests.support.project import PROJECT

from .support.audit import (
    assert_exactly_once,
    assert_promise_kept,
    audit,
    load,
    payloads_in_journal,
)
from .support.connections import connect, greeted
from .support.install import BIND, MODULES, install
from .support.machine import CLIENT_ADDRESS, INTERFACE, MACHINE_ADDRESS, Machine, wait_until

# Descriptors in the store: a listener, and those that stay there from the first start to a stop:
# journald's socket, and the stream.
ONE_LISTENER = "3"


def send(machine: Machine, *payloads: str) -> int:
    """Send payloads from the client host; return the exit status of ackctl."""
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, *payloads)
    return machine.client.run(*command, check=False, env={"PYTHONPATH": str(PROJECT)}).returncode


def send_signal(machine: Machine, name: str) -> None:
    """Send a signal to the daemon without systemctl."""
    machine.run("sh", "-c", f"kill -{name} {machine.pid_of('ackd')}")


def property_of(machine: Machine, name: str, unit: str = "ackd") -> str:
    return machine.run("systemctl", "show", "--value", f"--property={name}", unit).stdout.strip()


def status_text(machine: Machine) -> str:
    return property_of(machine, "StatusText")


# Start, stop and status


def test_the_service_starts_records_and_stops(server: Machine) -> None:
    assert send(server, "this data will send to server!") == 0
    entry = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.PAYLOAD.value}")[-1]
    assert entry["MESSAGE"] == b"Buffer: this data will send to server!"
    assert entry["ACKD_PEER"] == CLIENT_ADDRESS.encode()
    assert entry["SYSLOG_IDENTIFIER"] == b"ackd"
    wait_until(
        "the status text shows the ack",
        lambda: status_text(server) == "clients: 0; payloads: 1 acknowledged, 0 refused",
    )
    server.run("systemctl", "stop", "ackd")
    assert property_of(server, "Result") == "success"
    assert send(server, "hello") == 3


def test_a_stop_acknowledges_all_received_payloads_and_closes_all_connections(
    server: Machine,
) -> None:
    with greeted(server) as busy, greeted(server) as idle:
        busy.send(b"hello\n" * 1000 + b"half a line")
        busy.expect(ACK)
        server.run("systemctl", "stop", "ackd")
        busy.expect(ACK * 999)
        busy.expect_end()
        idle.expect_end()


def test_ackd_runs_as_a_dynamic_user_without_capabilities(server: Machine) -> None:
    pid = server.pid_of("ackd")
    status = server.run("cat", f"/proc/{pid}/status").stdout
    assert re.search(r"^Uid:\s+6\d{4}\s", status, re.M)  # a dynamic user
    assert re.search(r"^CapEff:\s+0+$", status, re.M)
    assert re.search(r"^CapBnd:\s+0+$", status, re.M)
    assert re.search(r"^NoNewPrivs:\s+1$", status, re.M)


# Prints the files and directories that a user can write. Nothing but Python can run in the unit.
FIND_WRITABLE = """
import os, sys
os.setgroups([])
os.setresgid(*[int(sys.argv[1])] * 3)
os.setresuid(*[int(sys.argv[1])] * 3)
for directory, directories, files in os.walk("/"):
    directories[:] = [name for name in directories if os.path.join(directory, name) != "/proc"]
    for path in [directory, *(os.path.join(directory, name) for name in files)]:
        kind = os.stat(path, follow_symlinks=False).st_mode >> 12
        if kind in (0o4, 0o10) and os.access(path, os.W_OK):
            print(path)
"""


def test_ackd_can_write_only_its_runtime_directory(server: Machine) -> None:
    pid = str(server.pid_of("ackd"))
    user = server.run("stat", "--format=%u", f"/proc/{pid}").stdout.strip()
    find = ("python3", "-c", FIND_WRITABLE, user)
    found = server.run("nsenter", f"--target={pid}", "--mount", "--", *find).stdout.splitlines()
    # From systemd 254 on, a service writes to this file to subscribe to events of memory pressure.
    writable = [path for path in found if not path.endswith("/ackd.service/memory.pressure")]
    # Where /run/ackd leads to.
    assert sorted(writable) == ["/run/private/ackd", "/run/private/ackd/log"]


# Runs a shell, as a program could that has taken over ackd; prints what prevents it.
RUN_A_SHELL = """
import os, sys
try:
    os.execv("/bin/sh", ["sh", "-c", "echo a shell"])
except OSError as error:
    print(error.strerror)
"""


def test_the_service_can_run_no_shell(server: Machine) -> None:
    pid = str(server.pid_of("ackd"))
    ran = server.run("nsenter", f"--target={pid}", "--mount", "python3", "-c", RUN_A_SHELL)
    assert ran.stdout == "Permission denied\n"


def test_the_journal_explains_each_record(server: Machine) -> None:
    assert send(server, "hello") == 0
    explained = server.run("journalctl", "-x", "-u", "ackd", "-n", "20").stdout
    assert f"Subject: A payload has arrived from {CLIENT_ADDRESS}" in explained
    assert "Subject: ackd listens" in explained


def test_a_second_instance_has_its_own_configuration(server: Machine) -> None:
    server.put("/etc/ackd/north.yaml", f"{BIND}port: 10009\ngreeting: North\n")
    server.run("systemctl", "start", "ackd@north")
    with connect(server, port=10009) as peer:
        peer.expect(b"North\n")
        peer.send(b"hello\n")
        peer.expect(ACK)
    server.run("systemctl", "stop", "ackd@north")
    assert send(server, "hello") == 0


# Reload


def test_systemctl_reload_returns_when_the_new_configuration_is_in_force(server: Machine) -> None:
    with greeted(server) as old:
        server.put("/etc/ackd.yaml", f"{BIND}greeting: Welcome\n")
        server.run("systemctl", "reload", "ackd")
        with connect(server) as new:
            new.expect(b"Welcome\n")
        old.send(b"hello\n")
        old.expect(ACK)


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        (f"{BIND}port: 70000\n", "/etc/ackd.yaml:2:7: port: 70000 is not between 0 and 65535"),
        (
            f"{BIND}port: 22222\n",
            f"can't listen on {MACHINE_ADDRESS}:22222: Address already in use",
        ),
    ],
)
def test_a_failed_reload_logs_its_reason_and_changes_nothing(
    server: Machine, settings: str, reason: str
) -> None:
    with server.popen("nc", "-l", MACHINE_ADDRESS, "22222"):
        wait_until("nc listens", lambda: "22222" in server.run("ss", "-tlnH").stdout)
        server.put("/etc/ackd.yaml", f"{settings}greeting: Welcome\n")
        assert server.run("systemctl", "reload", "ackd", check=False).returncode == 1
    logged = server.journal(f"MESSAGE_ID={Kind.NOT_RELOADED.value}")[-1]["MESSAGE"].decode()
    assert reason in logged
    messages = [entry["MESSAGE"] for entry in server.journal("-u", "ackd", "-n", "8")]
    assert sum(reason.encode() in message for message in messages) == 1
    with greeted(server):
        pass
    assert property_of(server, "ActiveState") == "active"


# Takes abstract names as any local user can: all that the next processes could have used before.
TAKE_NAMES = """
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
taken = []
for pid in range(1, 3000):
    taken.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET))
    try:
        taken[-1].bind(f"\\0ackd/{pid}")
        taken[-1].listen()
    except OSError:
        pass
print(len(taken), flush=True)
sys.stdin.read()
"""


def test_a_local_user_can_not_prevent_a_reload(server: Machine) -> None:
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    with server.popen(*nobody, "python3", "-c", TAKE_NAMES, stdin=subprocess.PIPE) as squatter:
        assert squatter.stdout
        assert squatter.stdout.readline() == b"2999\n"
        server.run("systemctl", "restart", "ackd")
        server.run("systemctl", "reload", "ackd")
        pid = str(server.pid_of("ackd"))
        server.run("ackd", "--reload", pid)
        refused = server.run(*nobody, "/usr/sbin/ackd", "--reload", pid, check=False)
        assert refused.returncode == 1


def test_a_user_that_stands_for_all_others_does_not_open_the_reload_to_them(
    server: Machine,
) -> None:
    override = "/run/systemd/system/ackd.service.d/nobody.conf"
    server.put(override, "[Service]\nDynamicUser=no\nUser=nobody\n")
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")
    pid = str(server.pid_of("ackd"))
    other = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups")
    assert server.run(*other, "/usr/sbin/ackd", "--reload", pid, check=False).returncode == 1
    server.run("ackd", "--reload", pid)
    server.run("systemctl", "reload", "ackd")
    server.run("rm", override)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")


# Restart


def test_ten_restarts_under_load_lose_no_connection_and_no_payload(server: Machine) -> None:
    with load(server, "restarts", clients=40, depth=16) as clients:
        for _ in range(10):
            before = server.pid_of("ackd")
            server.run("systemctl", "restart", "ackd")
            assert server.pid_of("ackd") != before
        report = clients.stop()
    assert_exactly_once(server, "restarts", report)
    print(f"{sum(report.sent)} payloads, longest pause {report.longest_pause:.3f} s")


def test_a_half_received_payload_survives_a_restart(server: Machine) -> None:
    with greeted(server) as peer:
        peer.send(b"one\ntwo and a h")
        peer.expect(ACK)
        server.run("systemctl", "restart", "ackd")
        peer.send(b"alf\n")
        peer.expect(ACK)
        server.run("systemctl", "restart", "ackd")
        peer.send(b"three\n")
        peer.expect(ACK)
    entries = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.PAYLOAD.value}")[-3:]
    assert [entry["MESSAGE"] for entry in entries] == [
        b"Buffer: one",
        b"Buffer: two and a half",
        b"Buffer: three",
    ]
    assert [entry["ACKD_SEQUENCE"] for entry in entries] == [b"1", b"2", b"3"]
    assert len({entry["ACKD_CONNECTION"] for entry in entries}) == 1


def test_a_restart_leaves_only_the_listener_in_the_descriptor_store(server: Machine) -> None:
    with greeted(server) as peer:
        server.run("systemctl", "restart", "ackd")
        peer.send(b"hello\n")
        peer.expect(ACK)
        assert property_of(server, "NFileDescriptorStore") == ONE_LISTENER


def log_of(machine: Machine) -> str:
    """Return the inode of the log that ackd has open."""
    directory = f"/proc/{machine.pid_of('ackd')}/fd"
    links = machine.run("find", directory, "-lname", "/run/*/log").stdout.split()
    return machine.run("stat", "--dereference", "--format=%i", links[0]).stdout


def test_the_log_is_the_same_whatever_happens_to_ackd(server: Machine) -> None:
    before = log_of(server)
    server.run("systemctl", "restart", "ackd")
    assert log_of(server) == before
    send_signal(server, "KILL")
    assert send(server, "hello") == 0
    assert log_of(server) == before
    server.run("systemctl", "stop", "ackd")
    assert property_of(server, "NFileDescriptorStore") == "0"
    server.run("systemctl", "start", "ackd")
    assert log_of(server) == before


def test_a_stored_listener_that_is_no_longer_configured_is_removed(server: Machine) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}port: 10011\n")
    server.run("systemctl", "restart", "ackd")
    assert send(server, "hello") == 3
    with connect(server, port=10011) as peer:
        peer.expect(GREETING)
    assert property_of(server, "NFileDescriptorStore") == ONE_LISTENER


def listening_on(machine: Machine) -> bytes:
    return machine.journal("-u", "ackd", f"MESSAGE_ID={Kind.LISTENING.value}")[-1]["MESSAGE"]


def test_a_port_chosen_by_the_kernel_stays_the_same_over_restarts_and_crashes(
    server: Machine,
) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}port: 0\n")
    server.run("systemctl", "restart", "ackd")
    before = listening_on(server)
    server.run("systemctl", "restart", "ackd")
    assert listening_on(server) == before
    server.run("systemctl", "reload", "ackd")
    assert listening_on(server) == before
    send_signal(server, "KILL")
    with connect(server, port=int(before.rpartition(b":")[2])) as peer:
        peer.expect(GREETING)
    assert listening_on(server) == before
    assert property_of(server, "NFileDescriptorStore") == ONE_LISTENER


def test_a_restart_keeps_a_listener_that_is_bound_to_one_interface(server: Machine) -> None:
    server.run("ip", "address", "add", "fe80::1/64", "dev", INTERFACE, "nodad")
    server.put("/etc/ackd.yaml", f'bind: "fe80::1%{INTERFACE}"\n')
    server.run("systemctl", "restart", "ackd")
    listening = ("ss", "--listening", "--tcp", "--extended", "--no-header", "sport = :10008")
    before = server.run(*listening).stdout
    server.run("systemctl", "restart", "ackd")
    assert re.findall(r"ino:(\d+)", server.run(*listening).stdout) == re.findall(
        r"ino:(\d+)", before
    )
    server.put("/etc/ackd.yaml", BIND)
    server.run("systemctl", "restart", "ackd")
    assert property_of(server, "NFileDescriptorStore") == ONE_LISTENER


# Waits after each signal: pending signals of the same number are merged, signal(7).
_ASK_A_THOUSAND_TIMES = """
import os, re, signal, sys
pid = int(sys.argv[1])
for _ in range(1000):
    os.kill(pid, signal.SIGUSR1)
    while not re.search("ShdPnd:\\t0{16}", open(f"/proc/{pid}/status").read()):
        pass
"""


def freeze_journal(machine: Machine) -> None:
    """Freeze journald, and let ackd fill journald's queue with log messages."""
    machine.run("sh", "-c", f"kill -STOP {machine.pid_of('systemd-journald')}")
    machine.python(_ASK_A_THOUSAND_TIMES, str(machine.pid_of("ackd")))


def test_records_that_a_frozen_journald_has_not_read_are_handed_over_without_clients_too(
    server: Machine,
) -> None:
    stopped = ("-u", "ackd", f"MESSAGE_ID={Kind.STOPPED.value}")
    before = len(server.journal(*stopped))
    freeze_journal(server)
    server.run("systemctl", "restart", "ackd")
    server.run("sh", "-c", f"kill -CONT {server.pid_of('systemd-journald')}")
    assert send(server, "hello") == 0
    assert len(server.journal(*stopped)) == before + 1


def test_records_that_a_frozen_journald_has_not_read_at_a_stop_are_kept_for_the_next_start(
    server: Machine,
) -> None:
    """Neither the stop nor the start waits for journald; nobody else can plant such a log."""
    journald = server.pid_of("systemd-journald")
    server.run("sh", "-c", f"kill -STOP {journald}")
    assert send(server, "in doubt") == 0
    server.run("systemctl", "stop", "ackd", timeout=30)
    nobody = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    for path in ("/run/private/ackd/log", "/run/ackd/log"):
        server.run("test", "-s", path)
        assert server.run(*nobody, "test", "-e", path, check=False).returncode
    server.run("systemctl", "start", "ackd", timeout=30)
    server.run("sh", "-c", f"kill -CONT {journald}")
    assert send(server, "hello") == 0
    logged = [entry["MESSAGE"] for entry in server.journal("-u", "ackd", "-n", "60")]
    assert any(b"journald may not have stored the last records yet: " in line for line in logged)
    assert b"Buffer: in doubt" in logged


def test_the_count_of_suppressed_messages_is_logged_before_a_restart(server: Machine) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}allow: 127.0.0.1\n")
    server.run("systemctl", "reload", "ackd")
    for _ in range(3):
        with connect(server) as peer:
            peer.expect(f"not connect: {CLIENT_ADDRESS} is not allowed here\n".encode())
    server.run("systemctl", "restart", "ackd")
    with connect(server) as peer:
        peer.expect(f"not connect: {CLIENT_ADDRESS} is not allowed here\n".encode())
    logged = [entry["MESSAGE"] for entry in server.journal("-u", "ackd", "-p", "4", "-n", "3")]
    logged = [re.sub(rb" port \d+", b" port N", message) for message in logged]
    refused = f"turned away: {CLIENT_ADDRESS} port N: {CLIENT_ADDRESS} is not allowed here".encode()
    left_out = f"left out about {CLIENT_ADDRESS}: turned away: 2, beyond 1 a minute".encode()
    assert logged == [refused, left_out, refused]


def test_a_restart_hands_over_4000_clients_and_closes_the_others_without_a_reset(
    server: Machine,
) -> None:
    many = "max_connections: 5000\nmax_connections_per_client: null\n"
    server.put("/etc/ackd.yaml", BIND + many)
    server.run("systemctl", "reload", "ackd")
    with load(server, "many", clients=4100, depth=1) as clients:
        wait_until(
            "all clients are admitted", lambda: status_text(server).startswith("clients: 4100;")
        )
        server.run("systemctl", "restart", "ackd")
        report = clients.stop()
    logged = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.TAKEN_OVER.value}")[-1]["MESSAGE"]
    assert logged == b"took over clients: 4000"
    assert len(report.errors) == 100
    assert all(re.search("closed with [01] unanswered", line) for line in report.errors)
    assert_promise_kept(audit(server, "many", report))


# Sends half a line of 64 KiB on each of many connections, and holds them.
HALF_LINES = """
import socket, sys
clients = [socket.create_connection((sys.argv[1], 10008), 20) for _ in range(1000)]
try:
    for client in clients:
        client.sendall(b"\\xff" * 65536)
except ConnectionError:
    pass
print("sent", flush=True)
sys.stdin.read()
"""


def test_a_restart_with_a_thousand_half_lines_needs_little_memory(server: Machine) -> None:
    limit = "/run/systemd/system/ackd.service.d/limit.conf"
    server.put(limit, "[Service]\nLimitAS=300M\n")
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")
    attack = (sys.executable, "-c", HALF_LINES, MACHINE_ADDRESS)
    with greeted(server) as peer, server.client.popen(*attack, stdin=subprocess.PIPE) as attacker:
        assert attacker.stdout
        assert attacker.stdout.readline() == b"sent\n"
        peer.send(b"one\nhalf")
        peer.expect(ACK)
        server.run("systemctl", "restart", "ackd")
        peer.send(b" and half\n")
        peer.expect(ACK)
    logged = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.TAKEN_OVER.value}")[-1]["MESSAGE"]
    assert int(logged.rpartition(b" ")[2]) > 400
    server.run("rm", limit)
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")


def test_clients_with_a_state_of_another_version_are_closed_without_a_reset(
    server: Machine,
) -> None:
    handover = f"{MODULES}/service/handover.py"
    with greeted(server) as peer:
        peer.send(b"one\nhalf a pay")
        peer.expect(ACK)
        server.run("sed", "-i", "s/^VERSION = .*/VERSION = 0/", handover)
        server.run("systemctl", "restart", "ackd")
        peer.expect_end()
    server.run("journalctl", "--sync")
    logged = server.run("journalctl", "-u", "ackd", "-n", "20").stdout
    assert "can't use the state of the previous process" in logged
    assert send(server, "hello") == 0
    install(server)


def test_a_restart_with_an_invalid_configuration_loses_no_client(server: Machine) -> None:
    with greeted(server) as peer:
        peer.send(b"one\nhalf")
        peer.expect(ACK)
        server.put("/etc/ackd.yaml", "prot: 1\n")
        server.run("systemctl", "restart", "ackd", check=False)
        server.put("/etc/ackd.yaml", BIND)
        peer.send(b" and half\n")
        peer.expect(ACK)


def test_a_wrong_configuration_is_tried_rarely_until_it_is_right(server: Machine) -> None:
    with greeted(server) as peer:
        peer.send(b"one\nhalf")
        peer.expect(ACK)
        server.put("/etc/ackd.yaml", "prot: 1\nallow: x\n")
        assert server.run("systemctl", "restart", "ackd", check=False).returncode
        wait_until("ackd waits", lambda: status_text(server).startswith("can't start, clients"))
        logged = [e["MESSAGE"] for e in server.journal("-u", "ackd", "-n", "5")]
        assert sum(b"still can't start" in message for message in logged) == 1
        assert b"still can't start" in logged[-1]
        # A restart by hand reports at once.
        assert server.run("systemctl", "restart", "ackd", check=False).returncode
        wait_until("ackd waits", lambda: status_text(server).startswith("can't start, clients"))
        waiting = server.pid_of("ackd")
        server.put("/etc/ackd.yaml", BIND)
        peer.send(b" and half\n")
        peer.expect(ACK)
        assert server.pid_of("ackd") == waiting
        wait_until("ackd runs", lambda: property_of(server, "ActiveState") == "active")
        assert property_of(server, "NFileDescriptorStore") == ONE_LISTENER
    server.put("/etc/ackd.yaml", "prot: 1\n")
    assert server.run("systemctl", "restart", "ackd", check=False).returncode
    server.run("systemctl", "stop", "ackd")
    assert server.run("systemctl", "start", "ackd", check=False).returncode
    server.put("/etc/ackd.yaml", BIND)
    server.run("systemctl", "restart", "ackd")


def test_a_restart_can_change_from_one_address_to_all(server: Machine) -> None:
    with greeted(server) as peer:
        server.put("/etc/ackd.yaml", "bind: 0.0.0.0\n")
        server.run("systemctl", "restart", "ackd")
        peer.send(b"hello\n")
        peer.expect(ACK)
    assert send(server, "hello") == 0
    entry = server.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}")[-1]
    assert entry["ACKD_LISTENER"] == b"0.0.0.0:10008"


# Crashes


def test_a_payload_that_is_half_received_at_a_crash_is_not_recorded(server: Machine) -> None:
    with greeted(server) as peer:
        peer.send(b"one\nhalf a pay")
        peer.expect(ACK)
        send_signal(server, "KILL")
        assert peer.read_to_loss() == b""
    wait_until("ackd is back", lambda: send(server, "hello") == 0)
    messages = [e["MESSAGE"] for e in server.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}", "-n", "2")]
    assert messages == [b"Buffer: one", b"Buffer: hello"]


def test_no_client_is_refused_in_a_crash_loop(server: Machine) -> None:
    restarts = int(property_of(server, "NRestarts"))
    for _ in range(20):
        send_signal(server, "KILL")
        # The kernel accepts the connection while ackd is dead; the next ackd serves it.
        assert send(server, "hello") == 0
    assert int(property_of(server, "NRestarts")) == restarts + 20
    assert property_of(server, "ActiveState") == "active"


def test_the_watchdog_replaces_a_daemon_that_hangs(server: Machine) -> None:
    server.run("mkdir", "-p", "/run/systemd/system/ackd.service.d")
    server.put("/run/systemd/system/ackd.service.d/quick.conf", "[Service]\nWatchdogSec=1s\n")
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")
    hung = server.pid_of("ackd")
    send_signal(server, "STOP")
    assert send(server, "hello") == 0
    assert server.pid_of("ackd") != hung
    assert send(server, "still fed") == 0
    server.run("rm", "/run/systemd/system/ackd.service.d/quick.conf")
    server.run("systemctl", "daemon-reload")


# The journal


def test_150_000_payloads_at_once_are_all_in_the_journal(server: Machine) -> None:
    lines = "".join(f"flood-{number}\n" for number in range(150_000))
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, "--json", "-")
    done = server.client.run(*command, input=lines, env={"PYTHONPATH": str(PROJECT)}, timeout=120)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["acknowledged"] == 150_000
    recorded = payloads_in_journal(server, "flood")
    assert recorded == {f"flood-{number}": 1 for number in range(150_000)}


def test_payloads_in_batches_are_all_in_the_journal_once_and_in_order(
    server: Machine,
) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}record: batch\n")
    server.run("systemctl", "reload", "ackd")
    with load(server, "shared", clients=20, depth=64, payloads=100_000) as clients:
        report = clients.finish()
    assert_exactly_once(server, "shared", report)
    counts = server.run("journalctl", "--field=ACKD_COUNT").stdout.split()
    assert max(map(int, counts)) >= 64


def test_journalctl_shows_a_batch_as_lines(server: Machine) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}record: batch\n")
    server.run("systemctl", "reload", "ackd")
    with greeted(server) as peer:
        peer.send(b"gr\xc3\xbcn\tis one\n\x1b[31m is red\ntwo\nthree\n")
        peer.expect(ACK * 4)
    shown = server.run("journalctl", "--output=cat", f"MESSAGE_ID={Kind.PAYLOAD.value}").stdout
    assert (
        "Buffer: gr\u00fcn\tis one\nBuffer: \x1b[31m is red\nBuffer: two\nBuffer: three\n" in shown
    )
    short = server.run("journalctl", "--boot", f"MESSAGE_ID={Kind.PAYLOAD.value}").stdout
    assert re.search(r": Buffer: two\n +Buffer: three\n", short)


def test_the_status_shows_an_unreachable_journal_and_the_service_continues(
    server: Machine,
) -> None:
    units = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
    server.run("systemctl", "stop", *units, "systemd-journald.service", check=False)
    server.run("rm", "-f", "/run/systemd/journal/socket")
    with greeted(server) as peer:
        peer.send(b"while it is away\n")
        wait_until("the status shows it", lambda: "can't be reached" in status_text(server))
        server.run("systemctl", "start", *units, "systemd-journald.service")
        peer.expect(ACK)
    wait_until("the status is normal", lambda: "can't be reached" not in status_text(server))


# Boot


def test_ackd_listens_on_an_address_before_the_address_is_up(server: Machine) -> None:
    late = "192.168.150.77"
    server.put("/etc/ackd.yaml", f"bind: [{MACHINE_ADDRESS}, {late}]\n")
    server.run("systemctl", "restart", "ackd")
    assert send(server, "hello") == 0
    server.add_address(late)
    with connect(server, late) as peer:
        peer.expect(GREETING)


@pytest.fixture
def without_ipv6(server: Machine) -> Iterator[Machine]:
    """A machine on which socket() fails for ackd as on a kernel without IPv6."""
    dropin = "/run/systemd/system/ackd.service.d/ipv4.conf"
    families = "RestrictAddressFamilies=\nRestrictAddressFamilies=AF_INET AF_UNIX\n"
    server.put(dropin, f"[Service]\n{families}")
    server.run("systemctl", "daemon-reload")
    yield server
    server.run("rm", dropin)
    server.run("systemctl", "daemon-reload")


def test_a_host_without_ipv6_listens_on_the_default_ipv4_address(without_ipv6: Machine) -> None:
    without_ipv6.put("/etc/ackd.yaml", "")
    without_ipv6.run("systemctl", "restart", "ackd")
    assert "received" in without_ipv6.run("ackctl", "send", "hello").stdout.lower()
    logged = without_ipv6.journal("-u", "ackd", f"MESSAGE_ID={Kind.LISTENING.value}")[-1]["MESSAGE"]
    assert logged == b"listening on 127.0.0.1:10008"


def test_a_host_without_ipv6_rejects_a_configured_ipv6_address(without_ipv6: Machine) -> None:
    without_ipv6.put("/etc/ackd.yaml", "")
    without_ipv6.run("systemctl", "restart", "ackd")
    without_ipv6.put("/etc/ackd.yaml", 'bind: ["127.0.0.1", "::"]\n')
    assert without_ipv6.run("systemctl", "reload", "ackd", check=False).returncode == 1
    logged = without_ipv6.journal(f"MESSAGE_ID={Kind.NOT_RELOADED.value}")[-1]["MESSAGE"]
    assert b"this host has no IPv6" in logged


# Holds as many of journald's streams as it gets, as any local user can.
HOLD_STREAMS = """
import resource, select, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
events, held = select.epoll(), {}
def hold():
    stream = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        stream.connect("/run/systemd/journal/stdout")
    except OSError:
        return
    held[stream.fileno()] = stream
    events.register(stream, 0)
reported = False
while not select.select([sys.stdin], [], [], 0)[0]:
    for descriptor, _ in events.poll(0.02):  # journald has refused it
        events.unregister(descriptor)
        held.pop(descriptor).close()
        if not reported:
            reported = True
            print("all are held", flush=True)
    for _ in range(1 if reported else 256):
        hold()
"""


def test_a_local_user_that_holds_journalds_streams_causes_no_repeated_records(
    server: Machine,
) -> None:
    user = ("setpriv", "--reuid=4321", "--regid=4321", "--clear-groups")
    hold = (*user, "python3", "-c", HOLD_STREAMS)
    repeated = len(server.journal("ACKD_REPEATED=1"))
    with server.popen(*hold, stdin=subprocess.PIPE) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == b"all are held\n"
        # A restart would go on with its stream.
        server.run("systemctl", "stop", "ackd")
        server.run("systemctl", "start", "ackd")
        refused = "journalctl -q -o cat -u systemd-journald | grep -c 'Too many stdout streams'"
        with greeted(server) as peer:
            for _ in range(20):
                peer.send(b"held up?\n")
                peer.expect(ACK)
            before = int(server.run("sh", "-c", refused, check=False).stdout)
            wait_until(
                "journald refuses more streams",
                lambda: int(server.run("sh", "-c", refused).stdout) > before + 3,
            )
        assert len(server.journal("ACKD_REPEATED=1")) == repeated


# Exposure, and the sealed variant


def exposure(machine: Machine) -> float:
    last = machine.run("systemd-analyze", "security", "ackd.service").stdout.splitlines()[-1]
    match = re.search(r"level for ackd.service: ([0-9.]+)", last)
    assert match, last
    return float(match[1])


def test_the_exposure_of_the_service_is_at_most_1_1(server: Machine) -> None:
    assert exposure(server) <= 1.1


def test_the_exposure_of_the_sealed_service_is_at_most_0_2_and_it_has_no_network(
    server: Machine,
) -> None:
    server.put(
        "/etc/systemd/system/ackd.socket.d/address.conf",
        f"[Socket]\nListenStream=\nListenStream={MACHINE_ADDRESS}:10008\n",
    )
    server.run("/usr/share/ackd/seal")
    assert exposure(server) <= 0.2
    assert send(server, "sealed") == 0
    server.run("ackd", "--reload", str(server.pid_of("ackd")))
    pid = server.pid_of("ackd")
    assert "lan0" not in server.run("nsenter", f"--target={pid}", "--net", "ip", "link").stdout
    logged = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.LISTENING.value}")[-1]["MESSAGE"]
    assert (
        logged
        == (
            f"listening on {MACHINE_ADDRESS}:10008, passed by systemd: bind and port are not used"
        ).encode()
    )
    with greeted(server) as peer:
        peer.send(b"half")
        server.run("systemctl", "restart", "ackd")
        server.run("systemctl", "reload", "ackd")
        peer.send(b" and half\n")
        peer.expect(ACK)
    server.run("/usr/share/ackd/seal", "--undo")
    assert exposure(server) > 0.2
    assert send(server, "open again") == 0


def test_seal_listens_where_the_configuration_says_and_leaves_all_as_it_was_if_it_fails(
    server: Machine,
) -> None:
    server.run("rm", "-rf", "/etc/systemd/system/ackd.socket.d")
    server.put("/etc/ackd.yaml", f"bind: [{MACHINE_ADDRESS}, 127.0.0.1, '::1']\nport: 10012\n")
    server.run("systemctl", "restart", "ackd")
    for wrong in (("--undoo",), ("--undo", "x"), ("",)):
        refused = server.run("/usr/share/ackd/seal", *wrong, check=False)
        assert (refused.returncode, refused.stderr[:7]) == (2, "usage: ")
    assert server.run("/usr/share/ackd/seal", "--help").stdout.startswith("usage: ")
    server.put("/etc/ackd.yaml", "port: 0\n")
    refused = server.run("/usr/share/ackd/seal", check=False)
    assert refused.returncode == 1
    assert "can't have port: 0" in refused.stderr
    with server.popen("nc", "-l", "127.0.0.1", "10013"):
        wait_until("nc listens", lambda: "10013" in server.run("ss", "-tlnH").stdout)
        server.put("/etc/ackd.yaml", f"bind: [{MACHINE_ADDRESS}, 127.0.0.1]\nport: 10013\n")
        assert server.run("/usr/share/ackd/seal", check=False).returncode == 1
    server.put("/etc/ackd.yaml", f"bind: [{MACHINE_ADDRESS}, 127.0.0.1, '::1']\nport: 10012\n")
    server.run("systemctl", "restart", "ackd")
    assert exposure(server) > 0.2
    assert server.run("ls", "/etc/systemd/system/ackd.socket.d", check=False).returncode
    server.run("/usr/share/ackd/seal")
    assert exposure(server) <= 0.2
    with connect(server, port=10012) as peer:
        peer.expect(GREETING)
    assert listening_on(server).startswith(
        f"listening on {MACHINE_ADDRESS}:10012 and 127.0.0.1:10012 and [::1]:10012, ".encode()
    )
    server.run("/usr/share/ackd/seal", "--undo")
    assert server.run("ls", "/etc/systemd/system/ackd.socket.d", check=False).returncode
    server.put("/etc/ackd.yaml", BIND)
    server.run("systemctl", "restart", "ackd")
