"""Who is let in, by the address that accept() gives."""

import socket
from ipaddress import ip_network

import pytest

from ackd.config import Config
from ackd.server.admission import Admission

ANYWHERE = Config(max_connections_per_client=2)


def allowing(*networks: str) -> Admission:
    return Admission(Config(allow=tuple(map(ip_network, networks))))


def test_without_networks_everybody_is_allowed() -> None:
    assert allowing().refusal("192.0.2.7") == ""
    assert allowing().refusal("2001:db8::1") == ""


@pytest.mark.parametrize("peer", ["192.0.2.7", "::ffff:192.0.2.7", "fe80::1", "::1"])
def test_who_is_in_one_of_the_networks_is_allowed(peer: str) -> None:
    assert allowing("192.0.2.0/24", "fe80::/64", "::1/128").refusal(peer) == ""


@pytest.mark.parametrize(
    ("peer", "shown"),
    [
        ("192.0.3.7", "192.0.3.7"),
        ("::ffff:192.0.3.7", "192.0.3.7"),
        ("fe80:0:0:1::1", "fe80:0:0:1::1"),
        ("2001:db8::1", "2001:db8::1"),
    ],
)
def test_nobody_else_is(peer: str, shown: str) -> None:
    refusal = allowing("192.0.2.0/24", "fe80::/64").refusal(peer)
    assert refusal == f"{shown} is not allowed here"


def test_all_of_ipv6_is_nothing_of_ipv4() -> None:
    assert allowing("::/0").refusal("::ffff:192.0.2.7") == "192.0.2.7 is not allowed here"


def test_a_socket_for_both_families_shows_ipv4_clients_in_a_way_that_is_understood() -> None:
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as both:
        client = socket.create_connection(("127.0.0.1", both.getsockname()[1]))
        connection, address = both.accept()
        with client, connection:
            assert address[0] == "::ffff:127.0.0.1"
            assert allowing("127.0.0.0/8").refusal(address[0]) == ""
            assert allowing("::/0").refusal(address[0]) != ""


def test_the_addresses_of_one_client_have_one_limit() -> None:
    admission = Admission(ANYWHERE)
    for peer in ("2001:db8::1", "2001:db8::2"):
        assert admission.refusal(peer) == ""
        admission.enter(peer)
    no = "too many connections from 2001:db8::/64, the limit is 2"
    assert admission.refusal("2001:db8::3") == no
    assert admission.refusal("2001:db8:0:1::1") == ""
    admission.leave("2001:db8::1")
    assert admission.refusal("2001:db8::3") == ""


def test_new_networks_send_nobody_away() -> None:
    admission = Admission(ANYWHERE)
    admission.enter("192.0.2.7")
    admission.configure(Config(allow=(ip_network("198.51.100.0/24"),)))
    assert admission.inside == 1
    assert admission.refusal("192.0.2.7") == "192.0.2.7 is not allowed here"
    admission.leave("192.0.2.7")
    assert admission.inside == 0
