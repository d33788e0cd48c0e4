"""Hostile clients; they run on the client host as a program.

    python3 -m tests.system.support.hostile_clients HOST PORT SOURCE ATTACK

The clients connect from the address SOURCE. An attack lasts until the standard input closes, or
until it ends by itself. Then the program prints `done`. A server with TLS is the target of
TLS_ATTACKS.
"""

import contextlib
import os
import random
import resource
import select
import socket
import ssl
import struct
import sys
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import cycle

from tests.support.openssl import half_close, receive, renegotiate, update_keys

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() resets, socket(7)
Connect = Callable[[], socket.socket]
Attack = Callable[[Connect], None]


def should_end() -> bool:
    """Return whether the standard input has closed."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def await_end() -> None:
    """Wait until the standard input closes."""
    select.select([sys.stdin], [], [])


def random_bytes(connect: Connect) -> None:
    """Send random bytes on one connection after the other."""
    generator = random.Random(1)
    while not should_end():
        with connect() as client, contextlib.suppress(OSError):
            client.settimeout(0.2)
            client.sendall(generator.randbytes(100_000))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass


def endless_line(connect: Connect) -> None:
    """Send 1 GiB without a newline, then a valid line."""
    chunk = b"x" * (1 << 20)
    with connect() as client:
        for _ in range(1024):
            client.sendall(chunk)
        client.sendall(b"\nHOSTILE after the endless line\n")
        half_close(client)
        replies = b""
        while data := receive(client):
            replies += data
    assert replies.count(b"\n") == 3, replies  # the greeting, a refusal, an ack


def never_reading(connect: Connect) -> None:
    """Send small payloads on many connections without a pause, and read no reply."""
    flood(connect, b"HOSTILE unread\n", reading=False)


def tiny_lines(connect: Connect) -> None:
    """Send payloads of two bytes on many connections: as Python objects they are large."""
    flood(connect, b"xy\n", reading=True)


def flood(connect: Connect, line: bytes, reading: bool) -> None:
    clients = [connect() for _ in range(500)]
    for client in clients:
        client.setblocking(False)
    lines = line * (60_000 // len(line))
    while not should_end():
        for client in clients:
            with contextlib.suppress(OSError):
                client.send(lines)
            with contextlib.suppress(OSError):
                while reading and client.recv(65536):
                    pass
        select.select([sys.stdin], [], [], 0.05)


def byte_by_byte(connect: Connect) -> None:
    """Send one byte a second on many connections."""
    clients = [connect() for _ in range(200)]
    while not select.select([sys.stdin], [], [], 1)[0]:
        for client in clients:
            client.send(b"x")


def idle_clients(connect: Connect) -> None:
    """Open 10,000 connections and send nothing; most of them are rejected."""
    clients: list[socket.socket] = []
    while len(clients) < 10_000 and not should_end():
        clients.append(connect())
    await_end()


def resets(connect: Connect) -> None:
    """Reset connections in each of their states."""
    steps: tuple[Callable[[socket.socket], object], ...] = (
        lambda client: None,
        lambda client: client.recv(100),
        lambda client: client.send(b"HOSTILE half a"),
        lambda client: client.send(b"HOSTILE whole\n"),
        lambda client: client.send(b"HOSTILE whole\n") and client.recv(100),
        lambda client: client.send(b"HOSTILE many\n" * 5000),
        lambda client: client.shutdown(socket.SHUT_WR),
        lambda client: client.send(b"x" * 200_000),
    )
    while not should_end():
        for step in steps:
            with connect() as client, contextlib.suppress(OSError):
                client.settimeout(1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                step(client)


def half_headers(connect: Connect) -> None:
    """Send the longest PROXY header without its last byte, on one connection after the other."""
    beginning = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x0f\xf0" + bytes(4079)
    held = [connect() for _ in range(2000)]
    for client in held:
        client.sendall(beginning)
    while not should_end():
        with connect() as client:
            client.sendall(beginning)


# On a server with TLS

_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_TLS.check_hostname = False
_TLS.verify_mode = ssl.CERT_NONE


def shake_hands(connect: Connect) -> ssl.SSLSocket:
    """Connect and make a handshake; it may fail, because ackd rejects this client."""
    client = _TLS.wrap_socket(connect(), do_handshake_on_connect=False)
    with contextlib.suppress(OSError):
        client.do_handshake()
    return client


def over_tls(attack: Attack, connect: Connect) -> None:
    """Attack with the payloads of connections over TLS."""
    attack(partial(shake_hands, connect))


def client_hello() -> bytes:
    """Return the record with which a client begins the handshake."""
    outgoing = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        _TLS.wrap_bio(ssl.MemoryBIO(), outgoing).do_handshake()
    return outgoing.read()


def half_handshakes(connect: Connect) -> None:
    """Stop the handshake at different places, and hold the last two thousand connections."""
    hello = client_hello()
    # The beginning of a message that claims to have as many bytes as OpenSSL allows.
    claim = b"\x16\x03\x01\0\x04\x01\x02\x01\x44"
    hold(connect, (b"", hello[:1], hello[:5], hello[:-1], hello, claim))


def records_without_payload(connect: Connect) -> None:
    """Send records without payload before and after the client's hello, without an end."""
    # A fragment of a handshake message without bytes, and ChangeCipherSpec: RFC 8446, 5.1 and 5.
    fragment, change = b"\x16\x03\x01\0\0", b"\x14\x03\x03\0\x01\x01"
    hello = client_hello()
    hold(connect, [b + record * 5000 for b in (b"", hello) for record in (fragment, change)])


