"""With `durability: disk`, an ack comes when the record is in ackd's own log on the disk."""

import contextlib
import errno
import os
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ackd.journal.entry import payloads_of
from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.daemon_process import COMMAND, Daemon
from tests.support.disk import MEMORY, Disk, needs_compiler, needs_memory_file_system
from tests.support.journal_socket import DEADLINE
from tests.support.obstacle import needs_namespaces
from tests.support.peer import ACK, GREETING, Peer

SMALLEST = 16 * 1024 * 1024
LOG_FULL = b"not received: the log is full\n"
DISK_FULL = b"not received: the disk is full\n"
DISK_FAILED = b"not received: the disk failed: Input/output error\n"
StartDurable = Callable[..., Daemon]


@pytest.fixture
def start_durable(start: StartDaemon, tmp_path: Path) -> StartDurable:
    """Start daemons with `durability: disk`; all have the same directory for their log."""
    directory = tmp_path / "log"
    directory.mkdir()

    def start_with(settings: str = "", **keywords: object) -> Daemon:
        keys = f"durability: disk\nwal_directory: {directory}\nwal_size: {SMALLEST}\n"
        return start(keys + settings, **keywords)

    return start_with


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    controlled = Disk(tmp_path)
    yield controlled
    controlled.close()


def exchange(peer: Peer, *payloads: bytes) -> None:
    """Send payloads at once and expect their acks."""
    peer.send(b"".join(payload + b"\n" for payload in payloads))
    peer.expect(ACK * len(payloads))


# When the ack comes


