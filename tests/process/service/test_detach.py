"""`ackd --detach`: the background, for hosts without systemd."""

import contextlib
import os
import re
import select
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

import ackd
from ackd.records import Kind
from tests.support.daemon_process import COMMAND
from tests.support.journal_socket import DEADLINE, JournalSocket
from tests.support.obstacle import needs_namespaces
from tests.support.peer import ACK, GREETING, Peer

Ended = tuple[int, str, str]  # exit status, standard output, standard error


class Background:
    """A process that is not our child, held by a descriptor that can't become another's."""

    def __init__(self, pid: int, pidfile: Path) -> None:
        self.pid = pid
        self._descriptor = os.pidfd_open(pid)
        assert self.has_open(pidfile), f"{pidfile} names process {pid}, which does not hold it"

    def has_open(self, path: Path) -> bool:
        descriptors = Path(f"/proc/{self.pid}/fd").iterdir()
        return any(descriptor.samefile(path) for descriptor in descriptors)

    def signal(self, number: signal.Signals) -> None:
        signal.pidfd_send_signal(self._descriptor, number)

    def wait(self) -> None:
        """Wait for its end."""
        assert select.select([self._descriptor], [], [], DEADLINE)[0], "it does not end"

    def close(self) -> None:
        os.close(self._descriptor)


