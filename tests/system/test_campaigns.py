"""Campaigns against the promise: faults, floods and hostile clients in booted Debian systems.

Meanwhile load clients remember their acks. Afterwards a test compares them with the journal.
"""

import random
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.support.certificates import Authority, needs_openssl
from tests.support.peer import ACK
from tests.support.project import PROJECT

from .support.audit import Load, assert_exactly_once, assert_promise_kept, audit, load
from .support.base_root import Release
from .support.campaign import CampaignTable, long_or_short
from .support.connections import greeted
from .support.hostile_clients import ATTACKS, TLS_ATTACKS
from .support.install import BIND, install, put_packages
from .support.machine import (
    DROPIN,
    INTERFACE,
    MACHINE_ADDRESS,
    Machine,
    Process,
    boot,
    succeed,
    unit_setting,
    wait_until,
)
from .support.workshop import Versions

KILL = ("systemctl", "kill", "--signal=KILL", "--kill-whom=main")
# Room for all records of a campaign: records that journald deletes would seem lost.
ROOM = "[Journal]\nSystemMaxUse=6G\nSystemKeepFree=1M\nSystemMaxFileSize=1G\nRuntimeMaxUse=2G\n"
MIB = 1024 * 1024
# Short campaigns run on one release only, so that `make test` stays fast.
RELEASES = long_or_short(list(Release), [Release.TRIXIE])
pytestmark = pytest.mark.parametrize(
    "release", RELEASES, ids=[r.value for r in RELEASES], indirect=True, scope="session"
)
HOSTILE_ADDRESS = "192.168.150.3"
# All sockets of journald. If one stays open, a message starts journald, and systemd cannot open
# the others while it runs. The first socket to be opened can have the same effect: then systemctl
# fails, and `succeed` tries again.
SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
JOURNALD = "systemd-journald.service"


