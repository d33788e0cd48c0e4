"""Who is at the other end: its address, and whether two addresses are one client."""

import ipaddress
from functools import lru_cache
from typing import TypeAlias

Address: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Bits of an IPv6 address that a host can't choose itself, RFC 4291, 2.5.1.
_NETWORK_BITS = 64


def address_of(peer: str) -> Address:
    """Return the address that socket.accept() gives as `peer`. Raises ValueError.

    An IPv4 one as such, which a socket for both families has as ::ffff:192.0.2.7.
    """
    address = ipaddress.ip_address(peer)
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


# 3 us the first time; each client is counted in, out, and for what is recorded about it.
@lru_cache(maxsize=1024)
def client_of(peer: str) -> str:
    """Return whom a limit for one client counts `peer` for; what is no address, for itself.

    An IPv4 address, or an IPv6 network of 64 bits: one host can have all of its addresses.
    """
    try:
        address = address_of(peer)
    except ValueError:
        return peer
    if isinstance(address, ipaddress.IPv4Address) or address.is_loopback:
        return str(address)
    return str(ipaddress.IPv6Network((int(address), _NETWORK_BITS), strict=False))
