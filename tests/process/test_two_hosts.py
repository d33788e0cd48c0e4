"""Two hosts and a cable: two network namespaces with a veth pair between them."""

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, Ended, ackctl
from tests.support.daemon_process import Daemon
from tests.support.journal_socket import DEADLINE
from tests.support.network_host import NetworkHost
from tests.support.obstacle import needs_namespaces
from tests.support.peer import ACK
from tests.support.readme import python_lines

pytestmark = needs_namespaces

THANKS = ACK.decode()


class Hosts:
    """A server at 192.168.150.1 and a client at 192.168.150.2."""

    def __init__(self, server: NetworkHost, client: NetworkHost) -> None:
        self.server, self.client = server, client
        server.ip("link", "add", "eth0", "type", "veth", "peer", "eth0", "netns", client.name)
        for host, address in ((server, "192.168.150.1/24"), (client, "192.168.150.2/24")):
            host.ip("link", "set", "lo", "up")
            host.ip("link", "set", "eth0", "up")
            host.ip("address", "add", address, "dev", "eth0")

    def serve(self, start: StartDaemon) -> Daemon:
        settings = "bind: 192.168.150.1\nport: 10008"
        return start(settings, prepare=self.server.move_in)

    def send(self, *arguments: str) -> Ended:
        where = ("--host", "192.168.150.1")
        return ackctl("send", *where, *arguments, before=self.client.shell)


@pytest.fixture
def hosts() -> Iterator[Hosts]:
    with ExitStack() as cleanup:
        server = NetworkHost("server")
        cleanup.callback(server.remove)
        client = NetworkHost("client")
        cleanup.callback(client.remove)
        yield Hosts(server, client)


def test_a_payload_is_recorded_on_the_other_host(hosts: Hosts, start: StartDaemon) -> None:
    ackd = hosts.serve(start)
    assert hosts.send("this data will send to server!") == (0, THANKS, "")
    entry = ackd.journal.next(Kind.PAYLOAD)
    assert entry["MESSAGE"] == b"Buffer: this data will send to server!"
    assert entry["ACKD_PEER"] == b"192.168.150.2"
    assert entry["ACKD_LISTENER"] == b"192.168.150.1:10008"


def test_the_python_example_of_the_readme_works(hosts: Hosts, start: StartDaemon) -> None:
    ackd = hosts.serve(start)
    python = [*hosts.client.shell, sys.executable, "-c", python_lines()]
    output = subprocess.check_output(python, text=True, timeout=DEADLINE)
    thanks = ACK.removesuffix(b"\n")
    assert output == f"{thanks!r}\n" + 2 * f"Verdict.ACKNOWLEDGED {thanks!r}\n"
    assert ackd.journal.payloads(3) == [b"this data will send to server!", b"one", b"two"]


def test_an_address_that_is_added_later_is_served(hosts: Hosts, start: StartDaemon) -> None:
    hosts.server.ip("address", "delete", "192.168.150.1/24", "dev", "eth0")
    ackd = hosts.serve(start)
    assert hosts.send("--timeout", "0.2", "hello")[0] == 3
    hosts.server.ip("address", "add", "192.168.150.1/24", "dev", "eth0")
    assert hosts.send("hello") == (0, THANKS, "")
    assert ackd.journal.next(Kind.PAYLOAD)["ACKD_LISTENER"] == b"192.168.150.1:10008"
    ackd.journal.wait_for(lambda entry: entry["MESSAGE"] == b"192.168.150.1:10008 is there now")


