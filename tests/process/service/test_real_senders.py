"""Programs that people really use as senders; see also tests/system/test_log_daemons.py."""

import fcntl
import logging
import logging.handlers
import os
import shutil
import socket
import subprocess
import sys
import termios
from time import monotonic

import pytest

from ackd.records import Kind
from tests.conftest import StartDaemon
from tests.support.daemon_process import Daemon
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING

LINES = [b"line %d" % number for number in range(1000)]

PHP = r"""
$s = fsockopen($argv[1], (int) $argv[2]);
for ($i = 0; $i < 1000; $i++) { fwrite($s, "line $i\r\n"); }
fclose($s);
"""


def path_of(program: str) -> str:
    """Return the path of a program; skip the test if it is not installed."""
    found = shutil.which(program, path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        pytest.skip(f"needs {program}")
    return found


def run(program: str, *arguments: object, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    """Run a sender to its end."""
    command = [path_of(program), *map(str, arguments)]
    return subprocess.run(command, input=data, capture_output=True, timeout=DEADLINE)


@pytest.mark.parametrize("record", ["each", "batch"])
def test_php_that_closes_without_reading(start: StartDaemon, record: str) -> None:
    # PHP's kernel holds small writes back (Nagle), and drops them when PHP closes with replies
    # unread. With `greeting` and `ack` empty nothing is unread, and all lines arrive.
    ackd = start(f"record: {record}\n")
    run("php", "-r", PHP, "127.0.0.1", ackd.port)
    closed = ackd.journal.next(Kind.CLOSED)
    arrived = (b"\r\n".join(LINES) + b"\r\n")[: int(closed["ACKD_BYTES"])].count(b"\n")
    assert int(closed["ACKD_PAYLOADS"]) == arrived
    assert ackd.journal.payloads(arrived) == LINES[:arrived]
    assert arrived == len(LINES) or b"may have dropped lines" in closed["MESSAGE"]


def test_php_that_is_sent_nothing(start: StartDaemon) -> None:
    ackd = start('greeting: ""\nack: ""\n')
    run("php", "-r", PHP, "127.0.0.1", ackd.port)
    assert ackd.journal.payloads(1000) == LINES
    assert ackd.journal.next(Kind.CLOSED)["ACKD_REASON"] == b"the client closed it"


def test_nc_reads_all_acks(start: StartDaemon) -> None:
    ackd = start()
    done = run("nc", "-N", "127.0.0.1", ackd.port, data=b"\n".join(LINES) + b"\n")
    assert done.stdout == GREETING + ACK * 1000
    assert ackd.journal.payloads(1000) == LINES


def test_socat_that_reads_replies(start: StartDaemon) -> None:
    ackd = start()
    run("socat", "-", f"TCP:127.0.0.1:{ackd.port}", data=b"\n".join(LINES) + b"\n")
    assert ackd.journal.payloads(1000) == LINES


def test_socat_that_is_sent_nothing(start: StartDaemon) -> None:
    ackd = start('greeting: ""\nack: ""\n')
    run("socat", "-u", "-", f"TCP:127.0.0.1:{ackd.port}", data=b"\n".join(LINES) + b"\n")
    assert ackd.journal.payloads(1000) == LINES


def send_by_syslog_handler(ackd: Daemon, append_nul: bool) -> None:
    """Log three messages over TCP; each ends in NUL, as Python does it, or in LF."""
    handler = logging.handlers.SysLogHandler(("127.0.0.1", ackd.port), socktype=socket.SOCK_STREAM)
    handler.append_nul = append_nul
    handler.setFormatter(logging.Formatter("%(message)s" if append_nul else "%(message)s\n"))
    for number in range(3):
        handler.emit(logging.makeLogRecord({"msg": f"message {number}", "levelno": 20}))
    # Once the greeting has arrived, close() is a reset: the handler never reads. The kernel then
    # drops all messages that it has not sent yet.
    connected: socket.socket = vars(handler)["socket"]
    assert connected.recv(1, socket.MSG_PEEK)
    wait_until_sent(connected)
    handler.close()


def wait_until_sent(connected: socket.socket) -> None:
    """Wait until the other host has received all bytes: SIOCOUTQ in tcp(7)."""
    end = monotonic() + DEADLINE
    while int.from_bytes(fcntl.ioctl(connected, termios.TIOCOUTQ, bytes(4)), sys.byteorder):
        assert monotonic() < end


def test_pythons_syslog_handler_ends_its_messages_in_nul(start: StartDaemon) -> None:
    ackd = start()
    send_by_syslog_handler(ackd, append_nul=True)
    closed = ackd.journal.next(Kind.CLOSED)
    assert closed["ACKD_PAYLOADS"] == b"0"
    assert (closed["ACKD_UNENDED"], closed["ACKD_UNENDED_HOLDS"]) == (b"42", b"NUL")
    assert closed["MESSAGE"].endswith(
        b"not recorded: 42 bytes without an end of line, which hold NUL"
    )


def test_pythons_syslog_handler_that_ends_its_messages_in_lf(start: StartDaemon) -> None:
    ackd = start()
    send_by_syslog_handler(ackd, append_nul=False)
    assert ackd.journal.payloads(3) == [b"<12>message %d" % number for number in range(3)]
