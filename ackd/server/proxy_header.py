"""The header of the PROXY protocol, versions 1 and 2, as bytes, without any I/O.

A load balancer sends it in front of its client's bytes. HAProxy's proxy-protocol.txt defines it.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from typing import TypeAlias

from ackd.peers import address_of
from ackd.printable import printable
from ackd.protocol import EXPECTS_PROXY_HEADER, WRONG_PROXY_HEADER
from ackd.records import LONGEST_FACT

# Version 1 is a line of text, 2.1.
_TEXT, _LONGEST_TEXT = b"PROXY ", 107
_PORT = rb"(?:0|[1-9][0-9]{0,4})"
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: [^\n]*)?|TCP([46]) ([0-9A-Fa-f:.]+) ([0-9A-Fa-f:.]+) (%b) (%b))\r\n"
    % (_PORT, _PORT)
)
# Version 2 is binary, 2.2: the signature, version and command, family and transport, and the length
# of the rest.
_SIGNATURE, _FIXED = b"\r\n\r\n\0\r\nQUIT\n", 16
# Bytes of a header, as in nginx: what thousands of connections have sent of theirs is in memory.
_LONGEST_BINARY = 4096
_LOCAL, _PROXY = 0, 1
_UNSPECIFIED, _INET, _INET6, _UNIX = range(4)
_STREAM, _DATAGRAM = 1, 2
# Bytes of the two addresses and ports of each family.
_ADDRESS_SIZES = {_INET: 12, _INET6: 36, _UNIX: 216}
# The fields behind the addresses that count here, and those within the field of TLS, 2.2.
_CRC32C, _TLS = 0x03, 0x20
_TLS_FACTS = {0x21: "ACKD_TLS_VERSION", 0x22: "ACKD_TLS_NAME", 0x23: "ACKD_TLS_CIPHER"}
_HAS_CERTIFICATE = 0x02 | 0x04  # in this connection, or earlier in its TLS session

Facts: TypeAlias = tuple[tuple[str, str], ...]


class ProxyHeaderError(Exception):
    """The bytes are not a header of the PROXY protocol; `reason` says why, as printable text."""

    def __init__(self, problem: str) -> None:
        self.reason = WRONG_PROXY_HEADER + problem if problem else EXPECTS_PROXY_HEADER
        super().__init__(self.reason)


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What a header says: the client's address and port, and `facts` for its records.

    Without an address, the other end of the connection is the client: the balancer itself checks
    whether ackd is there, or it does not know more.
    """

    address: str = ""
    port: int = 0
    facts: Facts = ()


def header_length(beginning: bytes) -> int | None:
    """Return the length of the header that a connection begins with.

    None means that these bytes all belong to the header, and that more must come until the length
    is known. Raises ProxyHeaderError as soon as the bytes can't become a header.
    """
    if beginning.startswith(_SIGNATURE):
        return _binary_length(beginning) if len(beginning) >= _FIXED else None
    if beginning.startswith(_TEXT):
        end = beginning.find(b"\n", 0, _LONGEST_TEXT)
        if end < 0 and len(beginning) >= _LONGEST_TEXT:
            raise ProxyHeaderError(f"the line has no end in {_LONGEST_TEXT} bytes")
        return end + 1 or None
    if not (_SIGNATURE.startswith(beginning) or _TEXT.startswith(beginning)):
        raise ProxyHeaderError("")
    return None


def parse_header(header: bytes) -> ProxyHeader:
    """Return what a whole header says; raises ProxyHeaderError."""
    return _parse_binary(header) if header.startswith(_SIGNATURE) else _parse_text(header)


def _parse_text(header: bytes) -> ProxyHeader:
    line = _LINE.fullmatch(header)
    try:
        if line:
            return _header_of(*line.groups())
    except ValueError:
        pass
    raise ProxyHeaderError(printable(header.removesuffix(b"\n").removesuffix(b"\r")))


