"""Which clients are admitted, by the address that accept() gives."""

import socket
from ipaddress import ip_network

import pytest

from ackd.config import Config
from ackd.server.admission import Admission

ANYWHERE = Config(max_connections_per_client=2)


def allowing(*networks: str) -> Admission:
    return Admission(Config(allow=tuple(map(ip_network, networks))))


def test_every_client_is_allowed_by_default() -> None:
    assert allowing().rejection("192.0.2.7") == ""
    assert allowing().rejection("2001:db8::1") == ""


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1", "::1"])
def test_a_client_in_an_allowed_network_is_admitted(peer: str) -> None:
    assert allowing("192.0.2.0/24", "fe80::/64", "::1/128").rejection(peer) == ""


@pytest.mark.parametrize(
    ("peer", "printed"),
    [
        ("192.0.3.7", "192.0.3.7"),
        ("::ffff:192.0.3.7", "192.0.3.7"),
        ("fe80:0:0:1::1", "fe80:0:0:1::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_a_client_outside_the_allowed_networks_is_rejected(peer: str, printed: str) -> None:
    rejection = allowing("192.0.2.0/24", "fe80::/64").rejection(peer)
    assert rejection == f"{printed} is not allowed here"


def test_a_network_of_all_ipv6_addresses_has_no_ipv4_address() -> None:
    assert allowing("::/0").rejection("::ffff:192.0.2.7") == "192.0.2.7 is not allowed here"


def test_an_ipv4_client_on_a_socket_for_both_families_is_checked_as_ipv4() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        client = socket.create_connection(("127.0.0.1", both.getsockname()[1]))
        connection, address = both.accept()
        with client, connection:
            assert address[0] == "::ffff:127.0.0.1"
            assert allowing("127.0.0.0/8").rejection(address[0]) == ""
            assert allowing("::/0").rejection(address[0]) != ""


def test_all_addresses_of_one_ipv6_client_share_a_limit() -> None:
    admission = Admission(ANYWHERE)
    for peer in ("2001:db8::1", "2001:db8::2"):
        assert admission.rejection(peer) == ""
        admission.enter(peer)
    no = "too many connections from 2001:db8::/64, the limit is 2"
    assert admission.rejection("2001:db8::3") == no
    assert admission.rejection("2001:db8:0:1::1") == ""
    admission.leave("2001:db8::1")
    assert admission.rejection("2001:db8::3") == ""


def test_a_change_of_allowed_networks_closes_no_connection() -> None:
    admission = Admission(ANYWHERE)
    admission.enter("192.0.2.7")
    admission.configure(Config(allow=(ip_network("198.51.100.0/24"),)))
    assert admission.connected == 1
    assert admission.rejection("192.0.2.7") == "192.0.2.7 is not allowed here"
    admission.leave("192.0.2.7")
    assert admission.connected == 0
