"""Records on a terminal, and a standard output that never blocks."""

import fcntl
import os
import re
import resource
import select
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

from ackd.journal.recorder import Recorder
from ackd.journal.terminal import StandardOutput, TerminalFormat
from ackd.loop import Loop
from ackd.records import Kind, Origin, Priority, Record

ORIGIN = Origin("192.168.150.2", 40321, "192.168.150.1:10008", "00c0ffee-1")
TIME = r"\d\d:\d\d:\d\d\.\d\d\d"
EVERY_PRIORITY = list(Priority)


def payload(data: bytes, colour: bool = False) -> str:
    form = TerminalFormat(colour)
    return form.payload(form.prefix(ORIGIN), 7, data).decode()


def record(message: str, priority: Priority = Priority.INFO, colour: bool = False) -> str:
    return TerminalFormat(colour).record(Record(Kind.LOG, priority, message)).decode()


def without_time(line: str) -> str:
    """Check that a line begins with a time and has one line end; return the rest."""
    match = re.fullmatch(rf"{TIME} (.*)\n", line)
    assert match, line
    return match[1]


def test_a_payload_is_a_line_with_time_peer_and_number() -> None:
    line = payload(b"this data will send to server!")
    assert without_time(line) == (
        "192.168.150.2 port 40321 #7: Buffer: this data will send to server!"
    )


def test_a_record_about_a_connection_has_its_peer() -> None:
    line = TerminalFormat(False).record(
        Record(Kind.CONNECTED, Priority.INFO, "socket connected", ORIGIN)
    )
    assert without_time(line.decode()) == "192.168.150.2 port 40321: socket connected"


def test_any_other_record_is_marked_as_ackds_own() -> None:
    assert without_time(record("listening on ::1")) == "ackd: listening on ::1"


@pytest.mark.parametrize("colour", [False, True])
def test_a_payload_does_nothing_to_the_terminal(colour: bool) -> None:
    line = payload(b"\x1b[2J\r\n\0\xff\\ " + "\u202e".encode(), colour)
    assert "\\x1b[2J\\r\\n\\x00\\xff\\\\ \\u202e" in line
    assert re.sub(r"\x1b\[\d+m", "", line).removesuffix("\n").isprintable()


def test_a_message_does_nothing_to_the_terminal() -> None:
    assert without_time(record("/etc/\udcff\x1b.yaml\n")) == "ackd: /etc/\\\\udcff\\x1b.yaml\\n"


@pytest.mark.parametrize("priority", EVERY_PRIORITY)
def test_there_is_no_colour_by_default(priority: Priority) -> None:
    assert "\x1b" not in payload(b"x") + record("x", priority)


def test_payloads_errors_and_warnings_have_different_colours() -> None:
    assert payload(b"x", colour=True).endswith(": Buffer: \x1b[1mx\x1b[0m\n")
    assert record("x", Priority.ERROR, colour=True).endswith(" ackd: \x1b[31mx\x1b[0m\n")
    assert record("x", Priority.WARNING, colour=True).endswith(" ackd: \x1b[33mx\x1b[0m\n")
    assert record("x", Priority.INFO, colour=True).endswith(" ackd: x\n")


@pytest.mark.parametrize("priority", EVERY_PRIORITY)
def test_every_colour_is_reset_after_its_text(priority: Priority) -> None:
    line = record("x", priority, colour=True)
    assert re.fullmatch(rf"\x1b\[2m{TIME}\x1b\[0m ackd: (\x1b\[\d+mx\x1b\[0m|x)\n", line)


@pytest.mark.parametrize("data", [b"", b"\xff" * 65536, b"\0" * 131072, "\u202e".encode() * 1000])
@pytest.mark.parametrize("colour", [False, True])
def test_no_record_of_a_payload_exceeds_the_longest(data: bytes, colour: bool) -> None:
    assert len(payload(data, colour).encode()) <= TerminalFormat(colour).longest(len(data))


# The standard output as a pipe, a file, a terminal, a socket

Open = Callable[[int], StandardOutput]


@pytest.fixture
def opened() -> Iterator[Open]:
    streams: list[StandardOutput] = []

    def open_stream(descriptor: int) -> StandardOutput:
        streams.append(StandardOutput(descriptor))
        return streams[-1]

    yield open_stream
    for stream in streams:
        stream.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that is full after 4096 bytes."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    os.close(writing)
    os.close(reading)


def test_lines_come_out_of_a_pipe(pipe: tuple[int, int], opened: Open) -> None:
    reading, writing = pipe
    stream = opened(writing)
    assert stream.put(b"one\n")
    assert stream.put(b"two\n")
    assert os.read(reading, 100) == b"one\ntwo\n"
    assert stream.reachable


def test_a_full_pipe_takes_no_line_until_it_is_read(pipe: tuple[int, int], opened: Open) -> None:
    reading, writing = pipe
    stream = opened(writing)
    line = b"x" * 1023 + b"\n"
    assert [stream.put(line) for _ in range(5)] == [True] * 4 + [False]
    assert stream.reachable
    assert not writable(stream)
    assert os.read(reading, 8192) == line * 4
    assert writable(stream)
    assert stream.put(b"next\n")
    assert os.read(reading, 8192) == b"next\n"


def writable(stream: StandardOutput) -> bool:
    return bool(select.select([], [stream], [], 0)[1])


def test_the_rest_of_a_long_line_goes_out_before_the_next(
    pipe: tuple[int, int], opened: Open
) -> None:
    reading, writing = pipe
    stream = opened(writing)
    line = b"x" * 20000 + b"\n"
    assert stream.put(line)
    assert not stream.put(b"next\n")
    came = os.read(reading, 8192)
    while not stream.put(b"next\n"):
        came += os.read(reading, 8192)
    while not came.endswith(b"next\n"):
        came += os.read(reading, 8192)
    assert came == line + b"next\n"


