"""A server whose journald takes payloads and does not store them."""

import contextlib
import logging
import select
import socket
from collections.abc import Iterator
from pathlib import Path
from time import monotonic

import pytest

from ackd.config import Config, Recording
from ackd.journal.entry import JournalFormat
from ackd.journal.journald import JournaldSocket
from ackd.journal.log_handler import RecordHandler
from ackd.journal.recorder import Recorder
from ackd.journal.storing import Storing
from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.loop import Loop
from ackd.records import Kind
from ackd.server.server import Server
from tests.simulation.durable import Worker
from tests.support.journal_socket import Entry, parse
from tests.support.journald import Journald
from tests.support.peer import ACK, GREETING

REASON = "the journal does not store payloads: Storage=none in /etc/systemd/journald.conf"
REFUSAL = f"not received: {REASON}\n".encode()
REJECTION = f"not connect: {REASON}\n".encode()


class World:
    """A server, a journald, and one client; a test calls each round of the loop."""

    def __init__(self, root: Path, records: Log | None = None) -> None:
        """Without `records`, use a log in memory; acks wait for any other."""
        self.settings = root / "etc/systemd/journald.conf"
        self.settings.parent.mkdir(parents=True)
        path = root / "run/systemd/journal/socket"
        path.parent.mkdir(parents=True)
        (root / "run/systemd/units").mkdir()
        self.set_storage("auto")
        self.journald = Journald(path)
        self.loop = Loop()
        storing = Storing(str(path), {}, is_service=False, root=str(root))
        records = records or Log(MemoryStorage())
        sink = JournaldSocket(str(path), storing, records)
        self.recorder = Recorder(sink, JournalFormat(), records, records.durable)
        self.handler = RecordHandler(self.recorder)
        logging.getLogger("ackd").addHandler(self.handler)
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setblocking(False)
        listeners = {("127.0.0.1", 0): listener}
        self.server = Server(Config(), listeners, self.recorder, self.loop)
        self.recorder.watch(self.loop)
        self.journald.begin()
        self.address = listener.getsockname()
        self.client = self.connect()
        self.replies = self.client.makefile("rb")

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.address)
        client.settimeout(10)
        return client

    def first_line(self) -> bytes:
        """Return the first line that another client gets."""
        with self.connect() as client, client.makefile("rb") as lines:
            self.go_round()
            return lines.readline()

    def set_storage(self, value: str) -> None:
        self.settings.write_text(f"[Journal]\nStorage={value}\n")

    def go_round(self) -> None:
        """Do as many rounds as any test needs."""
        for _ in range(5):
            self.server.round(0)

    def reply(self) -> bytes:
        self.go_round()
        return self.replies.readline()

    def entries(self, kind: Kind) -> list[Entry]:
        entries = map(parse, filter(None, self.journald.read_all()))
        return [entry for entry in entries if entry["MESSAGE_ID"] == kind.value.encode()]

    def close(self) -> None:
        logging.getLogger("ackd").removeHandler(self.handler)
        self.replies.close()
        self.client.close()
        self.server.ending.halt()
        self.recorder.close()
        self.loop.close()
        self.journald.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with contextlib.closing(World(tmp_path)) as world:
        assert world.reply() == GREETING
        world.set_storage("none")
        world.recorder.sink.inspect()
        yield world


def test_payloads_are_refused_with_the_reason_and_none_is_sent_to_journald(world: World) -> None:
    world.client.send(b"one\ntwo\n")
    assert [world.reply(), world.reply()] == [REFUSAL, REFUSAL]
    assert (world.server.counters.refused, world.server.counters.acknowledged) == (2, 0)
    assert world.server.trouble == REASON
    assert world.entries(Kind.PAYLOAD) == []


def test_the_reason_is_logged_once(world: World) -> None:
    world.go_round()
    (entry,) = world.entries(Kind.NOT_STORED)
    assert (entry["MESSAGE"], entry["PRIORITY"]) == (REASON.encode(), b"3")


def test_payloads_are_acknowledged_again_after_the_end_of_the_journald_that_drops_them(
    world: World,
) -> None:
    world.set_storage("auto")
    world.go_round()
    world.client.send(b"one\n")
    assert world.reply() == REFUSAL  # the settings are not in force before journald has ended
    world.journald.end()
    world.client.send(b"two\n")
    assert world.reply() == ACK
    world.journald.begin()
    world.client.send(b"three\n")
    assert world.reply() == ACK
    assert world.server.trouble == ""
    assert len(world.entries(Kind.STORED_AGAIN)) == 1


def test_payloads_are_refused_before_a_journald_with_worse_settings_has_started(
    world: World,
) -> None:
    world.set_storage("auto")
    world.recorder.sink.inspect()
    world.client.send(b"one\n")
    assert world.reply() == ACK
    world.set_storage("none")
    world.journald.end()
    world.client.send(b"two\n")
    assert world.reply() == REFUSAL


def test_payloads_are_acknowledged_with_record_none(world: World) -> None:
    world.recorder.recording = Recording.NONE
    world.client.send(b"one\n")
    assert world.reply() == ACK
    assert world.server.trouble == ""


def test_new_clients_are_rejected_with_the_reason_until_the_journal_stores_payloads(
    world: World,
) -> None:
    assert world.first_line() == REJECTION
    world.set_storage("auto")
    world.journald.end()
    assert world.first_line() == GREETING
    assert world.server.counters.turned_away == 1


def test_new_clients_are_greeted_with_record_none(world: World) -> None:
    world.recorder.recording = Recording.NONE
    assert world.first_line() == GREETING


def test_a_flood_of_payloads_is_refused_in_turns(world: World) -> None:
    world.client.send(b"\n" * 2_000)
    world.server.round(0)
    assert 0 < world.server.counters.refused < 2_000
    replies = b""
    while len(replies) < 2_000 * len(REFUSAL):
        world.go_round()
        replies += world.client.recv(1 << 20)
    assert replies == REFUSAL * 2_000


@pytest.fixture
def worker() -> Worker:
    """A disk that does nothing while the worker is not `prompt`."""
    return Worker()


@pytest.fixture
def durable(tmp_path: Path, worker: Worker) -> Iterator[World]:
    """A world with a log on the disk, in which acks wait for the worker."""
    directory = tmp_path / "log"
    directory.mkdir()
    records = Log(FileStorage(Directory(str(directory)), 1 << 24, worker))
    with contextlib.closing(World(tmp_path, records)) as world:
        assert world.reply() == GREETING
        yield world


def wait_for_disk_and_obstacle(durable: World, worker: Worker) -> None:
    """Let a payload wait for a disk that hangs, and one behind it while journald stores nothing."""
    worker.prompt = False
    durable.client.send(b"one\n")
    durable.go_round()
    durable.set_storage("none")
    durable.journald.end()
    durable.client.send(b"two\n")
    durable.go_round()


def test_the_journals_refusal_comes_after_the_acks_that_wait_for_the_disk(
    durable: World, worker: Worker
) -> None:
    wait_for_disk_and_obstacle(durable, worker)
    assert durable.server.trouble == REASON
    assert not select.select([durable.client], [], [], 0)[0]
    worker.prompt = True
    worker.work_off()
    assert [durable.reply(), durable.reply()] == [ACK, REFUSAL]


def test_an_end_waits_neither_for_a_disk_that_hangs_nor_for_the_journals_obstacle(
    durable: World, worker: Worker
) -> None:
    wait_for_disk_and_obstacle(durable, worker)
    durable.server.finish_commits(monotonic())
    assert durable.replies.read() == b""
    worker.prompt = True
    worker.work_off()
