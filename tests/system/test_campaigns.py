"""Campaigns against the promise: faults, floods and hostile clients on real Debian systems.

A truth client keeps account of its acks meanwhile; then the journal is read back and compared.
"""

import random
import secrets
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from ackd.records import Kind
from tests.support.peer import ACK
from tests.support.project import PROJECT

from .accounts import Load, assert_no_lie, assert_true, compare, load
from .base_root import Release
from .campaign import LONG, Results, far
from .hostile import ATTACKS
from .installed import HERE, install, put_packages
from .machine import INTERFACE, MACHINE_ADDRESS, Machine, Process, boot, succeed, wait_until
from .network import greeted
from .workshop import Versions

KILL = ("systemctl", "kill", "--signal=KILL", "--kill-whom=main")
DROPIN = "/run/systemd/system/{}.d/{}.conf"
# Room for all that a campaign records: what journald deletes for want of it would seem lost.
ROOM = "[Journal]\nSystemMaxUse=6G\nSystemKeepFree=1M\nSystemMaxFileSize=1G\nRuntimeMaxUse=2G\n"
MIB = 1024 * 1024
# The short form is on one release only; its place is with the other tests, whose time is short.
RELEASES = far(list(Release), [Release.TRIXIE])
pytestmark = pytest.mark.parametrize(
    "release", RELEASES, ids=[r.value for r in RELEASES], indirect=True, scope="session"
)
HOSTILE_ADDRESS = "192.168.150.3"
# All of its sockets: one that is left would start it, and the others can't be opened then. So may
# the first of them to be opened; then it takes another attempt.
SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")


@pytest.fixture(scope="module")
def results() -> Iterator[Results]:
    """The table; written at the end where the campaigns went the whole way."""
    table = Results()
    yield table
    if LONG:
        table.write()


def make_room(machine: Machine) -> None:
    machine.put("/etc/systemd/journald.conf.d/room.conf", ROOM)
    # By default five starts within ten seconds are the last; one campaign is about that.
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
    """A machine on which the package is installed, and lets ackd serve the network."""
    with boot(release) as machine:
        make_room(machine)
        put_packages(machine, packages.first)
        machine.put("/etc/ackd.yaml", HERE)
        machine.run("systemctl", "reload", "ackd")
        yield machine


@pytest.fixture
def served(installed: Machine) -> Iterator[Machine]:
    """A machine on which ackd has just been started, with a quick watchdog."""
    with setting(installed, "ackd.service", "[Service]\nWatchdogSec=5s\n"):
        installed.put("/etc/ackd.yaml", HERE)
        installed.run("systemctl", "start", "ackd")
        yield installed
        installed.run("systemctl", "stop", "ackd")


@pytest.fixture
def run() -> str:
    """A name that no other run's payloads have."""
    return f"R{secrets.token_hex(4)}"


@contextmanager
def setting(machine: Machine, unit: str, text: str) -> Iterator[None]:
    """Give a unit other settings, beyond those that it has."""
    path = DROPIN.format(unit, f"setting-{secrets.token_hex(4)}")
    machine.put(path, text)
    machine.run("systemctl", "daemon-reload")
    yield
    machine.run("rm", path)
    machine.run("systemctl", "daemon-reload")


@contextmanager
def crowd(machine: Machine, run: str, clients: int = 40, depth: int = 16) -> Iterator[Load]:
    """Have clients send that connect again whenever they are thrown out."""
    with load(machine, run, clients, depth, reconnect=True) as clients_at_work:
        yield clients_at_work


def kill(machine: Machine, unit: str, signal: str = "KILL") -> None:
    """Send a unit's main process a signal, as soon as it has one."""
    command = ("systemctl", "kill", f"--signal={signal}", "--kill-whom=main", unit)
    wait_until(f"{unit} runs", lambda: machine.run(*command, check=False).returncode == 0)


def restarts(machine: Machine) -> int:
    shown = machine.run("systemctl", "show", "--value", "--property=NRestarts", "ackd").stdout
    return int(shown)


def await_restarts(machine: Machine, count: int) -> None:
    wait_until("it is back", lambda: restarts(machine) == count)


