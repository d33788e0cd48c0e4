"""A peer's address, and which addresses belong to the same client."""

import ipaddress
from collections.abc import Iterable
from functools import lru_cache
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address
Network: TypeAlias = ipaddress.IPv4Network | ipaddress.IPv6Network

# Bits of the prefix of an IPv6 address, which a host can't choose: RFC 4291, 2.5.1.
_NETWORK_BITS = 64


def address_of(peer: str) -> Address:
    """Return the address in `peer`, as socket.accept() returns it. Raises ValueError.

    An IPv4-mapped address, such as ::ffff:192.0.2.7 on a socket for both families, is returned as
    the IPv4 address.
    """
    address = ipaddress.ip_address(peer)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# Cached, because it is called several times for each connection.
@lru_cache(maxsize=1024)
def client_of(peer: str) -> str:
    """Return the client that `peer` belongs to, for limits that count by client.

    A client is an IPv4 address, or an IPv6 network of 64 bits, because one host can use all
    addresses of such a network. A text that is not an address is returned unchanged.
    """
    try:
        address = address_of(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _NETWORK_BITS), strict=False))


class Networks:
    """A set of networks that takes the same short time to search, however many it has.

    The networks of each family and length are a set of numbers: the bits before the length.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._prefixes: dict[int, dict[int, set[int]]] = {4: {}, 6: {}}  # by version, then by bits
        for network in networks:
            host_bits = network.max_prefixlen - network.prefixlen
            prefixes = self._prefixes[network.version].setdefault(host_bits, set())
            prefixes.add(int(network.network_address) >> host_bits)

    def __contains__(self, address: Address) -> bool:
        number = int(address)
        by_host_bits = self._prefixes[address.version].items()
        return any(number >> host_bits in prefixes for host_bits, prefixes in by_host_bits)
