"""Three machines become a fleet by the commands of ackd-fleet(7), and lose nothing under load."""

import json
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from .support.audit import (
    READ_PAYLOADS,
    Audit,
    Load,
    RecordedPayload,
    assert_promise_kept,
    compare,
    load_from,
    parsed_payloads,
)
from .support.base_root import Release
from .support.campaign import CampaignTable, long_or_short
from .support.fleet import ADDRESSES, NAMES, Fleet, boot_fleet, manual
from .support.install import put_packages
from .support.load_clients import ClientReport
from .support.machine import Machine, wait_until
from .support.workshop import Versions

UPLOADER, COLLECTOR = "systemd-journal-upload.service", "ackd-collector@{}.service"
COLLECTED = ("journalctl", "--directory=/var/log/journal/remote", "--output=cat", "--quiet")
STEPS = (
    "2. The collector",
    "3. The uploaders",
    "4. The nodes and the balancer",
)


@pytest.fixture(scope="module")
def fleet(
    release: Release, packages: Versions, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Fleet]:
    """Three machines on which an administrator has followed the page."""
    with boot_fleet(release, tmp_path_factory.mktemp("fleet")) as fleet:
        for machine in fleet.machines.values():
            put_packages(machine, packages.first)
        fleet.follow("1. Names and certificates")
        copy_certificates(fleet)
        for step in STEPS:
            fleet.follow(step)
        yield fleet


def copy_certificates(fleet: Fleet) -> None:
    """Do what the page describes: copy the files from the first machine to each machine."""
    directory = "/etc/ssl/fleet"
    for name in NAMES:
        for source, target in (("ca.pem", "ca.pem"), (f"{name}.pem", "own.pem")):
            content = fleet.run("cat", f"{directory}/{source}").stdout
            fleet.machines[name].put(f"{directory}/{target}", content, 0o600)


def await_collected(fleet: Fleet, *payloads: str) -> None:
    """Wait until the collector has these payloads."""

    def collected() -> bool:
        shown = fleet.machines["three"].run(*COLLECTED).stdout.splitlines()
        return {f"Buffer: {payload}" for payload in payloads} <= set(shown)

    wait_until(f"the collector has {payloads}", collected, 60)


def await_uploaded(fleet: Fleet) -> None:
    """Wait on each node, by the page's command, until the collector has all of its records."""
    command = manual("Take a node out")[-1].commands.removeprefix("systemctl stop ackd\n")
    for machine in fleet.machines.values():
        machine.run("journalctl", "--namespace=ackd", "--sync")
        machine.run("sh", "-ec", command)


def test_the_page_makes_a_fleet_of_three_machines(fleet: Fleet) -> None:
    await_collected(fleet, "hello from two", "hello, without TLS", "hello, over TLS")


def test_verify_proves_that_the_collector_has_a_run_of_several_nodes(fleet: Fleet) -> None:
    send, check = manual("5. The proof")
    fleet.machines["two"].run("sh", "-ec", send.commands)
    three = fleet.machines["three"]
    verify = ("sh", "-ec", check.commands)
    wait_until("it is whole", lambda: three.run(*verify, check=False).returncode == 0, 60)
    shown = three.run("sh", "-ec", f"{check.commands.strip()} --json").stdout
    (counts,) = map(json.loads, shown.splitlines())
    assert sorted(node["node"] for node in counts["nodes"]) == sorted(NAMES)


def test_only_ackds_journal_leaves_a_node(fleet: Fleet) -> None:
    fleet.machines["two"].run("logger", "a secret of the machine")
    fleet.machines["two"].run("ackctl", "send", "--host", "two", "--port", "10018", "after it")
    await_collected(fleet, "after it")
    shown = fleet.machines["three"].run(*COLLECTED, "--output=json", "--output-fields=_COMM").stdout
    assert set(re.findall(r'"_COMM" ?: ?"(.*?)"', shown)) <= {"ackd", "systemd-journal"}


