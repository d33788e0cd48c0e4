"""A datagram socket to a log daemon that reads, does not read, goes and comes back."""

import contextlib
import resource
import select
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.journal import datagram
from ackd.journal.datagram import DatagramSocket
from tests.support.log_daemon import LogDaemon


class Host:
    """Where log daemons listen at one path, and sockets to them are opened."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened = contextlib.ExitStack()

    def log_daemon(self) -> LogDaemon:
        return self.opened.enter_context(contextlib.closing(LogDaemon(self.path)))

    def sink(self, path: str = "") -> DatagramSocket:
        sink = DatagramSocket(path or str(self.path))
        return self.opened.enter_context(contextlib.closing(sink))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path / "log")
    with host.opened:
        yield host


def fill(sink: DatagramSocket) -> int:
    """Put 0, 1, 2... until there is no room; return how many were taken."""
    count = 0
    while sink.put(b"%d" % count):
        count += 1
    return count


def writable(sink: DatagramSocket) -> bool:
    return bool(select.select([], [sink], [], 0)[1])


def test_what_is_put_arrives_whole_and_in_order(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    assert sink.put(b"one")
    assert sink.put(b"two\n\0")
    assert logd.read_all() == [b"one", b"two\n\0"]


def test_what_was_taken_outlives_the_one_who_put_it(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    assert sink.put(b"one")
    sink.close()
    assert logd.read() == b"one"


def test_a_full_queue_takes_nothing_and_nobody_waits(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    count = fill(sink)
    assert count
    assert not sink.put(b"one more")
    assert sink.reachable
    assert not writable(sink)
    assert logd.read_all() == [b"%d" % number for number in range(count)]


def test_a_queue_that_was_full_takes_more_when_it_is_read(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    fill(sink)
    logd.read_all()
    assert writable(sink)
    assert sink.put(b"next")
    assert logd.read_all() == [b"next"]


def test_nobody_is_there_at_first_and_then_somebody_is(host: Host) -> None:
    sink = host.sink()
    assert not sink.reachable
    assert sink.why == f"{host.path}: No such file or directory"
    assert not sink.connect()
    assert not sink.put(b"too early")
    logd = host.log_daemon()
    assert sink.connect()
    assert sink.reachable
    assert sink.put(b"one")
    assert logd.read_all() == [b"one"]


def test_a_path_that_nobody_serves_any_more_is_told(host: Host) -> None:
    logd = host.log_daemon()
    logd.close()
    sink = host.sink()
    assert not sink.reachable
    assert sink.why == f"{host.path}: Connection refused"


def test_a_path_that_no_socket_can_have_is_told(host: Host) -> None:
    sink = host.sink("/" + "x" * 200)
    assert not sink.reachable
    assert sink.why == f"/{'x' * 200}: AF_UNIX path too long"


def test_one_who_goes_is_missed_with_the_next_datagram(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    assert not sink.put(b"one")
    assert not sink.reachable
    assert sink.why == f"{host.path}: Connection refused"


def test_one_who_comes_back_is_found_by_connecting_again(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    assert not sink.put(b"one")
    successor = host.log_daemon()
    assert sink.connect()
    assert sink.put(b"two")
    assert successor.read_all() == [b"two"]


def test_one_who_was_away_for_a_moment_is_missed(host: Host) -> None:
    """What had been in the queue may have to be repeated before anything else."""
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    successor = host.log_daemon()
    assert not sink.put(b"one")
    assert not sink.reachable
    assert sink.connect()
    assert sink.put(b"one")
    assert successor.read_all() == [b"one"]


def test_one_who_goes_with_a_full_queue_leaves_room_in_the_next(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    fill(sink)
    logd.close()
    successor = host.log_daemon()
    assert sink.connect()
    count = fill(sink)
    assert len(successor.read_all()) == count > 0


def test_a_successor_that_is_full_at_once_is_there_all_the_same(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    host.log_daemon()
    fill(host.sink())
    assert sink.connect()
    assert not sink.put(b"one")
    assert sink.reachable


def test_it_connects_again_without_a_free_descriptor(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    successor = host.log_daemon()
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
    try:
        assert sink.connect()
        assert sink.put(b"one")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert successor.read() == b"one"


def test_its_descriptor_stays_the_same(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    before = sink.fileno()
    logd.close()
    host.log_daemon()
    assert sink.connect()
    assert sink.fileno() == before


def test_the_capacity_is_what_one_datagram_can_have(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a host that allows no more.
    monkeypatch.setattr(datagram, "_SEND_BUFFER", 100_000)
    logd = host.log_daemon()
    sink = host.sink()
    assert sink.capacity == 2 * 100_000 - 32  # the kernel doubles it, socket(7)
    assert sink.put(b"x" * sink.capacity)
    assert logd.read() == b"x" * sink.capacity
    assert not sink.put(b"x" * (sink.capacity + 1))
    assert sink.why == f"{host.path}: Message too long"
    assert sink.connect()
    assert sink.put(b"one")
    assert logd.read_all() == [b"one"]


def test_closed_it_has_no_descriptor(host: Host) -> None:
    sink = host.sink()
    sink.close()
    assert sink.fileno() == -1
