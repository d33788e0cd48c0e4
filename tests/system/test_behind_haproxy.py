"""ackd behind Debian's HAProxy: each version of the header, health checks, TLS, a restart."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.support.peer import ACK, GREETING, Peer
from tests.support.project import PROJECT

from .support.base_root import BALANCER, Release
from .support.connections import connect
from .support.install import BIND, install
from .support.machine import (
    CLIENT_ADDRESS,
    MACHINE_ADDRESS,
    JournalEntry,
    Machine,
    boot,
    wait_until,
)

PORT = 20008
JOURNALD = "systemd-journald.service"
SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")
CONFIGURATION = """
global
    stats socket /run/haproxy/admin.sock
    ca-base /etc/haproxy
    crt-base /etc/haproxy
defaults
    mode tcp
    timeout connect 5s
    timeout client 15m
    timeout server 15m
listen ackd
    bind {address}:{port} {bind}
    {option}
    server one {address}:10008 {server}
"""
TCP_CHECK = "option tcp-check\n    tcp-check expect string Connect"


@pytest.fixture(scope="module")
def haproxy(release: Release) -> Iterator[Machine]:
    """A machine with an ackd, and a balancer before it that the client host can reach."""
    with boot(release, tools=BALANCER) as machine:
        install(machine)
        machine.put("/etc/ackd.yaml", f"{BIND}proxy_from: {MACHINE_ADDRESS}\n")
        machine.run("systemctl", "start", "ackd")
        yield machine


def configure(machine: Machine, server: str, option: str = "", bind: str = "") -> None:
    """Restart HAProxy with these words in its configuration."""
    text = CONFIGURATION.format(
        address=MACHINE_ADDRESS, port=PORT, server=server, option=option, bind=bind
    )
    machine.put("/etc/haproxy/haproxy.cfg", text)
    machine.run("systemctl", "reset-failed", "haproxy")
    machine.run("systemctl", "restart", "haproxy")


def records(machine: Machine, *kinds: Kind) -> list[JournalEntry]:
    """Return the records of these kinds."""
    return machine.journal("-u", "ackd", *(f"MESSAGE_ID={kind.value}" for kind in kinds))


def own_port(peer: Peer) -> bytes:
    return b"%d" % peer.socket.getsockname()[1]


def assert_from_client(entry: JournalEntry, port: bytes) -> None:
    """Check that a record names the client and the balancer."""
    assert (entry["ACKD_PEER"], entry["ACKD_PEER_PORT"]) == (CLIENT_ADDRESS.encode(), port)
    assert re.fullmatch(rf"{re.escape(MACHINE_ADDRESS)}:\d+".encode(), entry["ACKD_PROXY"])
    assert entry["ACKD_LISTENER"] == f"{MACHINE_ADDRESS}:10008".encode()


@pytest.mark.parametrize(
    "server",
    [
        "send-proxy",
        "send-proxy-v2",
        "send-proxy-v2 proxy-v2-options crc32c,ssl,cert-cn,ssl-cipher,authority",
        "check inter 100ms send-proxy-v2",
    ],
)
def test_records_name_the_client(haproxy: Machine, server: str) -> None:
    configure(haproxy, server)
    with connect(haproxy, port=PORT) as peer:
        peer.expect(GREETING)
        peer.send(b"hello\nthrough the balancer\n")
        peer.expect(ACK * 2)
        port = own_port(peer)
    for entry in records(haproxy, Kind.PAYLOAD)[-2:]:
        assert_from_client(entry, port)
    shown = haproxy.run("ackctl", "log", "--json", "--lines", "1", "--peer", CLIENT_ADDRESS).stdout
    assert json.loads(shown.splitlines()[0])["proxy"].encode() == entry["ACKD_PROXY"]


# All that is recorded about connections and their payloads.
KINDS = (Kind.CONNECTED, Kind.CLOSED, Kind.REJECTED, Kind.LIMITED, Kind.PAYLOAD)


def connections(machine: Machine) -> int:
    """Return how many connections ackd has counted."""
    before = len(records(machine, Kind.COUNTERS))
    machine.run("systemctl", "kill", "--signal=USR1", "ackd")
    found = wait_until("the counters", lambda: records(machine, Kind.COUNTERS)[before:])
    return int(found[-1]["ACKD_CONNECTIONS"])


def state_of_server(machine: Machine) -> str:
    """Return what HAProxy reports about ackd, as fields separated by commas."""
    code = """