def hold(connect: Connect, beginnings: Iterable[bytes]) -> None:
    """Send the beginnings in turn, each on a new connection, and hold the last two thousand."""
    held: deque[socket.socket] = deque(maxlen=2000)
    for beginning in cycle(beginnings):
        if should_end():
            return
        client = connect()
        held.append(client)
        client.setblocking(False)
        with contextlib.suppress(OSError):
            client.send(beginning)


def damaged_records(connect: Connect) -> None:
    """Shake hands, and send records that no key has encrypted."""
    while not should_end():
        with shake_hands(connect) as client, contextlib.suppress(OSError):
            socket.socket.sendall(client, b"\x17\x03\x03\x40\0" + bytes(0x4000))


def key_updates(connect: Connect) -> None:
    """Use new keys without a pause, on one connection after the other, and read nothing."""
    for ask in cycle((False, True)):
        if should_end():
            return
        with shake_hands(connect) as client, contextlib.suppress(OSError, AssertionError):
            while True:
                update_keys(client, ask)


def renegotiations(connect: Connect) -> None:
    """Ask for another handshake, as TLS 1.2 allows, on one connection after the other."""
    _TLS.maximum_version = ssl.TLSVersion.TLSv1_2
    while not should_end():
        with shake_hands(connect) as client, contextlib.suppress(OSError, AssertionError):
            while client.send(b"HOSTILE renegotiation\n"):
                renegotiate(client)


PAYLOAD_ATTACKS: tuple[Attack, ...] = (
    *(random_bytes, endless_line, never_reading, tiny_lines),
    *(byte_by_byte, idle_clients, resets),
)
TLS_ATTACKS: dict[str, Attack] = {
    **{attack.__name__: attack for attack in (half_handshakes, records_without_payload)},
    **{attack.__name__: attack for attack in (damaged_records, key_updates, renegotiations)},
    **{f"{attack.__name__}_over_tls": partial(over_tls, attack) for attack in PAYLOAD_ATTACKS},
}
ATTACKS = {attack.__name__: attack for attack in (*PAYLOAD_ATTACKS, half_headers)} | TLS_ATTACKS


def main(host: str, port: str, source: str, attack: str) -> None:
    """Run an attack to its end."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("ready", flush=True)
    server, own = (host, int(port)), (source, 0)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        ATTACKS[attack](lambda: socket.create_connection(server, 60, own))
    print("done", flush=True)
    os._exit(0)  # the kernel then closes all sockets at once


if __name__ == "__main__":
    main(*sys.argv[1:])