@needs_compiler
def test_an_ack_comes_when_the_record_is_on_the_disk_and_not_before(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as peer:
        disk.hold()
        peer.send(b"one\n")
        disk.await_call()
        with ackd.peer() as other:  # ackd serves other clients meanwhile
            other.send(b"x" * 65537 + b"\n")
            other.expect(b"not received: longer than 65536 bytes\n")
        assert not peer.readable()
        disk.let_go()
        peer.expect(ACK)
    assert ackd.journal.payloads(1) == [b"one"]


@needs_compiler
def test_what_arrives_while_the_disk_works_shares_the_next_commit(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as first, ackd.peer() as second:
        disk.hold()
        first.send(b"one\n")
        disk.await_call()
        for number in range(100):
            first.send(b"further %d\n" % number)
        second.send(b"x" * 65537 + b"\nlast\n")
        second.expect(b"not received: longer than 65536 bytes\n")
        assert not first.readable()
        disk.let_go()
        first.expect(ACK * 101)
        second.expect(ACK)
    payloads = ackd.journal.payloads(102)
    assert [p for p in payloads if p != b"last"] == [
        b"one",
        *(b"further %d" % n for n in range(100)),
    ]


@needs_compiler
def test_refusals_keep_their_places_between_acks_that_wait_for_the_disk(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable("max_payload: 10\n", command=disk.command)
    long, refusal = b"x" * 11 + b"\n", b"not received: longer than 10 bytes\n"
    with ackd.peer() as peer:
        disk.hold()
        peer.send(long + b"one\n" + long + b"two\n")
        peer.expect(refusal)
        disk.await_call()
        peer.send(long + b"three\n" + long)
        assert not peer.readable()
        disk.let_go()
        peer.expect(ACK + refusal + ACK + refusal + ACK + refusal)


@needs_compiler
def test_a_client_that_ends_its_sending_gets_all_acks_after_the_commit(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as peer:
        disk.hold()
        peer.send(b"one\ntwo\nrest")
        peer.half_close()
        disk.await_call()
        assert not peer.readable()
        disk.let_go()
        peer.expect(ACK * 3)
        peer.expect_end()
    assert ackd.journal.payloads(3) == [b"one", b"two", b"rest"]
    assert ackd.journal.next(Kind.CLOSED)["ACKD_PAYLOADS"] == b"3"


@needs_compiler
@pytest.mark.parametrize("leave", [Peer.reset, lambda peer: peer.socket.close()])
def test_what_a_client_has_sent_is_recorded_although_it_is_gone_before_the_commit(
    start_durable: StartDurable, disk: Disk, leave: Callable[[Peer], None]
) -> None:
    ackd = start_durable(command=disk.command)
    peer = ackd.peer()
    disk.hold()
    peer.send(b"one\ntwo\n")
    disk.await_call()
    leave(peer)
    with ackd.peer():
        disk.let_go()
        assert ackd.journal.payloads(2) == [b"one", b"two"]
        assert ackd.journal.next(Kind.CLOSED)["ACKD_PAYLOADS"] == b"2"


@pytest.mark.parametrize(("record", "count"), [("each", 20_000), ("batch", 100_000)])
def test_payloads_sent_at_once_are_all_acknowledged_and_recorded_in_order(
    start_durable: StartDurable, record: str, count: int
) -> None:
    ackd = start_durable(f"record: {record}\n")
    payloads = [b"payload %d" % number for number in range(count)]
    with ackd.peer() as peer:
        exchange(peer, *payloads)
        assert ackd.journal.payloads(count) == payloads


def test_all_lines_of_a_client_that_closes_without_reading_are_recorded(
    start_durable: StartDurable,
) -> None:
    ackd = start_durable()
    with Peer(ackd.port) as peer:
        peer.expect(GREETING)
        peer.send(b"".join(b"%d\n" % number for number in range(1000)))
        peer.half_close()
        assert ackd.journal.payloads(1000) == [b"%d" % number for number in range(1000)]


# The journal


def recorded_until(ackd: Daemon, last: bytes) -> list[bytes]:
    """Wait for the payload `last`; return all payloads up to it, and those recorded again once."""
    payloads: list[bytes] = []
    while last not in payloads:
        payloads += [payload for _, payload in payloads_of(ackd.journal.next(Kind.PAYLOAD))]
    return list(dict.fromkeys(payloads))


def test_acks_do_not_wait_for_the_journal_which_gets_everything_in_order_later(
    start_durable: StartDurable,
) -> None:
    ackd = start_durable(managed=True)
    with ackd.peer() as peer:
        exchange(peer, b"before")
        ackd.journal.close()
        exchange(peer, *(b"away %d" % number for number in range(3000)))
        ackd.manager.wait_for("STATUS=the journal can't be reached, records wait")
        ackd.journal.open()
        exchange(peer, b"after")
        away = [b"away %d" % number for number in range(3000)]
        assert recorded_until(ackd, b"after") == [b"before", *away, b"after"]


def test_acks_do_not_wait_for_a_journal_that_hangs(start_durable: StartDurable) -> None:
    ackd = start_durable()
    payloads = [b"%d" % number for number in range(5000)]
    with ackd.peer() as peer:
        ackd.journal.hold()
        exchange(peer, *payloads)
        ackd.journal.go_on()
        assert ackd.journal.payloads(5000) == payloads


def test_the_journal_gets_records_although_acks_never_pause(start_durable: StartDurable) -> None:
    ackd = start_durable()
    enough = threading.Event()

    def send() -> None:
        with ackd.peer() as peer:
            while not enough.is_set():
                exchange(peer, b"again")

    sender = threading.Thread(target=send)
    sender.start()
    try:
        assert ackd.journal.payloads(1) == [b"again"]
    finally:
        enough.set()
        sender.join()


def until_refused(peer: Peer, payload: bytes) -> tuple[int, bytes]:
    """Send a payload again and again; return the number of acks, and the first other reply."""
    acknowledged = 0
    while True:
        peer.send(payload + b"\n")
        reply = peer.socket.recv(1000)
        if reply != ACK:
            return acknowledged, reply
        acknowledged += 1


def test_payloads_wait_for_a_full_log_and_are_refused_after_journal_wait(
    start_durable: StartDurable,
) -> None:
    ackd = start_durable("journal_wait: 0.2\n", managed=True)
    payload = b"x" * 60_000
    with ackd.peer() as peer:
        ackd.journal.close()
        acknowledged, reply = until_refused(peer, payload)
        assert reply == LOG_FULL
        assert acknowledged * len(payload) > SMALLEST * 0.9
        ackd.manager.wait_for("STATUS=the log is full, payloads wait for the journal")
        ackd.journal.open()
        assert ackd.journal.payloads(acknowledged) == [payload] * acknowledged


def test_a_full_log_takes_payloads_again_when_its_records_are_stored_elsewhere(
    tmp_path: Path,
) -> None:
    config = tmp_path / "ackd.yaml"
    settings = f"journal_wait: 0.2\nwal_size: {SMALLEST}\nwal_directory: {tmp_path}\n"
    config.write_text(f"bind: 127.0.0.1\nport: 0\ndurability: disk\n{settings}")
    command = [*COMMAND, "--config", str(config), "--terminal"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, bufsize=0) as ackd:
        assert ackd.stdout
        listening = ackd.stdout.readline()
        with Peer(int(listening.rpartition(b":")[2])) as peer:
            peer.expect(GREETING)
            _, reply = until_refused(peer, b"x" * 60_000)  # nobody reads the output
            assert reply == LOG_FULL
            reader = threading.Thread(target=ackd.stdout.read, daemon=True)
            reader.start()
            while reply == LOG_FULL:
                peer.send(b"again\n")
                reply = peer.socket.recv(1000)
            assert reply == ACK
        ackd.terminate()
        assert ackd.wait(DEADLINE) == 0
        reader.join(DEADLINE)


def test_the_status_and_the_log_warn_before_the_log_is_full(start_durable: StartDurable) -> None:
    ackd = start_durable(managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        exchange(peer, *[b"x" * 60_000] * (SMALLEST * 8 // 10 // 60_000))
        ackd.signal(signal.SIGUSR1)
        ackd.manager.wait_for("STATUS=the log is ")
        ackd.journal.open()
        ackd.journal.wait_for(lambda e: b"full: the journal is behind" in e["MESSAGE"])


# The disk


@needs_compiler
def test_payloads_of_a_failed_commit_are_refused_and_the_next_are_acknowledged(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command, managed=True)
    with ackd.peer() as peer:
        exchange(peer, b"before")
        disk.fail(errno.EIO)
        peer.send(b"one\ntwo\n")
        peer.expect(DISK_FAILED * 2)
        ackd.manager.wait_for("STATUS=payloads are refused: the disk failed: Input/output error")
        peer.send(b"three\n")
        peer.expect(DISK_FAILED)
        disk.fail(0)
        exchange(peer, b"after")
        assert ackd.journal.payloads(2) == [b"before", b"after"]
    again = ackd.journal.next(Kind.ON_DISK_AGAIN)
    assert again["MESSAGE"].endswith(b"refused meanwhile: 3")
    closed = ackd.journal.next(Kind.CLOSED)
    assert (closed["ACKD_PAYLOADS"], closed["ACKD_REFUSED"]) == (b"2", b"3")


@needs_compiler
def test_new_clients_are_rejected_until_the_disk_works_although_no_payload_comes(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as peer:
        disk.fail(errno.ENOSPC)
        peer.send(b"one\n")
        peer.expect(DISK_FULL)
        for _ in range(2):
            with Peer(ackd.port) as other:
                other.expect(DISK_FULL.replace(b"not received", b"not connect"))
                other.expect_end()
        disk.fail(0)
        assert ackd.journal.next(Kind.ON_DISK_AGAIN)
        with ackd.peer() as other:
            exchange(other, b"two")
        exchange(peer, b"three")


@needs_compiler
def test_what_was_recorded_behind_a_failed_commit_is_refused_too(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as first, ackd.peer() as second:
        disk.fail(errno.ENOSPC)
        disk.hold()
        first.send(b"one\n")
        disk.await_call()
        first.send(b"two\n")
        second.send(b"x" * 65537 + b"\nthree\n")
        second.expect(b"not received: longer than 65536 bytes\n")
        disk.let_go()
        first.expect(DISK_FULL * 2)
        second.expect(DISK_FULL)
        disk.fail(0)
        exchange(second, b"four")
        assert ackd.journal.payloads(1) == [b"four"]


@needs_compiler
def test_what_was_refused_is_not_recorded_by_the_next_process(
    start_durable: StartDurable, disk: Disk
) -> None:
    first = start_durable(command=disk.command)
    with first.peer() as peer:
        exchange(peer, b"one")
        disk.fail(errno.EIO)
        peer.send(b"two\nthree\n")
        peer.expect(DISK_FAILED * 2)
    assert first.journal.payloads(1) == [b"one"]
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    second = start_durable()
    with second.peer() as peer:
        exchange(peer, b"four")
        assert recorded_until(second, b"four") == [b"four"]


@needs_compiler
def test_a_client_that_is_gone_before_a_failed_commit_has_the_right_numbers_in_its_record(
    start_durable: StartDurable, disk: Disk
) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as peer:
        exchange(peer, b"one")
        disk.fail(errno.EIO)
        disk.hold()
        peer.send(b"two\n")
        disk.await_call()
        peer.reset()
    with ackd.peer() as other:
        other.send(b"x" * 65537 + b"\n")
        other.expect(b"not received: longer than 65536 bytes\n")
        other.send(b"three\n")
        disk.let_go()
        other.expect(DISK_FAILED)
        disk.fail(0)
        exchange(other, b"four")
        assert ackd.journal.payloads(2) == [b"one", b"four"]
        closed = ackd.journal.next(Kind.CLOSED)
        assert (closed["ACKD_PAYLOADS"], closed["ACKD_REFUSED"]) == (b"1", b"1")


def fill(path: Path) -> None:
    """Write a file until its disk is full."""
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(65536))


@needs_namespaces
def test_a_full_disk_refuses_payloads_until_there_is_room(
    start: StartDaemon, tmp_path: Path
) -> None:
    small, place = tmp_path / "small", tmp_path / "full"
    place.mkdir()
    small.mkdir()
    # In a mount namespace of its own: it goes with the process. ackd refuses a tmpfs itself.
    mount = f"""
        mount -t tmpfs -o size=24M tmpfs {small}
        mkdir {small}/upper {small}/work
        layers=lowerdir={place},upperdir={small}/upper,workdir={small}/work
        mount -t overlay -o "$layers" overlay {place}
        exec "$@"
    """
    settings = f"durability: disk\nwal_directory: {place}\n"
    ackd = start(settings, command=("unshare", "--mount", "sh", "-ec", mount, "sh", *COMMAND))
    filler = Path(f"/proc/{ackd.process.pid}/root{place}/filler")
    with ackd.peer() as peer:
        exchange(peer, b"first")
        fill(filler)
        acknowledged, reply = until_refused(peer, b"x" * 60_000)
        assert reply == DISK_FULL
        filler.unlink()
        exchange(peer, b"room")
        assert ackd.journal.payloads(acknowledged + 2)[-1] == b"room"


# Start and end


def test_what_was_acknowledged_is_recorded_after_a_kill_without_a_journal(
    start_durable: StartDurable,
) -> None:
    payloads = [b"%d" % number for number in range(3000)]
    first = start_durable()
    with first.peer() as peer:
        first.journal.close()
        exchange(peer, *payloads)
    first.signal(signal.SIGKILL)
    first.wait()
    second = start_durable()
    with second.peer() as peer:
        exchange(peer, b"next")
        assert recorded_until(second, b"next") == [*payloads, b"next"]


def test_after_a_change_to_the_journal_the_log_on_the_disk_is_used_until_it_is_not_needed(
    start_durable: StartDurable, start: StartDaemon, tmp_path: Path
) -> None:
    first = start_durable()
    with first.peer() as peer:
        first.journal.close()
        exchange(peer, b"one", b"two")
    first.signal(signal.SIGTERM)
    first.wait()
    settings = f"durability: journal\nwal_directory: {tmp_path / 'log'}\n"
    second = start(settings)
    with second.peer() as peer:
        exchange(peer, b"three")
        assert recorded_until(second, b"three") == [b"one", b"two", b"three"]
        second.journal.close()
        exchange(peer, b"acks wait for the disk")


@needs_compiler
def test_a_stop_waits_for_the_commit_that_runs(start_durable: StartDurable, disk: Disk) -> None:
    ackd = start_durable(command=disk.command)
    with ackd.peer() as peer:
        disk.hold()
        peer.send(b"one\n")
        disk.await_call()
        ackd.signal(signal.SIGTERM)
        ackd.await_closed()
        assert not peer.readable()
        disk.let_go()
        peer.expect(ACK)
        peer.expect_end()
    assert ackd.wait() == 0
    assert ackd.journal.payloads(1) == [b"one"]


@needs_compiler
@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGUSR2])
def test_a_disk_that_hangs_does_not_keep_ackd_from_ending(
    start_durable: StartDurable, disk: Disk, ending: signal.Signals
) -> None:
    hands_over = ending == signal.SIGUSR2
    first = start_durable(command=disk.command, managed=hands_over)
    with first.peer() as peer, first.peer() as other:
        exchange(peer, b"one")
        disk.hold()
        peer.send(b"two\n")
        disk.await_call()
        other.send(b"three\n")
        first.signal(ending)
        if hands_over:
            first.manager.wait_for("BARRIER=1")  # the last message
        assert first.wait() == 0
        peer.expect_end()
        other.expect_end()
    disk.let_go()
    second = start_durable()
    with second.peer() as peer:
        exchange(peer, b"four")
        payloads = recorded_until(second, b"four")
    # What had no ack may be recorded or not.
    assert [p for p in payloads if p not in (b"two", b"three")] == [b"one", b"four"]


def test_a_stop_is_a_clean_end_and_the_next_start_records_nothing_again(
    start_durable: StartDurable,
) -> None:
    first = start_durable()
    with first.peer() as peer:
        exchange(peer, b"one")
    assert first.journal.payloads(1) == [b"one"]
    first.signal(signal.SIGTERM)
    assert first.wait() == 0
    second = start_durable()
    with second.peer() as peer:
        exchange(peer, b"two")
    assert second.journal.payloads(1) == [b"two"]


# Errors at the start


def failed_start(tmp_path: Path, settings: str, **environment: str) -> tuple[int, str]:
    """Return the exit status and the error of a start that must fail."""
    config = tmp_path / "ackd.yaml"
    config.write_text(f"bind: 127.0.0.1\nport: 0\ndurability: disk\n{settings}")
    done = subprocess.run(
        [*COMMAND, "--config", str(config), "--terminal"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


def test_without_a_directory_the_error_names_the_remedies(tmp_path: Path) -> None:
    status, error = failed_start(tmp_path, "")
    assert (status, error.count("\n")) == (1, 1)
    assert "durability: disk" in error
    assert "/usr/share/ackd/durable" in error
    assert "wal_directory" in error


def test_a_directory_that_does_not_exist_is_an_error(tmp_path: Path) -> None:
    status, error = failed_start(tmp_path, f"wal_directory: {tmp_path}/absent\n")
    assert (status, error.count("\n")) == (1, 1)
    assert f"{tmp_path}/absent: " in error


def test_a_file_in_the_place_of_the_directory_is_an_error(tmp_path: Path) -> None:
    status, error = failed_start(tmp_path, f"wal_directory: {tmp_path}/ackd.yaml\n")
    assert (status, error.count("\n")) == (1, 1)
    assert f"{tmp_path}/ackd.yaml: " in error


@pytest.mark.parametrize("name", ["control", "segment-000007"])
def test_a_file_with_other_content_is_refused_and_kept(tmp_path: Path, name: str) -> None:
    place = tmp_path / "others"
    place.mkdir()
    (place / name).write_text("Source: other\n")
    status, error = failed_start(tmp_path, f"wal_directory: {place}\n")
    assert (status, error.count("\n")) == (1, 1)
    assert f"{place}: the file {name} has content that is not ackd's" in error
    assert (place / name).read_text() == "Source: other\n"


@needs_memory_file_system
def test_a_directory_in_memory_is_an_error_because_it_does_not_outlive_the_power(
    tmp_path: Path,
) -> None:
    with tempfile.TemporaryDirectory(dir=MEMORY) as place:
        status, error = failed_start(tmp_path, f"wal_directory: {place}\n")
        assert os.listdir(place) == []
    assert (status, error.count("\n")) == (1, 1)
    assert f"{place} is in memory (tmpfs), and would not outlive the power" in error
    assert "wal_directory" in error


def test_a_directory_that_another_ackd_uses_is_an_error(
    start_durable: StartDurable, tmp_path: Path
) -> None:
    start_durable()
    status, error = failed_start(tmp_path, f"wal_directory: {tmp_path}/log\n")
    assert (status, error.count("\n")) == (1, 1)
    assert "another ackd" in error


def test_record_none_is_an_error(tmp_path: Path) -> None:
    status, error = failed_start(tmp_path, f"record: none\nwal_directory: {tmp_path}\n")
    assert status == 2
    assert error == (
        f"ackd: {tmp_path}/ackd.yaml:3:13: durability: disk needs a record of each payload,"
        " but line 4 says `record: none`\n"
    )


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("durability", "durability: journal\n"),
        ("wal_size", "durability: disk\nwal_size: 33554432\nwal_directory: {directory}\n"),
        ("wal_directory", "durability: disk\nwal_size: 16777216\nwal_directory: /srv\n"),
    ],
)
def test_a_reload_that_needs_a_restart_fails_and_says_so(
    start_durable: StartDurable, tmp_path: Path, key: str, settings: str
) -> None:
    ackd = start_durable()
    ackd.configure(settings.format(directory=tmp_path / "log"))
    ackd.signal(signal.SIGHUP)
    error = ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"].decode()
    assert error == f"not reloaded: {key}: a change needs a restart of ackd, not only a reload"
    with ackd.peer() as peer:
        exchange(peer, b"still on the disk")