import socket
with socket.socket(socket.AF_UNIX) as s:
    s.connect("/run/haproxy/admin.sock")
    s.sendall(b"show stat\\n")
    print(s.makefile().read())
"""
    (line,) = re.findall(r"^ackd,one,.*$", machine.python(code).stdout, re.MULTILINE)
    return str(line)


def await_state(machine: Machine, state: str) -> None:
    """Wait until HAProxy says that ackd is UP or DOWN."""
    wait_until(f"ackd is {state}", lambda: f",{state}," in state_of_server(machine), 60)


@pytest.mark.parametrize(
    ("server", "option"),
    [
        ("send-proxy check inter 50ms", ""),
        ("send-proxy-v2 check inter 50ms", ""),
        ("send-proxy-v2 proxy-v2-options crc32c check inter 50ms", ""),
        ("check-send-proxy check inter 50ms", ""),
        ("send-proxy check inter 50ms", TCP_CHECK),
        ("send-proxy-v2 check inter 50ms", TCP_CHECK),
    ],
    ids=["v1", "v2", "crc32c", "check-send-proxy", "v1 expects", "v2 expects"],
)
def test_health_checks_pass_and_leave_no_records(
    haproxy: Machine, server: str, option: str
) -> None:
    configure(haproxy, server, option)
    recorded = len(records(haproxy, *KINDS))
    before = connections(haproxy)
    wait_until("some checks have passed", lambda: connections(haproxy) >= before + 10, 60)
    assert ",UP," in state_of_server(haproxy)
    assert records(haproxy, *KINDS)[recorded:] == []


def test_health_checks_without_a_header_pass_and_leave_no_records(haproxy: Machine) -> None:
    recorded = len(records(haproxy, *KINDS))
    configure(haproxy, f"send-proxy-v2 check inter 50ms addr {MACHINE_ADDRESS}")
    # HAProxy resets such a connection before it is complete, so ackd can't count them.
    wait_until("a check has passed", lambda: ",L4OK," in state_of_server(haproxy), 60)
    assert records(haproxy, *KINDS)[recorded:] == []


@pytest.fixture
def checked(haproxy: Machine) -> Iterator[Machine]:
    """The same machine, whose HAProxy knows soon whether ackd can record."""
    settings = f"{BIND}proxy_from: {MACHINE_ADDRESS}\n"
    haproxy.put("/etc/ackd.yaml", f"{settings}journal_wait: 0.5\n")
    haproxy.run("systemctl", "reload", "ackd")
    configure(haproxy, "send-proxy-v2 check inter 100ms", TCP_CHECK)
    await_state(haproxy, "UP")
    yield haproxy
    haproxy.put("/etc/ackd.yaml", settings)
    haproxy.run("systemctl", "reload", "ackd")


def assert_served(machine: Machine, payload: bytes) -> None:
    """Check that a payload gets through the balancer."""
    with connect(machine, port=PORT) as peer:
        peer.expect(GREETING)
        peer.send(payload + b"\n")
        peer.expect(ACK)


def test_a_server_without_a_journal_is_down_until_the_journal_is_back(checked: Machine) -> None:
    with connect(checked, port=PORT) as connected:
        connected.expect(GREETING)
        checked.run("systemctl", "stop", *SOCKETS, JOURNALD)  # ackd has nothing to record
        await_state(checked, "DOWN")
        connected.send(b"in vain\n")
        connected.expect(b"not received: the journal can't be reached\n")
        checked.run("systemctl", "start", *SOCKETS, JOURNALD)
        await_state(checked, "UP")
        connected.send(b"the same connection\n")
        connected.expect(ACK)
    assert_served(checked, b"a new connection")
    rejected = records(checked, Kind.REJECTED)[-1]
    assert rejected["MESSAGE"].endswith(b": the journal can't be reached")


def test_a_server_with_a_frozen_journal_is_down_until_the_journal_goes_on(checked: Machine) -> None:
    checked.run("systemctl", "kill", "--signal=STOP", JOURNALD)
    with connect(checked) as connected:
        connected.expect(GREETING)
        connected.send(b"hello\n" * 2000)  # more than journald's queue holds
        await_state(checked, "DOWN")
        checked.run("systemctl", "kill", "--signal=CONT", JOURNALD)
        connected.expect(ACK * 2000)
    await_state(checked, "UP")
    assert_served(checked, b"after the freeze")


def test_a_server_whose_journal_stores_nothing_is_down(checked: Machine) -> None:
    conf = "/etc/systemd/journald.conf.d/50-test.conf"
    checked.put(conf, "[Journal]\nStorage=none\n")
    checked.run("systemctl", "restart", JOURNALD)
    await_state(checked, "DOWN")
    checked.run("rm", conf)
    checked.run("systemctl", "restart", JOURNALD)
    await_state(checked, "UP")


def test_a_connection_stays_the_clients_own_over_a_restart(haproxy: Machine) -> None:
    configure(haproxy, "send-proxy-v2")
    with connect(haproxy, port=PORT) as peer, connect(haproxy) as direct:
        direct.expect(GREETING)
        peer.expect(GREETING)
        port = own_port(peer)
        haproxy.run("systemctl", "restart", "ackd")
        peer.send(b"after the restart\n")
        peer.expect(ACK)
    assert_from_client(records(haproxy, Kind.PAYLOAD)[-1], port)


def test_a_balancer_that_sends_no_header_is_told_so(haproxy: Machine) -> None:
    configure(haproxy, "")
    before = len(records(haproxy, Kind.PAYLOAD))
    with connect(haproxy, port=PORT) as peer:
        peer.send(b"hello\n")
        peer.expect(b"not connect: this port expects a PROXY header from your address\n")
    rejected = records(haproxy, Kind.REJECTED)[-1]
    assert rejected["ACKD_PEER"] == MACHINE_ADDRESS.encode()
    assert len(records(haproxy, Kind.PAYLOAD)) == before


CERTIFICATES = """
set -e
cd /etc/haproxy
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 \\
    -subj /CN=authority -keyout ca.key -out ca.pem
