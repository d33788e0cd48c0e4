"""Headers of the PROXY protocol, made without ackd's parser: proxy-protocol.txt, 2.1 and 2.2."""

import socket

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, UDP4, TCP6, UDP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x22, 0x31
CRC32C, NOOP, TLS, TLS_VERSION, TLS_NAME, TLS_CIPHER = 0x03, 0x04, 0x20, 0x21, 0x22, 0x23


def line(client: str, port: int = 51000) -> bytes:
    """Return a header of version 1 for a client."""
    family, server = ("TCP6", "::1") if ":" in client else ("TCP4", "127.0.0.1")
    return f"PROXY {family} {client} {server} {port} 10008\r\n".encode()


def binary(command: int, protocol: int, rest: bytes = b"") -> bytes:
    """Return a header of version 2; `rest` are its addresses and fields."""
    return SIGNATURE + bytes((command, protocol)) + len(rest).to_bytes(2, "big") + rest


def addresses(client: str, port: int = 51000) -> bytes:
    """Return the addresses and ports of a header of version 2."""
    family, server = (socket.AF_INET6, "::1") if ":" in client else (socket.AF_INET, "127.0.0.1")
    ports = port.to_bytes(2, "big") + (10008).to_bytes(2, "big")
    return socket.inet_pton(family, client) + socket.inet_pton(family, server) + ports


def proxied(client: str, *fields: bytes, port: int = 51000) -> bytes:
    """Return a header of version 2 for a client, with these fields."""
    protocol = TCP6 if ":" in client else TCP4
    return binary(PROXY, protocol, addresses(client, port) + b"".join(fields))


def field(kind: int, value: bytes) -> bytes:
    """Return a field of a header of version 2."""
    return bytes((kind,)) + len(value).to_bytes(2, "big") + value


def tls_field(has: int, verify: int, *fields: bytes) -> bytes:
    """Return the field about the client's TLS: what the client has, and whether it is verified."""
    return field(TLS, bytes((has,)) + verify.to_bytes(4, "big") + b"".join(fields))


def with_checksum(header: bytes) -> bytes:
    """Return a header of version 2 with one more field: its checksum."""
    body = header[16:] + field(CRC32C, bytes(4))
    whole = binary(header[12], header[13], body)
    return whole[:-4] + crc32c(whole).to_bytes(4, "big")


def crc32c(data: bytes) -> int:
    """Return the CRC32c checksum, bit by bit: RFC 4960, Appendix B."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF
