"""A datagram socket to a log daemon that reads, does not read, ends, and starts again."""

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
    """Log daemons that listen at one path, and sockets to them."""

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
    """Put 0, 1, 2... until there is no room; return the number of those taken."""
    count = 0
    while sink.put(b"%d" % count):
        count += 1
    return count


def writable(sink: DatagramSocket) -> bool:
    return bool(select.select([], [sink], [], 0)[1])


def test_datagrams_arrive_whole_and_in_order(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    assert sink.put(b"one")
    assert sink.put(b"two\n\0")
    assert logd.read_all() == [b"one", b"two\n\0"]


def test_a_datagram_that_was_taken_outlives_its_sender(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    assert sink.put(b"one")
    sink.close()
    assert logd.read() == b"one"


def test_a_full_queue_takes_nothing_and_does_not_block(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    count = fill(sink)
    assert count
    assert not sink.put(b"one more")
    assert sink.reachable
    assert not writable(sink)
    assert logd.read_all() == [b"%d" % number for number in range(count)]


def test_a_queue_that_was_full_takes_more_after_it_was_read(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    fill(sink)
    logd.read_all()
    assert writable(sink)
    assert sink.put(b"next")
    assert logd.read_all() == [b"next"]


def test_a_log_daemon_that_starts_later_is_reached(host: Host) -> None:
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


def test_the_path_of_a_log_daemon_that_has_ended_is_reported(host: Host) -> None:
    logd = host.log_daemon()
    logd.close()
    sink = host.sink()
    assert not sink.reachable
    assert sink.why == f"{host.path}: Connection refused"


def test_a_path_that_is_too_long_for_a_socket_is_reported(host: Host) -> None:
    sink = host.sink("/" + "x" * 200)
    assert not sink.reachable
    assert sink.why == f"/{'x' * 200}: AF_UNIX path too long"


def test_the_next_datagram_finds_that_the_log_daemon_has_ended(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    assert not sink.put(b"one")
    assert not sink.reachable
    assert sink.why == f"{host.path}: Connection refused"


def test_connecting_again_finds_the_next_log_daemon(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    assert not sink.put(b"one")
    successor = host.log_daemon()
    assert sink.connect()
    assert sink.put(b"two")
    assert successor.read_all() == [b"two"]


def test_a_log_daemon_that_was_away_for_a_moment_is_noticed(host: Host) -> None:
    """What was in its queue may have to be recorded again before anything else."""
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    successor = host.log_daemon()
    assert not sink.put(b"one")
    assert not sink.reachable
    assert sink.connect()
    assert sink.put(b"one")
    assert successor.read_all() == [b"one"]


def test_the_next_log_daemon_has_room_after_one_with_a_full_queue(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    fill(sink)
    logd.close()
    successor = host.log_daemon()
    assert sink.connect()
    count = fill(sink)
    assert len(successor.read_all()) == count > 0


def test_the_next_log_daemon_is_reachable_even_if_its_queue_is_full(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    logd.close()
    host.log_daemon()
    fill(host.sink())
    assert sink.connect()
    assert not sink.put(b"one")
    assert sink.reachable


def test_the_socket_connects_again_without_a_free_descriptor(host: Host) -> None:
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


def test_the_descriptor_stays_the_same(host: Host) -> None:
    logd = host.log_daemon()
    sink = host.sink()
    before = sink.fileno()
    logd.close()
    host.log_daemon()
    assert sink.connect()
    assert sink.fileno() == before


def test_the_capacity_is_the_size_of_the_largest_datagram(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As on a host whose net.core.wmem_max allows no more.
    monkeypatch.setattr(datagram, "_SEND_BUFFER", 100_000)
    logd = host.log_daemon()
    sink = host.sink()
    assert sink.capacity == 2 * 100_000 - 32  # the kernel doubles the buffer, socket(7)
    assert sink.put(b"x" * sink.capacity)
    assert logd.read() == b"x" * sink.capacity
    assert not sink.put(b"x" * (sink.capacity + 1))
    assert sink.why == f"{host.path}: Message too long"
    assert sink.connect()
    assert sink.put(b"one")
    assert logd.read_all() == [b"one"]


def test_a_closed_socket_has_no_descriptor(host: Host) -> None:
    sink = host.sink()
    sink.close()
    assert sink.fileno() == -1
