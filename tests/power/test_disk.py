"""What a power cut leaves on a disk, and the protocol by which a machine uses the disk."""

import random
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from .disk import PowerCut, VirtualDisk
from .nbd import Command, DiskServer, Option, OptionReply

BLOCK = 512
BLOCKS = 16


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(bytes(BLOCK * BLOCKS))
    return path


@pytest.fixture
def disk(image: Path) -> Iterator[VirtualDisk]:
    opened = VirtualDisk(image, random.Random(1), BLOCK)
    yield opened
    opened.close()


def block(fill: int) -> bytes:
    return bytes([fill]) * BLOCK


def test_a_cut_loses_what_was_not_flushed(disk: VirtualDisk, image: Path) -> None:
    disk.write(0, block(1))
    disk.flush()
    disk.write(BLOCK, block(2))
    assert disk.read(0, 2 * BLOCK) == block(1) + block(2)
    assert disk.cut_power(share=0) == PowerCut(kept=0, lost=1)
    assert disk.read(0, 2 * BLOCK) == image.read_bytes()[: 2 * BLOCK] == block(1) + block(0)


def test_a_cut_can_keep_everything(disk: VirtualDisk, image: Path) -> None:
    disk.write(0, block(1) + block(2))
    assert disk.cut_power(share=1) == PowerCut(kept=2, lost=0)
    assert image.read_bytes()[: 2 * BLOCK] == block(1) + block(2)


def test_a_cut_keeps_any_subset_of_the_blocks(image: Path) -> None:
    seen = set()
    for seed in range(200):
        disk = VirtualDisk(image, random.Random(seed), BLOCK)
        disk.write(0, bytes(3 * BLOCK))
        disk.flush()
        disk.write(0, block(1) + block(2) + block(3))
        disk.cut_power()
        seen.add(tuple(image.read_bytes()[0 : 3 * BLOCK : BLOCK]))
        disk.close()
    assert seen == {(a, b, c) for a in (0, 1) for b in (0, 2) for c in (0, 3)}


def test_a_cut_can_leave_each_version_of_a_block(image: Path) -> None:
    seen = set()
    for seed in range(200):
        disk = VirtualDisk(image, random.Random(seed), BLOCK)
        for fill in (0, 1, 2, 3):
            disk.write(0, block(fill))
            if fill == 0:
                disk.flush()
        disk.cut_power(share=0.5)
        seen.add(image.read_bytes()[0])
        disk.close()
    assert seen == {0, 1, 2, 3}


def test_the_same_seed_repeats_a_cut(image: Path) -> None:
    after = []
    for _ in range(2):
        image.write_bytes(bytes(BLOCK * BLOCKS))
        disk = VirtualDisk(image, random.Random(7), BLOCK)
        for fill in range(1, 4):
            disk.write(0, block(fill) * BLOCKS)
        disk.cut_power()
        after.append(image.read_bytes())
        disk.close()
    assert after[0] == after[1]


SIZE = BLOCK * BLOCKS
WRITES = st.lists(
    st.integers(0, SIZE - 1).flatmap(
        lambda offset: st.tuples(
            st.just(offset), st.binary(min_size=1, max_size=min(3 * BLOCK, SIZE - offset))
        )
    )
)


@given(WRITES, st.booleans())
def test_a_read_returns_the_latest_writes_of_any_offset_and_length(
    tmp_path_factory: pytest.TempPathFactory, writes: list[tuple[int, bytes]], flush: bool
) -> None:
    image = tmp_path_factory.mktemp("disk") / "image"
    image.write_bytes(bytes(SIZE))
    disk, expected = VirtualDisk(image, random.Random(1), BLOCK), bytearray(SIZE)
    for offset, data in writes:
        disk.write(offset, data)
        expected[offset : offset + len(data)] = data
        assert disk.read(offset, len(data)) == data
    if flush:
        disk.flush()
        assert image.read_bytes() == expected
    assert disk.read(0, SIZE) == expected
    disk.close()


