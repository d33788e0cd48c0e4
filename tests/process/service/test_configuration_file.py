"""The configuration file as a thing on the disk: gone, a FIFO, too large, unreadable."""

import os
import signal
import subprocess
import sys
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
