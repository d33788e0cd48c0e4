"""`ackd --detach`: a daemon on a host without systemd."""

import contextlib
import fcntl
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
    """A detached process; its descriptor never refers to another process with the same number."""

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
        """Wait until the process ends."""
        assert select.select([self._descriptor], [], [], DEADLINE)[0], (
            f"process {self.pid} does not end"
        )

    def close(self) -> None:
        os.close(self._descriptor)


def with_variable(variable: bytes) -> Iterator[int]:
    """Yield the processes that have this variable in their environment."""
    for environment in Path("/proc").glob("[0-9]*/environ"):
        with contextlib.suppress(OSError):  # it has ended, or is another user's
            if variable in environment.read_bytes().split(b"\0"):
                yield int(environment.parent.name)


class Host:
    """A directory in which `ackd --detach` is started, with the journal of that ackd."""

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
        for pid in with_variable(b"STARTED_IN=%b" % os.fsencode(self.directory)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.journal.close()

    def configure(self, settings: str) -> None:
        (self.directory / "ackd.yaml").write_text(f"bind: 127.0.0.1\n{settings}\n")

    def detach(self, *options: str, before: tuple[str, ...] = ()) -> Ended:
        """Start ackd with relative paths and this journal; wait until the command returns."""
        settings = ("--config", "ackd.yaml", "--journal", str(self.journal.path))
        return self.run(*settings, "--detach", *options, before=before)

    def run(self, *options: str, before: tuple[str, ...] = ()) -> Ended:
        """Start ackd, by the command `before` if there is one; it is killed after the test."""
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
        """The daemon that was started last."""
        return self._started[-1]

    def port(self) -> int:
        """Return the port of the daemon."""
        message = self.journal.next(Kind.LISTENING)["MESSAGE"].decode()
        assert re.fullmatch(r"listening on 127\.0\.0\.1:\d+", message)
        return int(message.rpartition(":")[2])


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with Host(tmp_path / "host") as host:
        yield host


def test_clients_are_served_when_the_command_returns(host: Host) -> None:
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")
    with Peer(host.port()) as peer:
        peer.expect(GREETING)
        peer.send(b"hello\n")
        peer.expect(ACK)
    assert host.journal.payloads(1) == [b"hello"]


def test_the_daemon_has_its_log_on_the_disk_and_others_can_not_use_it(host: Host) -> None:
    host.configure(f"port: 0\ndurability: disk\nwal_directory: {host.directory}")
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")
    with Peer(host.port()) as peer:
        peer.expect(GREETING)
        peer.send(b"hello\n")
        peer.expect(ACK)
    assert host.journal.payloads(1) == [b"hello"]
    status, _, error = host.detach()
    assert (status, error.count("\n")) == (1, 1)
    assert f"{host.directory}: another ackd uses this directory" in error


def test_the_daemon_keeps_nothing_of_the_shell_that_started_it(host: Host) -> None:
    with_more_open = ("sh", "-c", '"$@" 9>"open in the shell"', "sh")
    assert host.detach("--pidfile", "ackd.pid", before=with_more_open) == (0, "", "")
    process = host.process
    assert Path(f"/proc/{process.pid}/cwd").readlink() == Path("/")
    assert os.getsid(process.pid) not in (os.getsid(0), process.pid)  # it can't acquire a terminal
    assert not process.has_open(host.directory / "open in the shell")
    for stream in range(3):
        assert Path(f"/proc/{process.pid}/fd/{stream}").samefile("/dev/null")


def test_sigterm_ends_the_daemon_and_removes_the_pidfile(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    process, port = host.process, host.port()
    process.signal(signal.SIGTERM)
    process.wait()
    host.journal.next(Kind.STOPPED)
    assert not host.pidfile.exists()
    with pytest.raises(ConnectionRefusedError):
        Peer(port)


def test_a_second_daemon_with_the_same_pidfile_is_refused(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    process = host.process
    assert host.detach("--pidfile", str(host.pidfile)) == (
        1,
        "",
        f"ackd: --pidfile: {host.pidfile}: ackd runs already as process {process.pid};"
        " stop it first, or name another file\n",
    )
    assert host.pidfile.read_text() == f"{process.pid}\n"


def test_the_pidfile_of_a_killed_daemon_is_used_again(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    killed = host.process
    killed.signal(signal.SIGKILL)
    killed.wait()
    assert host.pidfile.read_text() == f"{killed.pid}\n"
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")
    assert host.process.pid != killed.pid


def test_a_pidfile_whose_number_another_process_has_got_since_is_used_again(host: Host) -> None:
    host.pidfile.write_text(f"{os.getpid()}\n")
    os.utime(host.pidfile, (0, 0))  # written before that process started
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")


def test_an_empty_pidfile_is_used(host: Host) -> None:
    host.pidfile.touch()
    assert host.detach("--pidfile", "ackd.pid") == (0, "", "")


@pytest.mark.parametrize(
    "content", ["1\nand more, from another program\n", "precious", "\n", "-1\n"]
)
def test_a_file_with_other_content_is_refused_and_kept(host: Host, content: str) -> None:
    host.pidfile.write_text(content)
    assert host.detach("--pidfile", "ackd.pid") == (
        1,
        "",
        f"ackd: --pidfile: {host.pidfile}: is a file with other content; name another\n",
    )
    assert host.pidfile.read_text() == content


def test_the_pidfile_of_another_program_that_runs_is_refused_and_kept(host: Host) -> None:
    host.pidfile.write_text(f"{os.getpid()}\n")
    status, _, error = host.detach("--pidfile", "ackd.pid")
    assert (status, error) == (
        1,
        f"ackd: --pidfile: {host.pidfile}: belongs to process {os.getpid()}, which is not ackd;"
        " name another\n",
    )
    assert host.pidfile.read_text() == f"{os.getpid()}\n"


def test_a_symbolic_link_is_refused_and_kept(host: Host) -> None:
    target = host.directory / "target"
    target.write_text("1\n")
    host.pidfile.symlink_to(target)
    assert host.detach("--pidfile", "ackd.pid") == (
        1,
        "",
        f"ackd: --pidfile: {host.pidfile}: is a symbolic link; name another\n",
    )
    assert host.pidfile.is_symlink()
    assert target.read_text() == "1\n"


def test_a_file_with_two_names_is_refused_and_kept(host: Host) -> None:
    other = host.directory / "other"
    other.touch()
    host.pidfile.hardlink_to(other)
    assert host.detach("--pidfile", "ackd.pid")[0] == 1
    assert host.pidfile.samefile(other)


def test_a_lock_of_another_program_is_told_apart_from_that_of_ackd(host: Host) -> None:
    with host.pidfile.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert host.detach("--pidfile", "ackd.pid") == (
            1,
            "",
            f"ackd: --pidfile: {host.pidfile}: another program has locked the file; name another\n",
        )
    assert host.pidfile.exists()


def test_a_daemon_does_not_remove_the_pidfile_of_a_later_one(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    first = host.process
    host.pidfile.unlink()
    host.detach("--pidfile", "ackd.pid")
    second = host.process
    first.signal(signal.SIGTERM)
    first.wait()
    assert host.pidfile.read_text() == f"{second.pid}\n"


def test_a_reload_finds_a_configuration_with_a_relative_path(host: Host) -> None:
    host.detach("--pidfile", "ackd.pid")
    process = host.process
    before = host.port()
    host.configure("port: 0\ngreeting: reloaded")
    process.signal(signal.SIGHUP)
    host.journal.next(Kind.RELOADED)
    with Peer(before) as peer:
        peer.expect(b"reloaded\n")


def test_a_used_port_is_an_error_of_the_command(host: Host) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        host.configure(f"port: {port}")
        assert host.detach("--pidfile", "ackd.pid") == (
            1,
            "",
            f"ackd: can't listen on 127.0.0.1:{port}: Address already in use;"
            " another program listens there: `ss -ltnp`, of iproute2, shows which\n",
        )
    assert not host.pidfile.exists()


# Runs a command where the directory `full` is on a disk of one page, which is full.
FULL_DISK = """
mount -t tmpfs -o nr_blocks=1 full full && head -c 4096 /dev/zero >full/all && exec "$0" "$@"
"""


@needs_namespaces
def test_the_command_prints_a_failure_of_the_detached_process(host: Host) -> None:
    (host.directory / "full").mkdir()
    without_room = ("unshare", "--map-root-user", "--mount", "sh", "-c", FULL_DISK)
    assert host.detach("--pidfile", "full/ackd.pid", before=without_room) == (
        1,
        "",
        f"ackd: --detach: {host.directory}/full/ackd.pid: No space left on device\n",
    )


def test_a_limit_of_the_size_of_files_that_the_log_exceeds_is_an_error(host: Host) -> None:
    assert host.detach(before=("prlimit", "--fsize=4096")) == (
        1,
        "",
        "ackd: the log in memory: File too large\n",
    )


def test_a_pidfile_must_be_a_regular_file(host: Host) -> None:
    os.mkfifo(host.pidfile)
    assert host.detach("--pidfile", "ackd.pid") == (
        1,
        "",
        f"ackd: --pidfile: {host.pidfile}: is not a regular file; name another\n",
    )
    assert host.pidfile.is_fifo()


def test_a_pidfile_that_can_not_be_created_is_an_error(host: Host) -> None:
    assert host.detach("--pidfile", "nowhere/ackd.pid") == (
        1,
        "",
        "ackd: --pidfile: nowhere/ackd.pid: No such file or directory\n",
    )


def test_the_daemon_starts_without_standard_streams(host: Host) -> None:
    closed = ("sh", "-c", '"$@" <&- >&- 2>&-', "sh")
    assert host.detach("--pidfile", "ackd.pid", before=closed) == (0, "", "")
    with Peer(host.port()) as peer:
        peer.expect(GREETING)


def test_detach_is_refused_if_systemd_has_started_ackd(host: Host) -> None:
    as_systemd = ("sh", "-c", 'SYSTEMD_EXEC_PID=$$ exec "$@"', "sh")
    assert host.detach("--pidfile", "ackd.pid", before=as_systemd) == (
        1,
        "",
        "ackd: --detach is for hosts without systemd; leave it out of ExecStart=\n",
    )
    assert not host.pidfile.exists()


def test_detach_works_in_a_shell_that_systemd_has_started(host: Host) -> None:
    from_a_service = ("env", f"SYSTEMD_EXEC_PID={os.getpid()}")
    assert host.detach("--pidfile", "ackd.pid", before=from_a_service) == (0, "", "")


# A host without systemd has no journal and no sockets of systemd in /run. Where /dev/log is not a
# link into /run, hiding it needs another /dev as well.
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
    """Return a prefix for a command; the command then sees `log` as /dev/log, or no /dev/log."""
    return ("env", f"LOG={log}", "unshare", "--mount", "sh", "-ec", WITHOUT_SYSTEMD, "sh")


@needs_namespaces
def test_records_go_to_the_syslog_daemon_without_a_journal(host: Host, tmp_path: Path) -> None:
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
def test_detach_is_refused_without_a_journal_and_a_syslog_daemon(host: Host) -> None:
    options = ("--config", "ackd.yaml", "--detach", "--pidfile", "ackd.pid")
    assert host.run(*options, before=without_systemd("")) == (
        1,
        "",
        "ackd: --detach: there is no journal and no /dev/log to record in: start a syslog daemon\n",
    )