def resident(machine: Machine, field: str = "VmRSS") -> int:
    """Return bytes of resident memory, now or (VmHWM) at most."""
    status = machine.run("cat", f"/proc/{machine.pid_of('ackd')}/status").stdout
    (line,) = (line for line in status.splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024


@contextmanager
def beside(machine: Machine, program: str, *arguments: str) -> Iterator[Process]:
    """Have a program of ours run on the client host, until its standard input is closed."""
    command = (
        sys.executable,
        "-m",
        f"tests.system.{program}",
        MACHINE_ADDRESS,
        "10008",
        *arguments,
    )
    with machine.client.popen(*command, stdin=-1, env={"PYTHONPATH": str(PROJECT)}) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield process


def await_greetings(prober: Process, count: int) -> float:
    """Wait until so many more new clients have been greeted; return the longest time, in s."""
    assert prober.stdout
    return max(float(prober.stdout.readline()) for _ in range(count))


def probed(prober: Process, longest: float = 0.0) -> str:
    """End a prober; return what it has found, for the table."""
    output, _ = prober.communicate(timeout=90)
    longest = max([longest, *map(float, output.split())])
    return f"new clients greeted within {longest * 1000:.0f} ms"


# Floods, and ends of ackd itself


def test_flood(served: Machine, run: str, results: Results) -> None:
    payloads = far(2_000_000, 100_000)
    with load(served, run, clients=200, depth=64, payloads=payloads) as clients:
        account = clients.finish()
    figures = compare(served, run, account)
    results.add(served, "flood of 200 clients", figures)
    assert figures.acknowledged == payloads
    assert_true(served, run, account)


def test_ackd_killed(served: Machine, run: str, results: Results) -> None:
    kills, before = far(50, 5), restarts(served)
    with crowd(served, run) as clients:
        for number in range(1, kills + 1):
            clients.await_acks(500)
            kill(served, "ackd")
            # The acks that the next kill waits for can have come before this one.
            await_restarts(served, before + number)
        clients.await_acks(500)
        account = clients.stop()
    assert restarts(served) == before + kills
    figures = compare(served, run, account)
    results.add(served, f"ackd killed {kills} times", figures)
    assert_no_lie(figures)
    assert figures.unknown > 0


def test_ackd_killed_restarted_reloaded_and_upgraded_at_random(
    packaged: Machine, packages: Versions, run: str, results: Results
) -> None:
    faults, seed = far(50, 10), secrets.randbits(32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    with crowd(packaged, run) as clients:
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
        account = clients.stop()
    figures = compare(packaged, run, account)
    campaign = f"{faults} kills, restarts, reloads and upgrades at random, seed {seed}"
    results.add(packaged, campaign, figures)
    assert_no_lie(figures)


# Ends of journald


@pytest.mark.parametrize(
    ("campaign", "times", "fault"),
    [
        ("journald killed", far(50, 8), ("kill", "--signal=KILL", "systemd-journald.service")),
        ("journald restarted", far(5, 2), ("restart", "systemd-journald.service")),
        ("journald's sockets restarted", far(10, 2), ("restart", *SOCKETS)),
    ],
)
def test_journald_ends(
    served: Machine,
    run: str,
    results: Results,
    campaign: str,
    times: int,
    fault: tuple[str, ...],
) -> None:
    before = restarts(served)
    served.put("/etc/ackd.yaml", f"{HERE}journal_wait: 120\n")
    served.run("systemctl", "reload", "ackd")
    with beside(served, "prober") as prober:
        with load(served, run, clients=40, depth=16) as clients:
            for _ in range(times):
                clients.await_acks(1000)
                succeed(served, *fault)
            clients.await_acks(1000)
            account = clients.stop()
        besides = probed(prober)
    figures = compare(served, run, account)
    results.add(served, f"{campaign} {times} times", figures, besides)
    assert_no_lie(figures)
    assert account.trouble == []
    assert figures.unknown == figures.refused == 0
    assert restarts(served) == before
    told = served.journal("-u", "ackd", f"MESSAGE_ID={Kind.REPEATED.value}")
    assert told


def test_journald_reaches_its_start_limit(served: Machine, run: str, results: Results) -> None:
    limit = "[Unit]\nStartLimitIntervalSec=60\nStartLimitBurst=3\n"
    with (
        setting(served, "systemd-journald.service", limit),
        load(served, run, clients=40, depth=16) as clients,
    ):
        while await_settled(served, "systemd-journald.service") != "failed":
            # It fails where the manager has noticed only now that the last kill was one too many.
            served.run(*KILL, "systemd-journald.service", check=False)
        served.run("systemctl", "reset-failed", "systemd-journald.service")
        succeed(served, "restart", *SOCKETS, "systemd-journald.service")
        clients.await_acks(1000)
        account = clients.stop()
    figures = compare(served, run, account)
    results.add(served, "journald killed until it stays away", figures)
    assert_no_lie(figures)


def await_settled(machine: Machine, unit: str) -> str:
    """Wait until a unit has started again, or has failed for good; return which."""
    settled = ("active", "failed")

    def state() -> str:
        return machine.run("systemctl", "is-active", unit, check=False).stdout.strip()

    wait_until(f"{unit} is there or has failed", lambda: state() in settled)
    return state()


def test_journald_frozen(served: Machine, run: str, results: Results) -> None:
    """New clients are greeted, and ackd restarts on command, while journald does nothing."""
    before, greetings = restarts(served), far(600, 200)  # 50 a second at most
    with load(served, run, clients=40, depth=16) as clients:
        clients.await_acks(1000)
        kill(served, "systemd-journald.service", "STOP")
        with beside(served, "prober") as prober:
            longest = await_greetings(prober, greetings)
        served.run("systemctl", "restart", "ackd")
        with beside(served, "prober") as prober:
            longest = max(longest, await_greetings(prober, greetings))
            kill(served, "systemd-journald.service", "CONT")
            besides = probed(prober, longest)
        clients.await_acks(1000)
        account = clients.stop()
    figures = compare(served, run, account)
    campaign = f"journald frozen while {2 * greetings} clients come, and ackd restarts"
    results.add(served, campaign, figures, besides)
    assert_no_lie(figures)
    assert account.trouble == []
    assert figures.unknown == figures.refused == figures.repeated == 0
    assert restarts(served) == before  # the watchdog has been fed


def test_a_stop_does_not_wait_for_a_journald_that_is_frozen(served: Machine, run: str) -> None:
    with crowd(served, run) as clients:
        clients.await_acks(1000)
        kill(served, "systemd-journald.service", "STOP")
        served.run("systemctl", "stop", "ackd", timeout=30)
        kill(served, "systemd-journald.service", "CONT")
        served.run("systemctl", "start", "ackd")
        clients.await_acks(1000)
        account = clients.stop()
    assert_no_lie(compare(served, run, account))


def test_the_journals_disk_is_full(served: Machine, run: str, results: Results) -> None:
    """journald goes on in memory then, under /run."""
    disk = "/var/log/journal"
    served.run("mount", "-t", "tmpfs", "-o", "size=64M", "tmpfs", disk)
    served.run("systemctl", "restart", "systemd-journald")
    served.run("journalctl", "--flush")
    with beside(served, "prober") as prober:
        with load(served, run, clients=4, depth=4) as clients:
            clients.await_acks(100)
            served.run("dd", "if=/dev/zero", f"of={disk}/full", "bs=64K", check=False)
            clients.await_acks(1000)
            account = clients.stop()
        besides = probed(prober)
    figures = compare(served, run, account)
    results.add(served, "the journal's disk full", figures, besides)
    assert_no_lie(figures)
    served.run("umount", "--lazy", disk)
    served.run("systemctl", "restart", "systemd-journald")


# Scarcity


def test_descriptors_run_out(served: Machine, run: str, results: Results) -> None:
    """Clients beyond wait outside, and come in one after the other."""
    with setting(served, "ackd.service", "[Service]\nLimitNOFILE=64\n"):
        served.run("systemctl", "restart", "ackd")
        payloads = far(100_000, 10_000)
        with load(served, run, clients=200, depth=4, payloads=payloads) as clients:
            account = clients.finish()
        told = served.journal("-u", "ackd", f"MESSAGE_ID={Kind.NO_DESCRIPTORS.value}")
        figures = compare(served, run, account)
        assert_true(served, run, account)
    served.run("systemctl", "restart", "ackd")
    assert told
    assert len(told) < 200
    results.add(served, "64 descriptors for 200 clients", figures, f"told {len(told)} times")


def test_memory_runs_out(served: Machine, run: str, results: Results) -> None:
    limit = 40 * MIB
    with setting(served, "ackd.service", f"[Service]\nLimitAS={limit}\n"):
        served.run("systemctl", "restart", "ackd")
        before = restarts(served)
        with (
            crowd(served, run, clients=200, depth=64) as clients,
            beside(served, "hostile", HOSTILE_ADDRESS, "never_reading") as unread,
            beside(served, "hostile", HOSTILE_ADDRESS, "random_bytes") as noise,
        ):
            clients.await_acks(far(200_000, 20_000))
            account = clients.stop()
            for process in (unread, noise):
                process.communicate(timeout=60)
        figures = compare(served, run, account)
        most, ends = resident(served, "VmPeak"), restarts(served) - before
    served.run("systemctl", "restart", "ackd")
    besides = f"{most / MIB:.1f} MiB at most, ended {ends} times"
    results.add(served, "40 MiB of address space", figures, besides)
    assert_no_lie(figures)


def test_the_clock_is_stepped(served: Machine, run: str, results: Results) -> None:
    """To and fro by a day, for ackd; the machine's own clock is its host's."""
    (library,) = served.run("sh", "-c", "ls /usr/lib/*/faketime/libfaketime.so.1").stdout.split()
    served.put("/etc/faketimerc", "+0")
    environment = (
        f"LD_PRELOAD={library} FAKETIME_TIMESTAMP_FILE=/etc/faketimerc FAKETIME_NO_CACHE=1"
        " FAKETIME_DONT_FAKE_MONOTONIC=1"
    )
    with setting(served, "ackd.service", f"[Service]\nEnvironment={environment}\n"):
        served.run("systemctl", "restart", "ackd")
        before = restarts(served)
        assert library in served.run("cat", f"/proc/{served.pid_of('ackd')}/maps").stdout
        with load(served, run, clients=40, depth=16) as clients:
            for step in ("+1d", "-1d", "+365d", "+0"):
                served.put("/etc/faketimerc", step)
                clients.await_acks(1000)
            account = clients.stop()
        assert restarts(served) == before
    served.run("systemctl", "restart", "ackd")
    figures = compare(served, run, account)
    results.add(served, "the clock stepped by a day, to and fro", figures)
    assert_true(served, run, account)


@pytest.mark.parametrize("limit", far(["idle_timeout: 2\n", ""], ["idle_timeout: 2\n"]))
def test_a_host_goes_without_a_word(served: Machine, limit: str) -> None:
    """Its connection is given up by the idle limit, or by keepalive after two minutes."""
    served.put("/etc/ackd.yaml", HERE + limit)
    served.run("systemctl", "reload", "ackd")
    with greeted(served) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)
        # Otherwise it would be the ack that goes unanswered, and the idle limit that ends it.
        wait_until("the ack has arrived", lambda: "(keepalive," in timers(served))
        with vanished(served):
            told = wait_until("it is given up", lambda: closed_reason(served), 200)
    assert told == ("silent for too long" if limit else "lost: Connection timed out")


def timers(machine: Machine) -> str:
    return machine.run("ss", "-tnoH", "sport = :10008").stdout


@contextmanager
def vanished(machine: Machine) -> Iterator[None]:
    """Let nothing leave the client host any more, as if it had no power."""
    route = ("blackhole", MACHINE_ADDRESS)
    machine.client.run("ip", "route", "add", *route)
    try:
        yield
    finally:
        machine.client.run("ip", "route", "del", *route)


def closed_reason(machine: Machine) -> str:
    """Return why the last connection was closed, if it was since the last one was opened."""
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


def test_no_payload_forges_anything(served: Machine) -> None:
    with greeted(served) as peer:
        for payload in (b"harmless", *HOSTILE_PAYLOADS):
            peer.send(payload + b"\n")
            peer.expect(ACK)
    query = ("-u", "ackd", f"MESSAGE_ID={Kind.PAYLOAD.value}", "-n", str(1 + len(HOSTILE_PAYLOADS)))
    harmless, *entries = served.journal(*query)
    own = {"MESSAGE", "ACKD_BYTES", "ACKD_SEQUENCE", "__CURSOR", "__REALTIME_TIMESTAMP"}
    own |= {"__MONOTONIC_TIMESTAMP", "_SOURCE_REALTIME_TIMESTAMP", "__SEQNUM"}
    expected = {name: harmless[name] for name in harmless.fields.keys() - own}
    for payload, entry in zip(HOSTILE_PAYLOADS, entries, strict=True):
        assert entry["MESSAGE"] == b"Buffer: " + payload.removesuffix(b"\r")
        assert {name: entry[name] for name in entry.fields.keys() - own} == expected


@pytest.mark.parametrize("attack", ATTACKS)
def test_hostile_clients_cost_only_themselves(
    served: Machine, run: str, results: Results, attack: str
) -> None:
    before, idle = restarts(served), resident(served)
    with ExitStack() as at_work:
        attacker = at_work.enter_context(beside(served, "hostile", HOSTILE_ADDRESS, attack))
        clients = at_work.enter_context(load(served, run, clients=4, depth=1))
        clients.await_acks(far(10_000, 2_000))
        account = clients.stop()
        output, _ = attacker.communicate(timeout=120)
        assert (attacker.returncode, output) == (0, b"gone\n")
    more = resident(served, "VmHWM") - idle
    figures = compare(served, run, account)
    results.add(served, f"hostile: {attack}", figures, f"{more / MIB:.1f} MiB above idle")
    assert_true(served, run, account)
    assert restarts(served) == before
    assert more <= 24 * MIB