def test_the_rest_of_a_line_and_the_next_line_go_out_together_if_there_is_room(
    pipe: tuple[int, int], opened: Open
) -> None:
    reading, writing = pipe
    stream = opened(writing)
    line = b"x" * 6000 + b"\n"
    assert stream.put(line)
    came = os.read(reading, 8192)
    assert stream.put(b"next\n")
    assert came + os.read(reading, 8192) == line + b"next\n"


def test_a_pipe_whose_reader_has_gone_is_lost_for_ever(pipe: tuple[int, int], opened: Open) -> None:
    reading, writing = pipe
    stream = opened(writing)
    nobody = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nobody, reading)
    os.close(nobody)
    assert not stream.put(b"one\n")
    assert not stream.reachable
    assert stream.why == "Broken pipe"
    assert stream.gone
    assert not stream.connect()


def test_a_pipe_without_a_reader_is_lost_with_the_first_line(
    opened: Open,
) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    stream = opened(writing)
    os.close(writing)
    assert stream.connect()
    assert not stream.put(b"one\n")
    assert stream.why == "Broken pipe"
    assert stream.gone


def test_a_full_disk_is_reported(opened: Open) -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    stream = opened(full)
    os.close(full)
    assert not stream.put(b"one\n")
    assert stream.why == "No space left on device"
    assert not stream.gone
    try_again(stream)


def try_again(stream: StandardOutput) -> None:
    """Wait until the stream may be tried again."""
    end = monotonic() + 20
    while not stream.connect():
        assert monotonic() < end


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond this size, as if the disk were full: setrlimit(2).

    Not for a whole test: pytest writes its report to a file, too.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("mode", ["wb", "ab"])
def test_a_line_that_does_not_fit_on_the_disk_is_not_taken_and_leaves_no_part(
    tmp_path: Path, opened: Open, mode: str
) -> None:
    path = tmp_path / "records"
    with path.open(mode) as file:
        stream = opened(file.fileno())
        with files_of_at_most(10):
            assert stream.put(b"one two\n")
            assert not stream.put(b"three\n")
        assert path.read_bytes() == b"one two\n"
        assert not stream.reachable
        try_again(stream)
        assert stream.put(b"three\n")
    assert path.read_bytes() == b"one two\nthree\n"


def test_a_part_that_can_not_be_removed_is_not_continued(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "records"
    with path.open("wb") as file:
        stream = opened(file.fileno())
        path.write_bytes(b"of another process\n")  # beyond where this process writes
        with files_of_at_most(3):
            assert not stream.put(b"three\n")
        try_again(stream)
        assert stream.put(b"four\n")
    assert path.read_bytes() == b"thr\nfour\nr process\n"


def test_lines_are_appended_to_a_file(tmp_path: Path, opened: Open) -> None:
    path = tmp_path / "records"
    path.write_bytes(b"before\n")
    with path.open("ab") as file:
        stream = opened(file.fileno())
        assert stream.put(b"one\n")
        file.write(b"of another process\n")
        file.flush()
        assert stream.put(b"x" * 1_000_000 + b"\n")
    expected = b"before\none\nof another process\n" + b"x" * 1_000_000 + b"\n"
    assert path.read_bytes() == expected


def gone_in_the_loop(stream: StandardOutput) -> bool:
    """Let a loop go round once; return whether it has found the stream gone."""
    loop = Loop()
    stream.watch(loop, Recorder(stream, TerminalFormat(False)))
    loop.handle(loop.wait(0))
    loop.close()
    return stream.gone


def test_the_end_of_a_pipes_reader_is_noticed_without_a_line(opened: Open) -> None:
    reading, writing = os.pipe()
    stream = opened(writing)
    assert not gone_in_the_loop(stream)
    os.close(reading)
    os.close(writing)
    assert gone_in_the_loop(stream)
    assert not stream.connect()


def test_a_closed_terminal_is_noticed_without_a_line(opened: Open) -> None:
    master, slave = os.openpty()
    stream = opened(slave)
    assert not gone_in_the_loop(stream)
    os.close(slave)
    os.close(master)
    assert gone_in_the_loop(stream)


def test_a_file_is_never_gone(tmp_path: Path, opened: Open) -> None:
    with (tmp_path / "records").open("wb") as file:
        assert not gone_in_the_loop(opened(file.fileno()))


def test_a_terminal_shows_lines(opened: Open) -> None:
    master, slave = os.openpty()
    stream = opened(slave)
    assert stream.put(b"one\n")
    assert os.read(master, 100) == b"one\r\n"
    assert os.get_blocking(slave)
    os.close(slave)
    os.close(master)


def test_a_socket_takes_lines_until_it_is_full(opened: Open) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        stream = opened(ours.fileno())
        line = b"x" * 1023 + b"\n"
        count = 0
        while stream.put(line):
            count += 1
        assert theirs.recv(len(line) * count, socket.MSG_WAITALL) == line * count
        assert stream.put(b"next\n")


def test_the_pipe_of_other_processes_stays_blocking(pipe: tuple[int, int], opened: Open) -> None:
    reading, writing = pipe
    stream = opened(writing)
    while stream.put(b"x" * 1024):
        pass
    assert os.get_blocking(writing)
    assert os.get_blocking(reading)


def test_closing_the_stream_closes_only_its_own_descriptor(pipe: tuple[int, int]) -> None:
    reading, writing = pipe
    before = os.listdir("/proc/self/fd")
    stream = StandardOutput(writing)
    assert stream.fileno() != writing
    stream.close()
    assert os.listdir("/proc/self/fd") == before
    os.write(writing, b"still open")
    assert os.read(reading, 100) == b"still open"