for name in server client; do
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=$name.example \\
        -keyout $name.key -out $name.csr
    openssl x509 -req -in $name.csr -CA ca.pem -CAkey ca.key -days 9 -out $name.crt
    cat $name.crt $name.key >$name.pem
done
"""


def test_records_name_the_clients_certificate_that_haproxy_has_verified(
    haproxy: Machine, tmp_path: Path
) -> None:
    haproxy.run("sh", "-c", CERTIFICATES)
    configure(
        haproxy,
        "send-proxy-v2-ssl-cn proxy-v2-options ssl,cert-cn,ssl-cipher,crc32c",
        bind="ssl crt server.pem ca-file ca.pem verify required",
    )
    certificate = tmp_path / "client.pem"
    certificate.write_text(haproxy.run("cat", "/etc/haproxy/client.pem").stdout)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(certificate)
    with connect(haproxy, port=PORT) as plain:
        over_tls: socket.socket = context.wrap_socket(plain.socket)
        with Peer.over(over_tls) as peer:
            peer.expect(GREETING)
            peer.send(b"over TLS\n")
            peer.expect(ACK)
    entry = records(haproxy, Kind.PAYLOAD)[-1]
    assert entry["ACKD_PEER"] == CLIENT_ADDRESS.encode()
    assert entry["ACKD_TLS_NAME"] == b"client.example"
    assert entry["ACKD_TLS_VERSION"] == b"TLSv1.3"
    assert entry["ACKD_TLS_CIPHER"].startswith(b"TLS_AES_")


def test_the_manuals_configuration_works(haproxy: Machine) -> None:
    page = (PROJECT / "man" / "ackd.8.scd").read_text()
    section = page.partition("# BEHIND A LOAD BALANCER\n")[2]
    example = section.partition("# 1. haproxy.cfg\n")[2].partition("\n# 2. ackd.yaml\n")[0]
    text = example.replace("bind :10008", f"bind {MACHINE_ADDRESS}:{PORT}")
    haproxy.put("/etc/haproxy/haproxy.cfg", text)
    haproxy.run("haproxy", "-c", "-f", "/etc/haproxy/haproxy.cfg")
    haproxy.run("systemctl", "reset-failed", "haproxy")
    haproxy.run("systemctl", "restart", "haproxy")
    with connect(haproxy, port=PORT) as peer:
        peer.expect(GREETING)
        peer.send(b"as in the manual\n")
        peer.expect(ACK)
        port = own_port(peer)
    assert_from_client(records(haproxy, Kind.PAYLOAD)[-1], port)