def with_mark(mark: bytes) -> Iterator[int]:
    """Yield the processes that have this in their environment."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has gone, or is not ours
            if mark in environment.read_bytes().split(b"\0"):
                yield int(environment.parent.name)


class Host:
    """A directory that ackd is started in with --detach, and the journal it has there."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.directory = directory
        self.pidfile = directory / "ackd.pid"
        self.journal = JournalSocket(directory / "journal")
        self.configure("port: 0")
        self._started: list[Background] = []

    def __enter__(self) -> "Host":
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._started:
            process.close()
        for pid in with_mark(b"STARTED_IN=%b" % os.fsencode(self.directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.journal.close()

    def configure(self, settings: str) -> None:
        (self.directory / "ackd.yaml").write_text(f"bind: 127.0.0.1\n{settings}\n")

    def detach(self, *options: str, before: tuple[str, ...] = ()) -> Ended:
        """Start it, with relative paths and its journal; wait until it is in the background."""
        settings = ("--config", "ackd.yaml", "--journal", str(self.journal.path))
        return self.run(*settings, "--detach", *options, before=before)

    def run(self, *options: str, before: tuple[str, ...] = ()) -> Ended:
        """Start it by the command `before`, if there is one; it is ended after the test."""
        package = str(Path(ackd.__file__).parents[1])
        done = subprocess.run(
            [*before, *COMMAND, *options],
            cwd=self.directory,
            env={**os.environ, "PYTHONPATH": package, "STARTED_IN": str(self.directory)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=DEADLINE,
        )
        if done.returncode == 0:
            self._started.append(Background(int(self.pidfile.read_text()), self.pidfile))
        return done.returncode, done.stdout.decode(), done.stderr.decode()

    @property
    def process(self) -> Background:
        """The one that was started last."""
        return self._started[-1]

    def port(self) -> int:
        """Return the port that it listens on: its record is there when the command returns."""
        messages = [entry["MESSAGE"].decode() for entry in self.journal.waiting()]
        assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+", messages[-1])
        return int(messages[-1].rpartition(":")[2])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path / "host") as host:
        yield host


def test_when_the_command_returns_clients_are_served(host: Host) -> None:
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")
    with Peer(host.port()) as peer:
        peer.expect(GREETING)
        peer.send(b"hello\n")
        peer.expect(ACK)
    assert host.journal.payloads(1) == [b"hello"]


def test_nothing_ties_it_to_where_it_was_started(host: Host) -> None:
    with_more_open = ("sh", "-c", '"$@" 9>"open in the shell"', "sh")
    assert host.detach("--pidfile", "ackd.pid", before=with_more_open) == (0, "", "")
    process = host.process
    assert Path(f"/proc/{process.pid}/cwd").readlink() == Path("/")
    assert os.getsid(process.pid) not in (os.getsid(0), process.pid)  # it can't get a terminal
    assert not process.has_open(host.directory / "open in the shell")
    for stream in range(3):
        assert Path(f"/proc/{process.pid}/fd/{stream}").samefile("/dev/null")


def test_sigterm_ends_it_and_removes_the_pidfile(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    process, port = host.process, host.port()
    process.signal(signal.SIGTERM)
    process.wait()
    host.journal.next(Kind.STOPPED)
    assert not host.pidfile.exists()
    with pytest.raises(ConnectionRefusedError):
        Peer(port)


def test_a_second_start_is_refused_while_the_first_lives(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    process = host.process
    assert host.detach("--pidfile", str(host.pidfile)) == (
        1,
        "",
        f"ackd: --pidfile: {host.pidfile}: ackd runs already as process {process.pid};"
        " stop it first, or name another file\n",
    )
    assert host.pidfile.read_text() == f"{process.pid}\n"


def test_the_pidfile_of_one_that_was_killed_is_taken_over(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    killed = host.process
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert host.pidfile.read_text() == f"{killed.pid}\n"
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")
    assert host.process.pid != killed.pid


def test_a_pidfile_with_the_number_of_somebody_else_is_taken_over(host: Host) -> None:
    host.pidfile.write_text(f"{os.getpid()}\nand more, from another program\n")
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")
    assert host.pidfile.read_text() == f"{host.process.pid}\n"


def test_it_does_not_remove_the_pidfile_of_a_later_one(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    first = host.process
    host.pidfile.unlink()
    host.detach("--pidfile", "ackd.pid")
    second = host.process
    first.signal(signal.SIGTERM)
    first.wait()
    assert host.pidfile.read_text() == f"{second.pid}\n"


def test_a_reload_finds_a_relative_configuration_again(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    process = host.process
    before = host.port()
    host.configure("port: 0\ngreeting: reloaded")
    process.signal(signal.SIGHUP)
    host.journal.next(Kind.RELOADED)
    with Peer(before) as peer:
        peer.expect(b"reloaded\n")


def test_a_port_that_is_taken_is_told_before_it_goes(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        host.configure(f"port: {port}")
        assert host.detach("--pidfile", "ackd.pid") == (
            1,
            "",
            f"ackd: can't listen on 127.0.0.1:{port}: Address already in use;"
            " another program listens there: `ss -ltnp` shows which\n",
        )
    assert not host.pidfile.exists()


def test_a_failure_in_the_background_is_told_in_the_foreground(host: Host) -> None:
    without_room = ("prlimit", "--fsize=0")  # as on a disk that is full
    assert host.detach("--pidfile", "ackd.pid", before=without_room) == (
        1,
        "",
        f"ackd: --detach: {host.pidfile}: File too large\n",
    )
    assert not host.pidfile.exists()


def test_only_a_regular_file_is_a_pidfile(host: Host) -> None:
    os.mkfifo(host.pidfile)
    assert host.detach("--pidfile", "ackd.pid") == (
        1,
        "",
        f"ackd: --pidfile: {host.pidfile}: is not a regular file; name another\n",
    )
    assert host.pidfile.is_fifo()


def test_a_pidfile_that_can_not_be_made_is_told(host: Host) -> None:
    assert host.detach("--pidfile", "nowhere/ackd.pid") == (
        1,
        "",
        "ackd: --pidfile: nowhere/ackd.pid: No such file or directory\n",
    )


def test_it_starts_without_standard_streams(host: Host) -> None:
    closed = ("sh", "-c", '"$@" <&- >&- 2>&-', "sh")
    assert host.detach("--pidfile", "ackd.pid", before=closed) == (0, "", "")
    with Peer(host.port()) as peer:
        peer.expect(GREETING)


def test_it_is_refused_where_systemd_has_started_it(host: Host) -> None:
    as_systemd = ("sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh")
    assert host.detach("--pidfile", "ackd.pid", before=as_systemd) == (
        1,
        "",
        "ackd: --detach is for hosts without systemd; leave it out of ExecStart=\n",
    )
    assert not host.pidfile.exists()


def test_a_shell_that_systemd_has_started_may_start_it(host: Host) -> None:
    from_a_service = ("env", f"SYSTEMD_EXEC_PID={os.getpid()}")
    assert host.detach("--pidfile", "ackd.pid", before=from_a_service) == (0, "", "")


# A host without systemd has neither its journal nor its sockets in /run. Where /dev/log is not a
# link into /run, it is in a /dev of its own as well.
WITHOUT_SYSTEMD = """
mount -t tmpfs tmpfs /run
mkdir /run/dev
touch /run/dev/null
mount --bind /dev/null /run/dev/null
[ -z "$LOG" ] || ln -s "$LOG" /run/dev/log
mount --rbind /run/dev /dev
exec "$@"
"""


def without_systemd(log: Path | str) -> tuple[str, ...]:
    """Return what to put before a command that is to see `log` as its /dev/log, or none."""
    return ("env", f"LOG={log}", "unshare", "--mount", "sh", "-ec", WITHOUT_SYSTEMD, "sh")


@needs_namespaces
def test_without_a_journal_records_go_to_the_syslog_daemon(host: Host, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as syslog:
        syslog.bind(str(tmp_path / "log"))
        syslog.settimeout(DEADLINE)
        options = ("--config", "ackd.yaml", "--detach", "--pidfile", "ackd.pid")
        assert host.run(*options, before=without_systemd(tmp_path / "log")) == (0, "", "")
        process = host.process
        listening = syslog.recv(1000).decode()
        match = re.fullmatch(
            rf"<30>\w{{3}} [ \d]\d \d\d:\d\d:\d\d ackd\[{process.pid}\]:"
            r" listening on 127\.0\.0\.1:(\d+)",
            listening,
        )
        assert match, listening
        with Peer(int(match[1])) as peer:
            peer.expect(GREETING)
            peer.send(b"hello\x1b[2J\n")
            peer.expect(ACK)
        assert syslog.recv(1000).endswith(b" socket connected")
        assert syslog.recv(1000).endswith(b" #1 Buffer: hello\\x1b[2J")


@needs_namespaces
def test_with_nowhere_to_record_it_does_not_start(host: Host) -> None:
    options = ("--config", "ackd.yaml", "--detach", "--pidfile", "ackd.pid")
    assert host.run(*options, before=without_systemd("")) == (
        1,
        "",
        "ackd: --detach: there is no journal and no /dev/log to record in: start a syslog daemon\n",
    )