class Client:
    """A client of the protocol, as QEMU is."""

    def __init__(self, disk: VirtualDisk) -> None:
        self._socket, server = socket.socketpair()
        self.server = DiskServer(disk, server)
        self._stream = self._socket.makefile("rb")
        assert self._stream.read(18) == b"NBDMAGICIHAVEOPT\0\3"
        self._socket.sendall(struct.pack(">I", 3))

    def option(self, option: int, data: bytes = b"") -> tuple[int, bytes]:
        """Send an option; return the kind and the data of the first reply."""
        self._socket.sendall(b"IHAVEOPT" + struct.pack(">II", option, len(data)) + data)
        return self.next_reply(option)

    def next_reply(self, option: int) -> tuple[int, bytes]:
        magic, answered, reply, length = struct.unpack(">QIII", self._stream.read(20))
        assert (magic, answered) == (0x3E889045565A9, option)
        return reply, self._stream.read(length)

    def command(
        self, command: int, offset: int = 0, length: int = 0, data: bytes = b""
    ) -> tuple[int, bytes]:
        """Send a command; return the error of the reply, and the data of a read."""
        self.send(command, offset, length, data)
        magic, error, cookie = struct.unpack(">IIQ", self._stream.read(16))
        assert (magic, cookie) == (0x67446698, 42)
        return error, self._stream.read(length if command == Command.READ else 0)

    def send(self, command: int, offset: int = 0, length: int = 0, data: bytes = b"") -> None:
        length = len(data) or length
        head = struct.pack(">IHHQQI", 0x25609513, 0, command, 42, offset, length)
        self._socket.sendall(head + data)

    def close(self) -> None:
        self._stream.close()
        self._socket.close()
        self.server.join()


@pytest.fixture
def client(disk: VirtualDisk) -> Iterator[Client]:
    connected = Client(disk)
    yield connected
    connected.close()


def go(client: Client) -> None:
    # An empty name, no requests for information.
    reply, info = client.option(Option.GO, bytes(6))
    assert (reply, info) == (OptionReply.INFO, struct.pack(">HQH", 0, SIZE, 0b101))
    assert client.next_reply(Option.GO) == (OptionReply.ACK, b"")


def test_an_unknown_option_is_refused(client: Client) -> None:
    assert client.option(8) == (OptionReply.UNSUPPORTED, b"")
    go(client)


def test_a_client_can_leave_before_the_transmission(client: Client) -> None:
    assert client.option(Option.ABORT) == (OptionReply.ACK, b"")
    client.server.join()


def test_commands_read_write_and_flush(client: Client, image: Path) -> None:
    go(client)
    assert client.command(Command.WRITE, BLOCK, data=block(5)) == (0, b"")
    assert client.command(Command.READ, BLOCK, BLOCK) == (0, block(5))
    assert image.read_bytes()[BLOCK : 2 * BLOCK] == block(0)
    assert client.command(Command.FLUSH) == (0, b"")
    assert image.read_bytes()[BLOCK : 2 * BLOCK] == block(5)


def test_a_stopped_server_answers_nothing(client: Client, disk: VirtualDisk, image: Path) -> None:
    go(client)
    client.server.stop_at(lambda data: data == block(2))
    client.command(Command.WRITE, data=block(1))
    client.send(Command.WRITE, BLOCK, data=block(2))
    client.send(Command.FLUSH)
    client.server.await_stop(60)
    client.close()
    assert disk.read(0, 2 * BLOCK) == block(1) + block(2)
    assert image.read_bytes()[: 2 * BLOCK] == bytes(2 * BLOCK)
    assert disk.cut_power(share=0) == PowerCut(kept=0, lost=2)


def test_an_unknown_command_is_an_error(client: Client) -> None:
    go(client)
    assert client.command(99) == (22, b"")
