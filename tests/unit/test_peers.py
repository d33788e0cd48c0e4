"""A peer's address, and which addresses belong to the same client."""

from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackd.peers import Address, Network, Networks, address_of, client_of


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("fe80::1", "fe80::1"),
        ("2001:db8::ffff:c000:207", "2001:db8::ffff:c000:207"),
    ],
)
def test_the_address_of_a_peer_is_ipv4_if_it_can_be(peer: str, address: str) -> None:
    assert str(address_of(peer)) == address


@pytest.mark.parametrize(
    ("peer", "client"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::1", "::1"),
        ("fe80::1", "fe80::/64"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::/64"),
        ("2001:db8:1:3::", "2001:db8:1:3::/64"),
        ("", ""),
    ],
)
def test_a_client_is_an_ipv4_address_or_an_ipv6_network(peer: str, client: str) -> None:
    assert client_of(peer) == client


NETWORKS = st.one_of(
    st.ip_addresses(v=4).flatmap(
        lambda a: st.integers(0, 32).map(lambda n: ip_network((int(a), n), strict=False))
    ),
    st.ip_addresses(v=6).flatmap(
        lambda a: st.integers(0, 128).map(lambda n: ip_network((a, n), strict=False))
    ),
)


@given(st.lists(NETWORKS, max_size=5), st.ip_addresses())
def test_an_address_is_in_networks_if_it_is_in_one_of_them(
    networks: list[Network], address: Address
) -> None:
    assert (address in Networks(networks)) is any(address in network for network in networks)
    assert all(network[0] in Networks(networks) for network in networks)
    assert all(network[-1] in Networks(networks) for network in networks)


def test_networks_of_one_family_have_no_address_of_the_other() -> None:
    assert ip_address("::1") not in Networks([ip_network("0.0.0.0/0")])
    assert ip_address("0.0.0.1") not in Networks([ip_network("::/0")])


def test_three_thousand_networks_are_one_set() -> None:
    networks = Networks(ip_network(f"10.{n >> 8}.{n & 255}.0/24") for n in range(3000))
    assert ip_address("10.11.183.255") in networks
    assert ip_address("10.11.184.0") not in networks
    assert len(networks._prefixes[4]) == 1