# Under load

FILES = ("sh", "-c", "ls /var/log/journal/remote/*.journal*")


@dataclass
class Collected:
    """The payloads of a run in each file of the collector, and the count of those again there."""

    files: list[list[RecordedPayload]] = field(default_factory=list)
    again: int = 0


def collected(collector: Machine, run: str) -> Collected:
    """Read each file of the collector alone.

    Read together, records that an uploader has repeated could hide others: journalctl goes on
    behind the time of the entry that it has shown last.
    """
    found, seen = Collected(), set()
    for path in collector.run(*FILES).stdout.split():
        found.files.append([])
        with collector.popen("journalctl", f"--file={path}", *READ_PAYLOADS) as process:
            assert process.stdout
            for record in parsed_payloads(process.stdout, run):
                name = (record.connection, record.sequence, record.repeated)
                if name in seen:
                    found.again += 1
                else:
                    seen.add(name)
                    found.files[-1].append(record)
            assert process.wait() == 0
    return found


@contextmanager
def fleet_load(fleet: Fleet, run: str, *limits: str) -> Iterator[Load]:
    """Start clients that send through the balancer."""
    where = (ADDRESSES["one"], "10008", str(CLIENTS), str(DEPTH))
    with load_from(fleet.client, run, *where, *limits) as clients:
        yield clients


def spread_clients(fleet: Fleet) -> None:
    """Disconnect the clients of two nodes: leastconn then gives clients to the third as well."""
    wait_until(
        "the node is up", lambda: re.search("^ackd,two,.*,UP,", ask(fleet, "show stat"), re.M)
    )
    for name in ("one", "three"):
        ask(fleet, f"shutdown sessions server ackd/{name}")


def ask(fleet: Fleet, command: str) -> str:
    """Return the balancer's answer to a command."""
    return fleet.run("sh", "-c", f"echo {command} | socat - /run/haproxy/admin.sock").stdout


def connections(fleet: Fleet, name: str) -> int:
    """Return how many connections to a node's ackd are established."""
    established = ("ss", "-tnH", "state", "established", "sport = :10018")
    return len(fleet.machines[name].run(*established).stdout.splitlines())


def kill_a_node(fleet: Fleet, clients: Load) -> None:
    fleet.kill("two")
    clients.await_acks(ENOUGH)
    fleet.start("two")


def freeze_a_node(fleet: Fleet, clients: Load) -> None:
    fleet.machines["two"].freeze()
    clients.await_acks(ENOUGH)
    fleet.machines["two"].thaw()


def upgrade_the_nodes(fleet: Fleet, packages: Versions, clients: Load) -> None:
    for machine in fleet.machines.values():
        put_packages(machine, packages.next)
        clients.await_acks(ENOUGH)


def reboot_a_node(fleet: Fleet, clients: Load) -> None:
    """Take the node out, reboot it, and let it in again, as the page says."""
    fleet.follow("Take a node out")
    fleet.kill("two")
    clients.await_acks(ENOUGH)
    fleet.start("two")
    fleet.follow("Let a node in again")


def send_everything_again(fleet: Fleet, clients: Load) -> None:
    fleet.follow("Send everything again")


def reload_haproxy(fleet: Fleet, clients: Load) -> None:
    fleet.run("systemctl", "reload", "haproxy")


def kill_the_uploaders(fleet: Fleet, clients: Load) -> None:
    for _ in range(3):
        for machine in fleet.machines.values():
            machine.run("systemctl", "kill", "--signal=KILL", UPLOADER, check=False)
        clients.await_acks(ENOUGH)


def restart_the_collector(fleet: Fleet, clients: Load) -> None:
    units = [COLLECTOR.format(name) for name in NAMES]
    for how in ("restart", "kill --signal=KILL"):
        fleet.machines["three"].run("systemctl", *how.split(), *units)
        clients.await_acks(ENOUGH)