def make_room(machine: Machine) -> None:
    machine.put("/etc/systemd/journald.conf.d/room.conf", ROOM)
    # By default systemd stops starting a unit after five starts within ten seconds. Only one
    # campaign is about that limit.
    for unit in (*SOCKETS, "systemd-journald.service"):
        machine.put(DROPIN.format(unit, "limit"), "[Unit]\nStartLimitIntervalSec=0\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "restart", "systemd-journald")


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    install(machine)
    make_room(machine)
    machine.client.run("ip", "address", "add", f"{HOSTILE_ADDRESS}/24", "dev", INTERFACE)
    return machine


@pytest.fixture
def packaged(release: Release, packages: Versions) -> Iterator[Machine]:
    """A machine on which ackd is installed from the package, and listens on the network."""
    with boot(release) as machine:
        make_room(machine)
        put_packages(machine, packages.first)
        machine.put("/etc/ackd.yaml", BIND)
        machine.run("systemctl", "reload", "ackd")
        yield machine


@pytest.fixture
def server(installed: Machine) -> Iterator[Machine]:
    """A machine on which ackd has just been started, with a short watchdog timeout."""
    with unit_setting(installed, "ackd.service", "[Service]\nWatchdogSec=5s\n"):
        installed.put("/etc/ackd.yaml", BIND)
        installed.run("systemctl", "start", "ackd")
        yield installed
        installed.run("systemctl", "stop", "ackd")


@pytest.fixture
def run() -> str:
    """A unique name for the payloads of one test."""
    return f"R{secrets.token_hex(4)}"


@contextmanager
def reconnecting_load(
    machine: Machine, run: str, clients: int = 40, depth: int = 16
) -> Iterator[Load]:
    """Start clients that connect again whenever they lose their connection."""
    with load(machine, run, clients, depth, reconnect=True) as running:
        yield running


def kill(machine: Machine, unit: str, signal: str = "KILL") -> None:
    """Send a signal to a unit's main process, as soon as it exists."""
    command = ("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", unit)
    wait_until(f"{unit} runs", lambda: machine.run(*command, check=False).returncode == 0)


def restarts(machine: Machine) -> int:
    shown = machine.run("systemctl", "show", "--value", "--property=NRestarts", "ackd").stdout
    return int(shown)


def await_restarts(machine: Machine, count: int) -> None:
    wait_until("ackd has been restarted", lambda: restarts(machine) == count)


def resident(machine: Machine, field: str = "VmRSS") -> int:
    """Return bytes of ackd's memory: a field of /proc/PID/status, proc(5)."""
    status = machine.run("cat", f"/proc/{machine.pid_of('ackd')}/status").stdout
    (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


@contextmanager
def on_client_host(machine: Machine, program: str, *arguments: str) -> Iterator[Process]:
    """Run a program of `tests.system.support` on the client host; it ends with its stdin."""
    command = (
        sys.executable,
        "-m",
        f"tests.system.support.{program}",
        MACHINE_ADDRESS,
        "10008",
        *arguments,
    )
    with machine.client.popen(*command, stdin=-1, env={"PYTHONPATH": str(PROJECT)}) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process


def await_greetings(prober: Process, count: int) -> float:
    """Wait until so many new clients got the greeting; return the longest time, in seconds."""
    assert prober.stdout
    return max(float(prober.stdout.readline()) for _ in range(count))


def stop_prober(prober: Process, longest: float = 0.0) -> str:
    """Stop a prober; return the longest time as a note for the table."""
    output, _ = prober.communicate(timeout=90)
    longest = max([longest, *map(float, output.split())])
    return f"new clients greeted within {longest * 1000:.0f} ms"


# Floods, and the end of ackd


def test_all_payloads_of_a_flood_are_recorded_once(
    server: Machine, run: str, table: CampaignTable
) -> None:
    payloads = long_or_short(2_000_000, 100_000)
    with load(server, run, clients=200, depth=64, payloads=payloads) as clients:
        report = clients.finish()
    result = audit(server, run, report)
    table.add(server, "flood of 200 clients", result)
    assert result.acknowledged == payloads
    assert_exactly_once(server, run, report)


def test_the_promise_holds_while_ackd_is_killed_repeatedly(
    server: Machine, run: str, table: CampaignTable
) -> None:
    kills, before = long_or_short(50, 5), restarts(server)
    with reconnecting_load(server, run) as clients:
        for number in range(1, kills + 1):
            clients.await_acks(500)
            kill(server, "ackd")
            # Acks from before this kill can satisfy the wait before the next kill.
            await_restarts(server, before + number)
        clients.await_acks(500)
        report = clients.stop()
    assert restarts(server) == before + kills
    result = audit(server, run, report)
    table.add(server, f"ackd killed {kills} times", result)
    assert_promise_kept(result)
    assert result.unknown > 0


def test_the_promise_holds_under_random_faults_of_ackd(
    packaged: Machine, packages: Versions, run: str, table: CampaignTable
) -> None:
    faults, seed = long_or_short(50, 10), secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with reconnecting_load(packaged, run) as clients:
        for _ in range(faults):
            clients.await_acks(chance.choice((100, 1000)))
            match chance.choice(("kill", "restart", "reload", "upgrade")):
                case "kill":
                    kill(packaged, "ackd")
                case "upgrade":
                    put_packages(packaged, packages.next)
                case how:
                    packaged.run("systemctl", how, "ackd", check=False)
        clients.await_acks(500)
        report = clients.stop()
    result = audit(packaged, run, report)
    campaign = f"{faults} kills, restarts, reloads and upgrades at random, seed {seed}"
    table.add(packaged, campaign, result)
    assert_promise_kept(result)


# The end of journald


@pytest.mark.parametrize(
    ("campaign", "times", "fault"),
    [
        (
            "journald killed",
            long_or_short(50, 8),
            ("kill", "--signal=KILL", "systemd-journald.service"),
        ),
        ("journald restarted", long_or_short(5, 2), ("restart", "systemd-journald.service")),
        ("journald's sockets restarted", long_or_short(10, 2), ("restart", *SOCKETS)),
    ],
)
def test_nothing_is_lost_while_journald_ends_repeatedly(
    server: Machine,
    run: str,
    table: CampaignTable,
    campaign: str,
    times: int,
    fault: tuple[str, ...],
) -> None:
    before = restarts(server)
    server.put("/etc/ackd.yaml", f"{BIND}journal_wait: 120\n")
    server.run("systemctl", "reload", "ackd")
    with on_client_host(server, "greeting_prober") as prober:
        with load(server, run, clients=40, depth=16) as clients:
            for _ in range(times):
                clients.await_acks(1000)
                succeed(server, *fault)
            clients.await_acks(1000)
            report = clients.stop()
        notes = stop_prober(prober)
    result = audit(server, run, report)
    table.add(server, f"{campaign} {times} times", result, notes)
    assert_promise_kept(result)
    assert report.errors == []
    assert result.unknown == result.refused == 0
    assert restarts(server) == before
    assert server.journal("-u", "ackd", f"MESSAGE_ID={Kind.REPEATED.value}")


def test_the_promise_holds_when_journald_reaches_its_start_limit(
    server: Machine, run: str, table: CampaignTable
) -> None:
    with load(server, run, clients=40, depth=16) as clients:
        kill_until_start_limit(server)
        heal(server)
        clients.await_acks(1000)
        report = clients.stop()
    result = audit(server, run, report)
    table.add(server, "journald killed until its start limit", result)
    assert_promise_kept(result)


def test_the_promise_outlives_ackd_and_the_sockets_of_a_hung_journald(
    server: Machine, run: str, table: CampaignTable
) -> None:
    """Nothing but the log has the records then: not ackd's memory, and not journald's queue."""
    times = long_or_short(10, 2)
    with load(server, run, clients=40, depth=16) as clients:
        for _ in range(times):
            clients.await_acks(1000)
            kill(server, JOURNALD, "STOP")
            server.run("systemctl", "restart", "ackd")
            kill_until_start_limit(server)
            heal(server)
        clients.await_acks(1000)
        report = clients.stop()
    result = audit(server, run, report)
    campaign = f"ackd restarted while journald hangs, then journald's sockets gone, {times} times"
    table.add(server, campaign, result)
    assert_promise_kept(result)
    assert result.repeated > 0


def test_the_promise_holds_when_ackd_and_journald_are_killed_at_once(
    server: Machine, run: str, table: CampaignTable
) -> None:
    kills, before = long_or_short(50, 8), restarts(server)
    with reconnecting_load(server, run) as clients:
        for number in range(1, kills + 1):
            clients.await_acks(500)
            both = (server.pid_of("ackd"), server.pid_of(JOURNALD))
            server.run("sh", "-c", f"kill -KILL {both[0]} {both[1]}")
            await_restarts(server, before + number)
            wait_until("journald runs", lambda: await_settled(server, JOURNALD) == "active")
        clients.await_acks(500)
        report = clients.stop()
    result = audit(server, run, report)
    table.add(server, f"ackd and journald killed in the same moment {kills} times", result)
    assert_promise_kept(result)


def send_signal(machine: Machine, unit: str, signal: str) -> None:
    """Send a signal to a unit's main process, if it has one."""
    command = ("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", unit)
    machine.run(*command, check=False)


def stop_and_start(machine: Machine) -> None:
    machine.run("systemctl", "stop", "ackd")
    machine.run("systemctl", "start", "--no-block", "ackd")


# A start of ackd ends only when journald's sockets are there, so no fault waits for its end.
FAULTS: dict[str, Callable[[Machine], object]] = {
    "ackd killed": lambda machine: send_signal(machine, "ackd", "KILL"),
    "ackd restarted": lambda machine: machine.run("systemctl", "restart", "--no-block", "ackd"),
    "ackd stopped and started": stop_and_start,
    "ackd frozen": lambda machine: send_signal(machine, "ackd", "STOP"),
    "journald killed": lambda machine: send_signal(machine, JOURNALD, "KILL"),
    "journald frozen": lambda machine: send_signal(machine, JOURNALD, "STOP"),
    "journald restarted": lambda machine: succeed(machine, "restart", JOURNALD),
    "sockets restarted": lambda machine: succeed(machine, "restart", *SOCKETS),
    "start limit": lambda machine: kill_until_start_limit(machine),
}


def test_the_promise_holds_under_random_faults_of_ackd_and_journald(
    server: Machine, run: str, table: CampaignTable
) -> None:
    rounds, seed = long_or_short(40, 5), secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with reconnecting_load(server, run) as clients:
        for _ in range(rounds):
            clients.await_acks(chance.choice((100, 1000)))
            for fault in chance.choices(list(FAULTS), k=chance.choice((1, 2, 3))):
                print(fault)
                FAULTS[fault](server)
            heal(server)
        clients.await_acks(500)
        report = clients.stop()
    result = audit(server, run, report)
    table.add(server, f"{rounds} times faults of ackd and journald at random, seed {seed}", result)
    assert_promise_kept(result)


def kill_until_start_limit(machine: Machine) -> None:
    """Kill journald until systemd does not start it any more, and closes its sockets."""
    limit = "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n"
    with unit_setting(machine, JOURNALD, limit):
        while await_settled(machine, JOURNALD) != "failed":
            # This fails if systemd has just noticed that the unit has reached its start limit.
            machine.run(*KILL, JOURNALD, check=False)


def heal(machine: Machine) -> None:
    """Let ackd and journald run, whatever has happened to them."""
    for unit in ("ackd", JOURNALD):
        send_signal(machine, unit, "CONT")
    machine.run("systemctl", "reset-failed", JOURNALD, *SOCKETS, check=False)
    if any(await_settled(machine, unit) != "active" for unit in (JOURNALD, *SOCKETS)):
        succeed(machine, "restart", *SOCKETS, JOURNALD)
    succeed(machine, "start", "ackd")


def await_settled(machine: Machine, unit: str) -> str:
    """Wait until a unit is active, or has failed; return its state."""
    settled = ("active", "failed", "inactive")

    def state() -> str:
        return machine.run("systemctl", "is-active", unit, check=False).stdout.strip()

    wait_until(f"{unit} is active or has failed", lambda: state() in settled)
    return state()


def test_ackd_greets_and_restarts_while_journald_is_frozen(
    server: Machine, run: str, table: CampaignTable
) -> None:
    before, greetings = restarts(server), long_or_short(600, 200)  # at most 50 per second
    server.put("/etc/ackd.yaml", f"{BIND}journal_wait: 120\n")
    server.run("systemctl", "reload", "ackd")
    with load(server, run, clients=40, depth=16) as clients:
        clients.await_acks(1000)
        kill(server, "systemd-journald.service", "STOP")
        with on_client_host(server, "greeting_prober") as prober:
            longest = await_greetings(prober, greetings)
        server.run("systemctl", "restart", "ackd")
        with on_client_host(server, "greeting_prober") as prober:
            longest = max(longest, await_greetings(prober, greetings))
            kill(server, "systemd-journald.service", "CONT")
            notes = stop_prober(prober, longest)
        clients.await_acks(1000)
        report = clients.stop()
    result = audit(server, run, report)
    campaign = f"journald frozen while {2 * greetings} clients come, and ackd restarts"
    table.add(server, campaign, result, notes)
    assert_promise_kept(result)
    assert report.errors == []
    assert result.unknown == result.refused == result.repeated == 0
    assert restarts(server) == before  # the watchdog has not killed ackd


def test_a_stop_does_not_wait_for_a_frozen_journald(server: Machine, run: str) -> None:
    with reconnecting_load(server, run) as clients:
        clients.await_acks(1000)
        kill(server, "systemd-journald.service", "STOP")
        server.run("systemctl", "stop", "ackd", timeout=30)
        kill(server, "systemd-journald.service", "CONT")
        server.run("systemctl", "start", "ackd")
        clients.await_acks(1000)
        report = clients.stop()
    assert_promise_kept(audit(server, run, report))


def test_the_promise_holds_when_the_journals_disk_is_full(
    server: Machine, run: str, table: CampaignTable
) -> None:
    """journald then writes to /run, in memory."""
    disk = "/var/log/journal"
    server.run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", disk)
    server.run("systemctl", "restart", "systemd-journald")
    server.run("journalctl", "--flush")
    with on_client_host(server, "greeting_prober") as prober:
        with load(server, run, clients=4, depth=4) as clients:
            clients.await_acks(100)
            server.run("dd", "if=/dev/zero", f"of={disk}/full", "bs=64K", check=False)
            clients.await_acks(1000)
            report = clients.stop()
        notes = stop_prober(prober)
    result = audit(server, run, report)
    table.add(server, "the journal's disk full", result, notes)
    assert_promise_kept(result)
    server.run("umount", "--lazy", disk)
    server.run("systemctl", "restart", "systemd-journald")


# Limits of the system


def test_clients_beyond_the_limit_of_descriptors_wait(
    server: Machine, run: str, table: CampaignTable
) -> None:
    """They wait in the listener's backlog until another client has left."""
    with unit_setting(server, "ackd.service", "[Service]\nLimitNOFILE=64\n"):
        server.run("systemctl", "restart", "ackd")
        payloads = long_or_short(100_000, 10_000)
        with load(server, run, clients=200, depth=4, payloads=payloads) as clients:
            report = clients.finish()
        logged = server.journal("-u", "ackd", f"MESSAGE_ID={Kind.NO_DESCRIPTORS.value}")
        result = audit(server, run, report)
        assert_exactly_once(server, run, report)
    server.run("systemctl", "restart", "ackd")
    assert logged
    assert len(logged) < 200
    table.add(server, "64 descriptors for 200 clients", result, f"logged {len(logged)} times")


def test_the_promise_holds_when_memory_runs_out(
    server: Machine, run: str, table: CampaignTable
) -> None:
    limit = 40 * MIB + 16 * MIB  # without and with the log, which is mapped
    with unit_setting(server, "ackd.service", f"[Service]\nLimitAS={limit}\n"):
        server.run("systemctl", "restart", "ackd")
        before = restarts(server)
        with (
            reconnecting_load(server, run, clients=200, depth=64) as clients,
            on_client_host(server, "hostile_clients", HOSTILE_ADDRESS, "never_reading") as unread,
            on_client_host(server, "hostile_clients", HOSTILE_ADDRESS, "random_bytes") as noise,
        ):
            clients.await_acks(long_or_short(200_000, 20_000))
            report = clients.stop()
            for process in (unread, noise):
                process.communicate(timeout=60)
        result = audit(server, run, report)
        most, ends = resident(server, "VmPeak"), restarts(server) - before
    server.run("systemctl", "restart", "ackd")
    notes = f"at most {most / MIB:.1f} MiB, ended {ends} times"
    table.add(server, "40 MiB of address space beside the log", result, notes)
    assert_promise_kept(result)


def test_stepping_the_clock_loses_no_payload(
    server: Machine, run: str, table: CampaignTable
) -> None:
    """Step the clock of ackd only: the machine shares the clock of this host."""
    (library,) = server.run("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").stdout.split()
    server.put("/etc/faketimerc", "+0")
    environment = (
        f"LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/etc/faketimerc FAKETIME_NO_CACHE=1"
        " FAKETIME_DONT_FAKE_MONOTONIC=1"
    )
    with unit_setting(server, "ackd.service", f"[Service]\nEnvironment={environment}\n"):
        server.run("systemctl", "restart", "ackd")
        before = restarts(server)
        assert library in server.run("cat", f"/proc/{server.pid_of('ackd')}/maps").stdout
        with load(server, run, clients=40, depth=16) as clients:
            for step in ("+1d", "-1d", "+365d", "+0"):
                server.put("/etc/faketimerc", step)
                clients.await_acks(1000)
            report = clients.stop()
        assert restarts(server) == before
    server.run("systemctl", "restart", "ackd")
    result = audit(server, run, report)
    table.add(server, "the clock stepped by days, forward and back", result)
    assert_exactly_once(server, run, report)


@pytest.mark.parametrize("limit", long_or_short(["idle_timeout: 2\n", ""], ["idle_timeout: 2\n"]))
def test_a_connection_whose_host_vanishes_is_closed(server: Machine, limit: str) -> None:
    """The idle limit closes it, or keepalive after two minutes."""
    server.put("/etc/ackd.yaml", BIND + limit)
    server.run("systemctl", "reload", "ackd")
    with greeted(server) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
        # With the ack in flight, retransmission would end the connection instead of keepalive.
        wait_until("the ack has arrived", lambda: "(keepalive," in timers(server))
        with vanished(server):
            reason = wait_until("ackd has closed it", lambda: closed_reason(server), 200)
    assert reason == ("silent for too long" if limit else "lost: Connection timed out")


def timers(machine: Machine) -> str:
    return machine.run("ss", "-tnoH", "sport = :10008").stdout


@contextmanager
def vanished(machine: Machine) -> Iterator[None]:
    """Drop all packets of the client host, as if it had lost its power."""
    route = ("blackhole", MACHINE_ADDRESS)
    machine.client.run("ip", "route", "add", *route)
    try:
        yield
    finally:
        machine.client.run("ip", "route", "del", *route)


def closed_reason(machine: Machine) -> str:
    """Return why the last connection was closed; empty if it is open."""
    kinds = (f"MESSAGE_ID={kind.value}" for kind in (Kind.CONNECTED, Kind.CLOSED))
    last = machine.journal("-u", "ackd", *kinds, "-n", "1")[-1]
    return last["ACKD_REASON"].decode() if "ACKD_REASON" in last else ""


# Hostile clients

HOSTILE_PAYLOADS = (
    b"NUL \0 ESC \x1b[2J BEL \a",
    "bidi \u202e\u2066 drawkcab".encode(),
    b"MESSAGE=forged",
    b"x\rPRIORITY=0\rMESSAGE=forged",
    b"_UID=0",
    b"<0>emergency",
    b"\r\r\r",
    b"\xff\xfe not UTF-8 \xc0\x80",
    b"ACKD_PEER=10.0.0.1\0ACKD_PEER=10.0.0.1",
    "line\u2028separator\u2029paragraph\x85next".encode(),
)


def test_no_payload_forges_fields_or_records(server: Machine) -> None:
    with greeted(server) as peer:
        for payload in (b"harmless", *HOSTILE_PAYLOADS):
            peer.send(payload + b"\n")
            peer.expect(ACK)
    query = ("-u", "ackd", f"MESSAGE_ID={Kind.PAYLOAD.value}", "-n", str(1 + len(HOSTILE_PAYLOADS)))
    harmless, *entries = server.journal(*query)
    own = {"MESSAGE", "ACKD_BYTES", "ACKD_SEQUENCE", "__CURSOR", "__REALTIME_TIMESTAMP"}
    own |= {"__MONOTONIC_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP", "__SEQNUM"}
    expected = {name: harmless[name] for name in harmless.fields.keys() - own}
    for payload, entry in zip(HOSTILE_PAYLOADS, entries, strict=True):
        assert entry["MESSAGE"] == b"Buffer: " + payload.removesuffix(b"\r")
        assert {name: entry[name] for name in entry.fields.keys() - own} == expected


CERTIFICATE, KEY = "/etc/ackd-certificate.pem", "/etc/ackd-key.pem"
TLS = f"tls_certificate: {CERTIFICATE}\ntls_key: {KEY}\n"
# Settings that an attack needs.
SETTINGS = {"half_headers": f"proxy_from: {HOSTILE_ADDRESS}\n"} | dict.fromkeys(TLS_ATTACKS, TLS)
# MiB that an attack may cost, if they are not 24. OpenSSL needs 46 KiB for a client whose hello has
# come, and up to 33 KiB for one that is connected, beside a record of 18 KiB that is not whole.
# There are a thousand clients of one address; five hundred send lines.
COSTS = {"half_headers": 12, "half_handshakes": 32, "records_without_payload": 64}
COSTS |= {f"{attack}_over_tls": 40 for attack in ("idle_clients", "never_reading", "tiny_lines")}
# ackd sees the same payloads with TLS and without.
ONLY_LONG = {"random_bytes_over_tls", "endless_line_over_tls", "tiny_lines_over_tls"}
ONLY_LONG |= {"byte_by_byte_over_tls", "idle_clients_over_tls"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates") / "ca")


@pytest.fixture
def ca(server: Machine, authority: Authority) -> Path:
    """Put a certificate and its key into the machine; return the certificate of its authority."""
    issued = authority.issue("ackd", names=f"IP:{MACHINE_ADDRESS}")
    server.put(CERTIFICATE, issued.certificate.read_bytes())
    server.put(KEY, issued.key.read_bytes())
    return authority.certificate


@pytest.mark.parametrize(
    "attack",
    [
        pytest.param(name, marks=needs_openssl if name in TLS_ATTACKS else ())
        for name in long_or_short(ATTACKS, [a for a in ATTACKS if a not in ONLY_LONG])
    ],
)
def test_hostile_clients_do_not_disturb_other_clients(
    server: Machine,
    run: str,
    table: CampaignTable,
    attack: str,
    request: pytest.FixtureRequest,
) -> None:
    ca = request.getfixturevalue("ca") if attack in TLS_ATTACKS else None
    if attack in SETTINGS:
        server.put("/etc/ackd.yaml", BIND + SETTINGS[attack])
        server.run("systemctl", "reload", "ackd")
    before, idle = restarts(server), resident(server)
    acks = long_or_short(5_000, 500) if ca else long_or_short(10_000, 2_000)
    with ExitStack() as stack:
        attacker = stack.enter_context(
            on_client_host(server, "hostile_clients", HOSTILE_ADDRESS, attack)
        )
        clients = stack.enter_context(load(server, run, clients=4, depth=1, ca=ca))
        clients.await_acks(acks)
        report = clients.stop()
        output, _ = attacker.communicate(timeout=120)
        assert (attacker.returncode, output) == (0, b"done\n")
    more = resident(server, "VmHWM") - idle
    result = audit(server, run, report)
    table.add(server, f"hostile: {attack}", result, f"{more / MIB:.1f} MiB above idle")
    assert_exactly_once(server, run, report)
    assert restarts(server) == before
    assert more <= COSTS.get(attack, 24) * MIB
