"""A peer's address, and which addresses belong to the same client."""

import pytest

from ackd.peers import address_of, client_of


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