FAULTS = (
    kill_a_node,
    freeze_a_node,
    send_everything_again,
    reboot_a_node,
    reload_haproxy,
    kill_the_uploaders,
    restart_the_collector,
)
# Acks between two faults.
ENOUGH = long_or_short(2000, 300)
CLIENTS, DEPTH = 12, 1
# Seconds until the balancer has noticed that a node does not answer, and a minute of a slow test.
LONGEST_PAUSE = 4 + 60


@pytest.fixture
def run() -> str:
    """A unique name for the payloads of one test."""
    return f"R{secrets.token_hex(4)}"


def audited(fleet: Fleet, run: str, report: ClientReport) -> tuple[Audit, int]:
    """Compare the clients' report with the collector; also return how many records are again there.

    The collector must have all that the nodes have recorded.
    """
    await_uploaded(fleet)
    found = collected(fleet.machines["three"], run)
    return compare(run, report, map(iter, found.files)), found.again


# What a payload costs

# The units of each part, by their machines.
PARTS = {
    "ackd": [(name, "ackd.service") for name in NAMES],
    "journald": [(name, "systemd-journald@ackd.service") for name in NAMES],
    "uploader": [(name, UPLOADER) for name in NAMES],
    "balancer": [("one", "haproxy.service")],
    "HAProxy of the collector": [("three", "haproxy.service")],
    "collector": [("three", COLLECTOR.format(name)) for name in NAMES],
}


def processor_time(fleet: Fleet, units: list[tuple[str, str]]) -> int:
    """Return the microseconds that units have used."""
    total = 0
    for name, unit in units:
        machine = fleet.machines[name]
        show = ("systemctl", "show", "--property=ControlGroup", "--value", unit)
        group = machine.run(*show).stdout.strip()
        stat = machine.run("cat", f"/sys/fs/cgroup{group}/cpu.stat").stdout
        total += int(stat.split()[1])
    return total


def test_what_a_payload_costs(fleet: Fleet, run: str, table: CampaignTable) -> None:
    payloads = long_or_short(300_000, 6_000)
    before = {part: processor_time(fleet, units) for part, units in PARTS.items()}
    with fleet_load(fleet, run, str(payloads)) as clients:
        report = clients.finish()
    result, again = audited(fleet, run, report)
    costs = {part: processor_time(fleet, units) - before[part] for part, units in PARTS.items()}
    notes = ", ".join(f"{part} {cost / payloads:.1f}" for part, cost in costs.items())
    table.add(fleet, "fleet of three: no fault", result, f"µs of a processor a payload: {notes}")
    assert_promise_kept(result)
    assert (result.acknowledged, result.repeated, again) == (payloads, 0, 0)


# Faults


def test_every_acknowledged_payload_reaches_the_collector(
    fleet: Fleet, packages: Versions, run: str, table: CampaignTable
) -> None:
    rounds = long_or_short(3, 1)
    with fleet_load(fleet, run, "0", "--reconnect") as clients:
        for _ in range(rounds):
            for fault in FAULTS:
                spread_clients(fleet)
                clients.await_acks(ENOUGH)
                wait_until("the node has clients", lambda: connections(fleet, "two") > 1)
                print(fault.__name__)
                fault(fleet, clients)
            upgrade_the_nodes(fleet, packages, clients)
        clients.await_acks(ENOUGH)
        report = clients.stop()
    result, again = audited(fleet, run, report)
    campaign = f"fleet of three: {rounds} times nodes killed, frozen, upgraded and rebooted"
    table.add(fleet, campaign, result, f"uploaded again: {again:,}")
    assert_promise_kept(result)
    assert again > 0  # "Send everything again"
    assert result.longest_pause < LONGEST_PAUSE


# TLS to the nodes


def test_the_balancer_can_pass_tls_through(fleet: Fleet) -> None:
    fleet.follow("TLS PASSED THROUGH")
    await_collected(fleet, "hello, over TLS to a node")