def _header_of(family: bytes | None, *rest: bytes) -> ProxyHeader:
    """Return what the parts of a line say; raises ValueError."""
    if family is None:
        return ProxyHeader()
    kind = IPv4Address if family == b"4" else IPv6Address
    source, _ = (kind(address.decode()) for address in rest[:2])
    port, to_port = map(int, rest[2:])
    if max(port, to_port) > 65535:
        raise ValueError("a port can't be so high")
    return ProxyHeader(_address_text(source), port)


def _address_text(address: IPv4Address | IPv6Address) -> str:
    """Return an address as text; a balancer can give the one of an IPv4 client in IPv6 form."""
    return str(address_of(str(address)))


def _binary_length(beginning: bytes) -> int:
    length = _FIXED + int.from_bytes(beginning[_FIXED - 2 : _FIXED], "big")
    if length > _LONGEST_BINARY:
        raise ProxyHeaderError(f"it has {length} bytes, {_LONGEST_BINARY} are allowed")
    return length


def _parse_binary(header: bytes) -> ProxyHeader:
    version, command = divmod(header[12], 16)
    family, transport = divmod(header[13], 16)
    if version != 2:
        raise ProxyHeaderError(f"its version is {version}, only 1 and 2 are known")
    if command == _LOCAL:  # whatever else the header has is to be ignored
        return ProxyHeader()
    if command != _PROXY:
        raise ProxyHeaderError(f"it has the unknown command {command}")
    if family > _UNIX or transport > _DATAGRAM:
        raise ProxyHeaderError(f"it has the unknown protocol 0x{header[13]:02x}")
    if family == _UNSPECIFIED:
        return ProxyHeader()
    end = _FIXED + _ADDRESS_SIZES[family]
    if len(header) < end:
        raise ProxyHeaderError("it is too short for its addresses")
    facts = _read_fields(header, end)
    if transport != _STREAM or family == _UNIX:  # 2.2: such a client counts as unknown
        return ProxyHeader(facts=facts)
    source = header[_FIXED : _FIXED + (4 if family == _INET else 16)]
    client = IPv4Address(source) if family == _INET else IPv6Address(source)
    return ProxyHeader(
        _address_text(client), int.from_bytes(header[end - 4 : end - 2], "big"), facts
    )


def _read_fields(header: bytes, start: int) -> Facts:
    """Check the checksum, if there is one, and return the facts about the client's TLS."""
    facts: Facts = ()
    for kind, at, value in _fields(header, start):
        if kind == _CRC32C:
            zeros = header[:at] + bytes(len(value)) + header[at + len(value) :]
            if value != _crc32c(zeros).to_bytes(4, "big"):
                raise ProxyHeaderError("its checksum is wrong")
        elif kind == _TLS:
            facts = _tls_facts(value)
    return facts


def _fields(data: bytes, start: int) -> Iterator[tuple[int, int, bytes]]:
    """Yield the type of each field, the place of its value in `data`, and the value."""
    while start < len(data):
        at = start + 3
        end = at + int.from_bytes(data[start + 1 : at], "big")
        if end > len(data) or at > len(data):
            raise ProxyHeaderError("its last field is cut off")
        yield data[start], at, data[at:end]
        start = end


def _tls_facts(value: bytes) -> Facts:
    """Return what a balancer says about its client's TLS; a name only if it was verified.

    A text that is too long for a record is left out: the part of a name can be another name.
    """
    if len(value) < 5:
        raise ProxyHeaderError("its field about TLS is cut off")
    verified = value[0] & _HAS_CERTIFICATE and not any(value[1:5])
    facts = {}
    for kind, _, text in _fields(value, 5):
        name = _TLS_FACTS.get(kind)
        if name and (verified or name != "ACKD_TLS_NAME"):
            facts[name] = printable(text)
    return tuple(fact for fact in facts.items() if len(fact[1].encode()) <= LONGEST_FACT)


def _table_entry(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)
    return byte


# The remainders of all bytes. The standard library has only zlib's CRC-32, of another polynomial.
_TABLE = tuple(map(_table_entry, range(256)))


def _crc32c(data: bytes) -> int:
    """Return the CRC32c checksum: RFC 4960, Appendix B."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = remainder >> 8 ^ _TABLE[(remainder ^ byte) & 0xFF]
    return remainder ^ 0xFFFFFFFF
