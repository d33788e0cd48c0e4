"""ackctl on broken paths: a client, a router and a server, each in a network of its own."""

import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.process.ctl.test_probe import LIKELY, read_until
from tests.support.ackctl_process import Ackctl, ackctl
from tests.support.daemon_process import Daemon
from tests.support.network_host import run
from tests.support.obstacle import needs_namespaces
from tests.support.probed_network import (
    CLIENT,
    SERVER,
    Network,
    found,
    probed_network,
    with_etc,
)

pytestmark = needs_namespaces

BOTH_FAMILIES = f"{SERVER} server\n2001:db8::2 server\n"  # of addresses, for /etc/hosts
SOON = ("--timeout", "0.2")  # for a wait that must time out
LATER = ("--timeout", "0.5")  # for a wait that must time out after an answer that must not


@pytest.fixture
def network() -> Iterator[Network]:
    with probed_network() as network:
        yield network


# Connected


def test_a_router_forwards_the_probe(network: Network, start: StartDaemon) -> None:
    network.serve(start)
    status, stages, _ = network.probe()
    assert (status, stages[1]) == (0, f"connected passed {SERVER} from {CLIENT}")


def test_packets_that_are_dropped_get_no_answer(network: Network, start: StartDaemon) -> None:
    network.serve(start)
    network.drop()
    status, stages, summary = network.probe(*SOON)
    assert (status, stages[1:]) == (3, [f"connected failed {SERVER} no answer within 0.2 s"])
    assert summary["meaning"].startswith("Packets get no answer. A firewall, perhaps this host's")


@pytest.mark.parametrize("how", ["unreachable", "prohibit"])
def test_packets_are_turned_back_by_a_router(network: Network, how: str) -> None:
    network.router.ip("route", "add", how, SERVER)
    status, stages, summary = network.probe()
    assert (status, stages[1:]) == (3, [f"connected failed {SERVER} no route to host"])
    assert summary["meaning"].startswith("A router or firewall rejects the packets")


@pytest.mark.parametrize(
    ("how", "seen", "meaning"),
    [
        ("unreachable", "no route to host", "A router or firewall rejects the packets"),
        (
            "prohibit",
            "prohibited",
            "A firewall or a route prohibits the connection, on this host or on a router",
        ),
        ("blackhole", "discarded here", "This host's own routes discard packets to that address"),
        ("throw", "network is unreachable", "This host or a router has no route to that address"),
    ],
)
def test_packets_do_not_leave_the_host(network: Network, how: str, seen: str, meaning: str) -> None:
    network.client.ip("route", "add", how, SERVER)
    network.client.ip("route", "delete", "default")
    status, stages, summary = network.probe()
    assert (status, stages[1:]) == (3, [f"connected failed {SERVER} {seen}"])
    assert summary["meaning"].startswith(meaning)


def test_a_host_without_a_server(network: Network) -> None:
    status, stages, _ = network.probe()
    assert (status, stages[1:]) == (3, [f"connected failed {SERVER} refused"])


@pytest.mark.parametrize(
    ("arguments", "meaning"),
    [
        (("--source", "127.0.0.1"), "From 127.0.0.1 this host reaches only itself"),
        (("--host", "fe80::1"), "An address like fe80::1 is valid on one link only"),
        (
            ("--host", "2001:db8::2", "--source", "fe80::1"),
            "A source like fe80::1 is valid on one link only",
        ),
    ],
)
def test_addresses_that_can_not_be_used_together(
    network: Network, arguments: tuple[str, ...], meaning: str
) -> None:
    status, _, summary = network.probe(*arguments)
    assert status == 3
    assert summary["meaning"].startswith(meaning)


# Names


def test_an_unknown_name(network: Network, tmp_path: Path) -> None:
    before = with_etc(tmp_path, nsswitch_conf="hosts: files\n")
    status, stages, summary = network.probe("--host", "no-such-host.example", before=before)
    assert (status, stages) == (3, ["resolved failed the name does not exist"])
    assert "Look for a typo" in summary["meaning"]


def with_silent_name_servers(network: Network, directory: Path) -> tuple[str, ...]:
    """Return the words to put before a command, so that no name server answers it."""
    network.drop()
    resolv_conf = f"nameserver {SERVER}\noptions timeout:1 attempts:1\n"
    return with_etc(directory, nsswitch_conf="hosts: dns\n", resolv_conf=resolv_conf)


@pytest.mark.parametrize(
    ("patience", "seen"),
    [
        ("0.2", "no answer within 0.2 s"),
        ("20", "the name servers do not answer, or answer with an error"),
    ],
)
def test_name_servers_that_do_not_answer(
    network: Network, tmp_path: Path, patience: str, seen: str
) -> None:
    before = with_silent_name_servers(network, tmp_path)
    arguments = ("--host", "server.example", "--timeout", patience)
    status, stages, summary = network.probe(*arguments, before=before)
    assert (status, stages) == (3, [f"resolved failed {seen}"])
    assert "Ask the administrators of this network" in summary["meaning"]


