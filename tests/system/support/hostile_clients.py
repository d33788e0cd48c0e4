"""Hostile clients; they run on the client host as a program.

    python3 -m tests.system.support.hostile_clients HOST PORT SOURCE ATTACK

The clients connect from the address SOURCE. An attack lasts until the standard input closes, or
until it ends by itself. Then the program prints `done`.
"""

import contextlib
import os
import random
import resource
import select
import socket
import struct
import sys
from collections.abc import Callable

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER with no time: close() resets, socket(7)
Connect = Callable[[], socket.socket]


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
        client.shutdown(socket.SHUT_WR)
        replies = b""
        while data := client.recv(65536):
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
    """Open 10,000 connections and send nothing."""
    clients = [connect() for _ in range(10_000)]
    await_end()
    del clients


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


ATTACKS = {
    attack.__name__: attack
    for attack in (
        *(random_bytes, endless_line, never_reading, tiny_lines),
        *(byte_by_byte, idle_clients, resets, half_headers),
    )
}


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