def test_allow_ignores_the_interface_of_a_link_local_client(
    hosts: Hosts, start: StartDaemon
) -> None:
    # nodad: usable at once, without duplicate address detection, RFC 4862, 5.4.
    hosts.server.ip("address", "add", "fe80::1/64", "dev", "eth0", "nodad")
    hosts.client.ip("address", "add", "fe80::2/64", "dev", "eth0", "nodad")
    settings = 'bind: "::"\nport: 10008\n'
    ackd = start(f"{settings}allow: fe80::2\n", prepare=hosts.server.move_in)
    send = ("send", "--host", "fe80::1%eth0", "hello")
    assert ackctl(*send, before=hosts.client.shell) == (0, THANKS, "")
    assert ackd.journal.next(Kind.PAYLOAD)["ACKD_PEER"] == b"fe80::2"
    ackd.configure(f"{settings}allow: fe80::3\n")
    ackd.signal(signal.SIGHUP)
    ackd.journal.next(Kind.RELOADED)
    status, _, error = ackctl(*send, before=hosts.client.shell)
    assert status == 1
    assert "not connect: fe80::2 is not allowed here" in error


def test_dropped_packets_make_the_host_not_reached(hosts: Hosts, start: StartDaemon) -> None:
    hosts.serve(start)
    hosts.server.ip("route", "add", "blackhole", "192.168.150.2")
    assert hosts.send("--timeout", "0.2", "hello") == (
        3,
        "",
        "ackctl: not reached: 192.168.150.1 port 10008: no answer within 0.2 s:"
        " the host is down, or a firewall drops packets (1 not sent)\n",
    )


def test_unreachable_replies_make_the_host_not_reached(hosts: Hosts, start: StartDaemon) -> None:
    hosts.serve(start)
    hosts.client.ip("route", "add", "unreachable", "192.168.150.1")
    assert hosts.send("hello") == (
        3,
        "",
        "ackctl: not reached: 192.168.150.1 port 10008: no route to host:"
        " it is down, or a firewall turns packets back (1 not sent)\n",
    )


def test_a_client_without_a_network_does_not_reach_the_host(hosts: Hosts) -> None:
    hosts.client.ip("link", "set", "eth0", "down")
    assert hosts.send("hello") == (
        3,
        "",
        "ackctl: not reached: 192.168.150.1 port 10008: network is unreachable:"
        " this host, or a router, has no route there (1 not sent)\n",
    )


def test_an_unknown_name_is_not_reached(hosts: Hosts) -> None:
    status, out, error = ackctl(
        "send", "--host", "no-such-host.invalid", "hello", before=hosts.client.shell
    )
    assert (status, out) == (3, "")
    assert error.startswith(
        "ackctl: not reached: no-such-host.invalid: the name can't be resolved: "
    )


def test_the_next_address_of_a_name_is_tried_in_time(
    hosts: Hosts, start: StartDaemon, tmp_path: Path
) -> None:
    hosts.serve(start)
    # No host has the second address. It is tried first: it shares more bits with the client's own
    # address, RFC 6724.
    (tmp_path / "hosts").write_text("192.168.150.1 server\n192.168.150.3 server\n")
    over_etc = f"mount -t overlay overlay -o lowerdir={tmp_path}:/etc /etc"
    with_names = ("sh", "-ec", f'{over_etc}; exec "$@"', "sh")
    arguments = ("send", "--host", "server", "--timeout", "1", "hello")
    assert ackctl(*arguments, before=(*hosts.client.shell, *with_names)) == (0, THANKS, "")


def test_a_recorded_payload_is_unknown_if_its_ack_is_lost(hosts: Hosts, start: StartDaemon) -> None:
    ackd = hosts.serve(start)
    arguments = ("send", "--host", "192.168.150.1", "--timeout", "1", "-")
    with Ackctl(*arguments, before=hosts.client.shell) as ackctl:
        ackctl.write(b"one\n")
        assert ackctl.read_line() == THANKS
        hosts.server.ip("route", "add", "blackhole", "192.168.150.2")
        ackctl.write(b"two\n")
        assert ackd.journal.payloads(2) == [b"one", b"two"]
        assert ackctl.ended() == (
            5,
            "",
            "ackctl: unknown: no answer within 1 s"
            " (1 acknowledged, 1 unknown: sent, and perhaps recorded)\n",
        )