def test_name_servers_that_refuse_the_question(network: Network, tmp_path: Path) -> None:
    resolv_conf = f"nameserver {SERVER}\n"  # no name server listens there
    before = with_etc(tmp_path, nsswitch_conf="hosts: dns\n", resolv_conf=resolv_conf)
    status, stages, summary = network.probe("--host", "server.example", before=before)
    assert (status, stages) == (
        3,
        ["resolved failed the name servers do not answer, or answer with an error"],
    )
    assert "Then ask the administrator of the name's zone" in summary["meaning"]


def test_send_waits_for_name_servers_up_to_its_timeout(network: Network, tmp_path: Path) -> None:
    before = (*network.client.shell, *with_silent_name_servers(network, tmp_path))
    send = ("send", "--host", "server.example", "--timeout", "0.2", "hello")
    assert ackctl(*send, before=before) == (
        3,
        "",
        "ackctl: not reached: server.example: the name can't be resolved: no answer within 0.2 s:"
        " the name servers, or the way to them, are down (1 not sent)\n",
    )


def test_ctrl_c_ends_the_wait_for_name_servers(network: Network, tmp_path: Path) -> None:
    before = (*network.client.shell, *with_silent_name_servers(network, tmp_path))
    with Ackctl("send", "--host", "server.example", "-v", "hello", before=before) as sending:
        assert "connecting to server.example port 10008" in sending.read_line()
        sending.signal(signal.SIGINT)
        status, _, complaint = sending.ended()
    assert (status, complaint) == (-signal.SIGINT, "ackctl: interrupted (1 not sent)\n")


def with_ipv6(network: Network, directory: Path) -> tuple[str, ...]:
    """Return the words to put before a command, so that `server` has IPv4 and IPv6 addresses."""
    for host, own, gateway in (
        (network.client, "2001:db8:1::2/64", "2001:db8:1::1"),
        (network.server, "2001:db8::2/64", "2001:db8::1"),
    ):
        link = "client" if host is network.client else "server"
        host.ip("address", "add", own, "dev", "eth0", "nodad")
        network.router.ip("address", "add", f"{gateway}/64", "dev", link, "nodad")
        host.ip("route", "add", "default", "via", gateway)
    run(*network.router.shell, "sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/all/forwarding")
    return with_etc(directory, nsswitch_conf="hosts: files\n", hosts=BOTH_FAMILIES)


def test_an_ackd_that_listens_on_ipv4_only(
    network: Network, start: StartDaemon, tmp_path: Path
) -> None:
    network.serve(start)
    before = with_ipv6(network, tmp_path)
    status, stages, summary = network.probe("--host", "server", before=before)
    assert (status, stages[:3]) == (
        0,
        [
            f"resolved passed 2001:db8::2, {SERVER}",
            "connected failed 2001:db8::2 refused",
            f"connected passed {SERVER} from {CLIENT}",
        ],
    )
    assert summary["meaning"].endswith(
        f"2001:db8::2 refuses connections, {SERVER} accepts them. No program listens there on IPv6,"
        " or a firewall refuses connections in its place. Ask the administrator of the server for"
        " `bind`. Programs that try only one address may fail."
    )


def test_ipv6_is_broken_and_ipv4_is_not(
    network: Network, start: StartDaemon, tmp_path: Path
) -> None:
    network.serve(start)
    before = with_ipv6(network, tmp_path)
    drop_ipv6(network)
    status, _, summary = network.probe("--host", "server", *LATER, before=before)
    assert status == 0
    assert (
        "IPv6 does not work, IPv4 works. 2001:db8::2 was not reached (no answer within 0.5 s)."
        " Programs that try this address first wait for it, or fail." in summary["meaning"]
    )


def test_each_address_fails_in_another_way(network: Network, tmp_path: Path) -> None:
    before = with_etc(tmp_path, nsswitch_conf="hosts: files\n", hosts=BOTH_FAMILIES)
    network.drop()
    status, _, summary = network.probe("--host", "server", *SOON, before=before)
    assert status == 3
    assert summary["meaning"].startswith(f"{SERVER}: no answer within 0.2 s. Packets get no answer")
    assert (
        " 2001:db8::2: no address to connect from. This host has no address that can reach that"
        in summary["meaning"]
    )


def drop_ipv6(network: Network) -> None:
    network.router.ip("-6", "rule", "add", "iif", "client", "blackhole")


