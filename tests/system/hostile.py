"""Clients that mean no good: run beside a machine, as a program.

    python3 hostile.py HOST PORT OWN WHAT

It comes from the address OWN. Each attack goes on until the standard input closes, or is over by
itself; `gone` is printed then.
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


def over() -> bool:
    """Say whether the attack is to end."""
    return bool(select.select([sys.stdin], [], [], 0)[0])


def wait() -> None:
    """Hold what there is until the attack is to end."""
    select.select([sys.stdin], [], [])


def random_bytes(connect: Connect) -> None:
    """Send noise on connection after connection."""
    noise = random.Random(1)
    while not over():
        with connect() as client, contextlib.suppress(OSError):
            client.settimeout(0.2)
            client.sendall(noise.randbytes(100_000))
            client.shutdown(socket.SHUT_WR)
            while client.recv(65536):
                pass


def endless_line(connect: Connect) -> None:
    """Send 1 GiB without a newline, then a good line."""
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
    """Send small payloads for ever on many connections and read no reply."""
    flood(connect, b"HOSTILE unread\n", reading=False)


def tiny_lines(connect: Connect) -> None:
    """Send payloads of two bytes for ever on many connections, which as objects are large."""
    flood(connect, b"xy\n", reading=True)


def flood(connect: Connect, line: bytes, reading: bool) -> None:
    clients = [connect() for _ in range(500)]
    for client in clients:
        client.setblocking(False)
    lines = line * (60_000 // len(line))
    while not over():
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


def idle_crowd(connect: Connect) -> None:
    """Open 10,000 connections and do nothing."""
    clients = [connect() for _ in range(10_000)]
    wait()
    del clients


def resets(connect: Connect) -> None:
    """Reset in every state of a connection."""
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
    while not over():
        for step in steps:
            with connect() as client, contextlib.suppress(OSError):
                client.settimeout(1)
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                step(client)


ATTACKS = {
    attack.__name__: attack
    for attack in (
        *(random_bytes, endless_line, never_reading, tiny_lines),
        *(byte_by_byte, idle_crowd, resets),
    )
}


def main(host: str, port: str, own: str, what: str) -> None:
    """Attack."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    print("ready", flush=True)
    server, source = (host, int(port)), (own, 0)
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        ATTACKS[what](lambda: socket.create_connection(server, 60, source))
    print("gone", flush=True)
    os._exit(0)  # without closing what is open one by one


if __name__ == "__main__":
    main(*sys.argv[1:])
