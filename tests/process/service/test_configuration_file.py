"""The configuration file as a thing on the disk: gone, a FIFO, too large, unreadable."""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.daemon_process import COMMAND
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK

# ackd with the file that the test gives as the file at the default path.
_AT_THE_DEFAULT_PATH = """
import sys
from ackd.service import main as daemon
daemon.DEFAULT_PATH = sys.argv[2]
del sys.argv[1:3]
sys.exit(daemon.main())
"""


def test_a_reload_without_the_file_changes_nothing(start: StartDaemon) -> None:
    ackd = start("allow: 127.0.0.1\n", command=(sys.executable, "-c", _AT_THE_DEFAULT_PATH))
    moved = ackd.config.rename(ackd.config.with_suffix(".moved"))
    ackd.signal(signal.SIGHUP)
    assert (
        ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"]
        == (
            f"not reloaded: {ackd.config}: No such file or directory;"
            " an empty file stands for the defaults"
        ).encode()
    )
    moved.rename(ackd.config)
    ackd.signal(signal.SIGHUP)
    assert ackd.journal.next(Kind.RELOADED)
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_a_fifo_as_the_file_does_not_hold_up_clients(start: StartDaemon) -> None:
    ackd = start()
    ackd.config.unlink()
    os.mkfifo(ackd.config)
    ackd.signal(signal.SIGHUP)
    reason = f"not reloaded: {ackd.config}: is not a regular file"
    assert ackd.journal.next(Kind.NOT_RELOADED)["MESSAGE"] == reason.encode()
    with ackd.peer() as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


@pytest.mark.parametrize("options", [("--check-config",), ()])
def test_a_start_with_a_fifo_fails_at_once(tmp_path: Path, options: tuple[str, ...]) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    command = [*COMMAND, *options, "--config", str(fifo)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    assert (done.returncode, done.stderr) == (2, f"ackd: {fifo}: is not a regular file\n")


def check_config(path: Path) -> tuple[int, str, str]:
    command = [*COMMAND, "--check-config", "--config", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def public() -> Iterator[Path]:
    """Return a directory that all users can read; pytest's own can't be read by others."""
    with tempfile.TemporaryDirectory(dir="/var/tmp") as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can read what the service can't")
def test_root_is_warned_of_a_file_that_the_service_can_not_read(public: Path) -> None:
    directory = public / "ackd"
    directory.mkdir(0o755)
    file = directory / "lab.yaml"
    file.write_text("port: 10009\n")
    file.chmod(0o644)
    good = f"ackd: {file}: good\n"
    why = f"ackd: {file}: warning: the service can't read it, because it is another user:"
    assert check_config(file) == (0, good, "")
    file.chmod(0o640)
    assert check_config(file) == (0, good, f"{why} chmod o+rX {file}\n")
    directory.chmod(0o700)
    assert check_config(file) == (0, good, f"{why} chmod o+rX {directory}\n")
    (public / "link.yaml").symlink_to(file)
    assert f"chmod o+rX {directory}\n" in check_config(public / "link.yaml")[2]


def test_an_address_that_no_interface_has_is_a_warning(public: Path) -> None:
    file = public / "ackd.yaml"
    file.write_text("bind: [127.0.0.1, 192.0.2.9, 'fe80::1%no-such', 0.0.0.0]\n")
    assert check_config(file) == (
        0,
        f"ackd: {file}: good\n",
        f"ackd: {file}: warning: bind: 192.0.2.9 is not there yet: no interface has this address\n"
        f"ackd: {file}: warning: bind: fe80::1%no-such is not there yet:"
        " no interface has this address\n",
    )


def test_an_interface_that_does_not_exist_is_an_error_at_the_start() -> None:
    command = [*COMMAND, "--terminal", "--bind", "fe80::1%no-such"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE)
    text = "ackd: can't listen on [fe80::1%no-such]:10008: there is no interface no-such\n"
    assert (done.returncode, done.stderr) == (1, text)


def test_an_address_that_no_interface_has_is_named_in_log_and_status(start: StartDaemon) -> None:
    ackd = start(managed=True)
    assert ackd.manager.wait_for("STATUS=") == (
        "STATUS=clients: 0; payloads: 0 acknowledged, 0 refused"
    )
    ackd.configure(f"bind: [127.0.0.1, 192.0.2.9]\nport: {ackd.port}\n")
    ackd.signal(signal.SIGHUP)
    missing = f"192.0.2.9:{ackd.port}"
    assert ackd.journal.next(Kind.LISTENING)["MESSAGE"].decode() == (
        f"listening on 127.0.0.1:{ackd.port} and"
        f" {missing} (not there yet: no interface has this address)"
    )
    status = ackd.manager.wait_for(f"STATUS={missing}")
    assert status == (
        f"STATUS={missing} is not there yet; clients: 0; payloads: 0 acknowledged, 0 refused"
    )
    ackd.configure(f"bind: 127.0.0.1\nport: {ackd.port}\n")
    ackd.signal(signal.SIGHUP)
    assert ackd.manager.wait_for("STATUS=clients")


def test_a_drain_ends_well_while_an_address_is_not_there(start: StartDaemon) -> None:
    ackd = start(managed=True)
    ackd.configure(f"bind: [127.0.0.1, 192.0.2.9]\nport: {ackd.port}\n")
    ackd.signal(signal.SIGHUP)
    assert ackd.journal.next(Kind.LISTENING)
    ackd.signal(signal.SIGTERM)
    assert ackd.wait() == 0