@pytest.mark.parametrize("verb", ["send", "ping", "bench"])
def test_a_server_whose_ipv6_is_a_black_hole_is_reached_by_ipv4(
    network: Network, start: StartDaemon, tmp_path: Path, verb: str
) -> None:
    ackd = network.serve(start)
    before = (*network.client.shell, *with_ipv6(network, tmp_path))
    drop_ipv6(network)
    what = {"send": ("hello",), "ping": ("--count", "1"), "bench": ("--seconds", "0.1")}[verb]
    # If each address had a share of this timeout, the command would take half a day.
    command = (verb, "--host", "server", "--timeout", "86400", *what)
    status, _, complaint = ackctl(*command, before=before)
    assert (status, complaint) == (0, "")
    assert ackd.journal.next(Kind.PAYLOAD)["ACKD_PEER"] == CLIENT.encode()


# The name of a server that moves


class MovingServer:
    """A server whose name has one of two addresses; `before` lets ackctl resolve the name."""

    def __init__(self, network: Network, directory: Path, services: str = "files") -> None:
        """`services` resolve names, nsswitch.conf(5). Name servers never answer."""
        network.server.ip("address", "add", f"{OTHER_SERVER}/24", "dev", "eth0")
        network.drop("to", NAME_SERVER)
        self._hosts = directory / "hosts"
        files = {
            "hosts": "",
            "nsswitch.conf": f"hosts: {services}\n",
            "resolv.conf": f"nameserver {NAME_SERVER}\noptions timeout:30\n",
        }
        for name, text in files.items():
            (directory / name).write_text(text)
        mounts = (f"mount --bind {directory / name} /etc/{name}" for name in files)
        script = f'{" && ".join(mounts)} && exec "$@"'
        self.before = (*network.client.shell, "sh", "-c", script, "sh")

    def move_to(self, address: str) -> None:
        """Give the name this address, or no address if it is empty."""
        self._hosts.write_text(f"{address} server\n" if address else "")


OTHER_SERVER, NAME_SERVER = "192.168.150.3", "192.0.2.53"
OFTEN = ("--host", "server", "--interval", "0.01", "--json")


def pinging(server: MovingServer) -> Ackctl:
    return Ackctl("ping", *OFTEN, before=server.before)


def serve_at(network: Network, start: StartDaemon, address: str) -> Daemon:
    return start(f"bind: {address}\nport: 10008", prepare=network.server.move_in)


def test_a_ping_follows_a_name_to_another_address(
    network: Network, start: StartDaemon, tmp_path: Path
) -> None:
    server = MovingServer(network, tmp_path)
    first, second = serve_at(network, start, SERVER), serve_at(network, start, OTHER_SERVER)
    server.move_to(SERVER)
    with pinging(server) as ping:
        first.journal.next(Kind.PAYLOAD)
        server.move_to(OTHER_SERVER)
        first.signal(signal.SIGKILL)
        first.wait()
        second.journal.next(Kind.PAYLOAD)
        ping.signal(signal.SIGINT)
        assert ping.ended()[0] in (3, 5)


def test_a_ping_connects_again_although_its_name_is_unknown_now(
    network: Network, start: StartDaemon, tmp_path: Path
) -> None:
    server = MovingServer(network, tmp_path)
    first = serve_at(network, start, SERVER)
    server.move_to(SERVER)
    with pinging(server) as ping:
        first.journal.next(Kind.PAYLOAD)
        server.move_to("")
        first.signal(signal.SIGKILL)
        first.wait()
        serve_at(network, start, SERVER).journal.next(Kind.PAYLOAD)
        ping.signal(signal.SIGINT)
        assert ping.ended()[0] in (3, 5)


def test_a_ping_connects_again_while_the_name_servers_do_not_answer(
    network: Network, start: StartDaemon, tmp_path: Path
) -> None:
    server = MovingServer(network, tmp_path, "files dns")
    first = serve_at(network, start, SERVER)
    server.move_to(SERVER)
    with pinging(server) as ping:
        first.journal.next(Kind.PAYLOAD)
        server.move_to("")
        first.signal(signal.SIGKILL)
        first.wait()
        while ping.threads == 1:
            pass  # until ping asks the name servers, in a thread
        serve_at(network, start, SERVER).journal.next(Kind.PAYLOAD)
        assert ping.threads == 2
        ping.signal(signal.SIGINT)
        assert ping.ended()[0] in (3, 5)


# Sent


def test_packets_that_are_dropped_after_the_connection_is_established(
    network: Network, start: StartDaemon
) -> None:
    ackd = network.serve(start)
    ackd.signal(signal.SIGSTOP)  # the kernel connects, ackd does not greet
    with network.probing("--json", "--timeout", "2") as probe:
        connected = [probe.read_line(), probe.read_line()]
        network.drop()
        ackd.signal(signal.SIGCONT)
        status, out, complaint = probe.ended()
    status, stages, summary = found((status, "".join([*connected, out]), complaint))
    assert (status, stages[2:]) == (
        5,
        [
            "greeted passed Connect",
            "sent failed no packet confirmed the arrival of 44 bytes within 2 s",
        ],
    )
    assert summary["meaning"].startswith(
        "The connection was established, but now packets get no answer"
    )
    assert summary["unknown"] == 1


def probed_while_packets_are_lost(
    network: Network, ackd: Daemon, *arguments: str
) -> tuple[int, dict[str, Any]]:
    """Lose the first packet of a payload; return the exit status and the summary."""
    ackd.signal(signal.SIGSTOP)
    with network.probing("--json", *arguments) as probe:
        connected = [probe.read_line(), probe.read_line()]
        network.drop()
        ackd.signal(signal.SIGCONT)
        network.client.await_retransmission()
        network.carry()
        status, out, complaint = probe.ended()
    status, _, summary = found((status, "".join([*connected, out]), complaint))
    return status, summary


def test_packets_that_are_lost_are_counted(network: Network, start: StartDaemon) -> None:
    status, summary = probed_while_packets_are_lost(network, network.serve(start))
    assert status == 0
    assert summary["retransmitted"] >= 1
    lost = f"{summary['retransmitted']} of {summary['packets']} packets had to be sent again"
    assert f"{lost}. Packets are lost on the way there or back" in summary["meaning"]


# Sizes


def test_a_tunnel_that_drops_large_packets_silently(network: Network, start: StartDaemon) -> None:
    ackd = network.serve(start)
    network.router.ip("link", "set", "server", "mtu", "1000")
    network.drop_icmp()
    status, stages, summary = network.probe("--sweep", *LATER)
    assert status == 5
    assert stages[5:11] == [
        "sweep 64 passed",
        "sweep 128 passed",
        "sweep 256 passed",
        "sweep 512 passed",
        "sweep 1024 failed no packet confirmed the arrival of 1025 bytes within 0.5 s;"
        " trying a new connection",
        "sweep 1024 failed no packet confirmed the arrival of 1025 bytes within 0.5 s",
    ]
    # 1000 without 20 bytes of IPv4, 20 of TCP, 12 of its timestamps and the end of the line.
    assert (summary["largest"], summary["too_large"], summary["limit"]) == (947, 948, None)
    assert (
        "Packets of over 1000 bytes are lost, but this host assumes an MTU of 1500."
        in (summary["meaning"])
    )
    assert summary["end_acknowledged"]
    stored = ackd.journal.payloads(summary["acknowledged"] + 1)
    assert max(map(len, stored)) == 947


def test_a_lost_size_may_be_chance_if_other_packets_are_lost_too(
    network: Network, start: StartDaemon
) -> None:
    ackd = network.serve(start)
    network.router.ip("link", "set", "server", "mtu", "1000")
    network.drop_icmp()
    status, summary = probed_while_packets_are_lost(network, ackd, "--sweep", "--timeout", "2")
    assert (status, summary["too_large"]) == (5, 948)
    assert (
        "Packets of other sizes are lost too, so this may be chance. Payloads of up to 947"
        in summary["meaning"]
    )


def test_a_tunnel_that_reports_too_large_packets_is_good(
    network: Network, start: StartDaemon
) -> None:
    network.serve(start)
    network.router.ip("link", "set", "server", "mtu", "1000")
    status, _, summary = network.probe("--sweep")
    assert (status, summary["largest"], summary["retransmitted"]) == (0, 65536, 0)


def test_a_slow_link_has_time_as_long_as_bytes_arrive(network: Network, start: StartDaemon) -> None:
    network.serve(start)
    slow = "qdisc add dev eth0 root tbf rate 512kbit burst 3000 limit 200000"
    run("tc", "-netns", network.client.name, *slow.split())
    status, stages, summary = network.probe("--sweep", *LATER)
    assert status == 0
    assert re.fullmatch(r"sweep 65536 passed slow: \d{3} kbit/s", stages[-2])
    assert (summary["largest"], summary["too_large"]) == (65536, None)


# Silences


def test_a_firewall_that_forgets_a_silent_connection(network: Network, start: StartDaemon) -> None:
    ackd = network.serve(start)
    with network.probing("--hold", "2", *LATER) as probe:
        read_until(probe, "acknowledged")
        probe.pause()
        port = ackd.journal.next(Kind.PAYLOAD)["ACKD_PEER_PORT"].decode()
        network.drop("ipproto", "tcp", "sport", port)
        probe.signal(signal.SIGCONT)
        status, out, complaint = probe.ended()
    assert status == 5
    assert complaint.startswith("ackctl: a silence ends the connection")
    assert "     2 s silent failed" in out
    assert "no packet confirmed the arrival of 44 bytes within 0.5 s" in out
    assert "A firewall, NAT or load balancer on the way has probably forgotten the silent" in out
    assert f"{LIKELY}\n" in out
