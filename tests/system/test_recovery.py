"""What the journal has lost when the power failed is recorded again, and only that."""

import json
import secrets
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ackd.ctl.runs.payloads import Run
from ackd.records import Kind
from tests.support.peer import ACK, Peer

from .support.connections import connect, greeted
from .support.install import BIND, install
from .support.machine import DeadlineError, Machine, wait_until

DISK = f"{BIND}durability: disk\n"
PAYLOADS = f"MESSAGE_ID={Kind.PAYLOAD.value}"
REPEATED = f"MESSAGE_ID={Kind.REPEATED.value}"
# The test says when the machine has been booted: the boot is what this file says.
BOOT_ID = "/root/boot-id"
OTHER_BOOT = f"[Service]\nLoadCredential=boot-id:{BOOT_ID}\n"


@pytest.fixture(scope="module")
def installed(machine: Machine) -> Machine:
    install(machine)
    machine.put("/etc/systemd/system/ackd.service.d/test.conf", OTHER_BOOT)
    return machine


@pytest.fixture
def durable(installed: Machine) -> Iterator[Machine]:
    """A machine whose ackd has a log on the disk, and a journal without entries of ackd."""
    reboot(installed)
    installed.put("/etc/ackd.yaml", BIND)
    installed.run("/usr/share/ackd/durable")
    installed.put("/etc/ackd.yaml", DISK)
    installed.run("systemctl", "start", "ackd")
    yield installed
    installed.run("systemctl", "stop", "ackd")
    installed.run("sh", "-c", "rm -rf /var/lib/private/ackd/*; journalctl --rotate")
    installed.run("sh", "-c", "rm -f /var/log/journal/*/system@*")


def reboot(machine: Machine) -> None:
    """Let the next start of ackd find another boot than the one before."""
    machine.run("sh", "-c", f"cat /proc/sys/kernel/random/uuid >{BOOT_ID}")


def send(machine: Machine, *payloads: bytes) -> None:
    with greeted(machine) as peer:
        peer.send(b"".join(b"%b\n" % payload for payload in payloads))
        peer.expect(ACK * len(payloads))


def numbers(run: Run, first: int, last: int) -> list[bytes]:
    return [run.payload(number) for number in range(first, last + 1)]


def archive(machine: Machine) -> str:
    """Have journald archive its file once it has stored all records; return its path."""

    def sent() -> bool:
        return not machine.run("ackctl", "log", "--lines", "1", check=False).stderr

    wait_until("the records are in the journal", sent)
    machine.run("journalctl", "--sync")
    machine.run("journalctl", "--rotate")
    return machine.run("sh", "-c", "ls -t /var/log/journal/*/system@* | head -n 1").stdout.strip()


def verify(machine: Machine, run: Run) -> dict[str, object]:
    printed = machine.run("ackctl", "verify", run.name, "--json", check=False).stdout
    found: dict[str, object] = json.loads(printed)
    return found


def recovered(machine: Machine) -> list[bytes]:
    """Wait until ackd has recovered, and return what it has logged about that."""
    wait_until("ackd has recovered", lambda: machine.journal(REPEATED))
    return [entry["MESSAGE"] for entry in machine.journal(REPEATED)]


@pytest.mark.parametrize("record", ["each", "batch"])
def test_exactly_what_the_journal_has_lost_is_recorded_again(durable: Machine, record: str) -> None:
    durable.put("/etc/ackd.yaml", f"{DISK}record: {record}\n")
    durable.run("systemctl", "reload", "ackd")
    run = Run()
    send(durable, *numbers(run, 1, 300))
    archive(durable)
    send(durable, *numbers(run, 301, 500))
    lost = archive(durable)
    send(durable, *numbers(run, 501, 700), run.end(700))
    durable.run("journalctl", "--sync")
    assert verify(durable, run)["whole"]
    durable.run("systemctl", "kill", "--signal=KILL", "ackd")
    durable.run("systemctl", "stop", "ackd")
    durable.run("rm", lost)
    reboot(durable)
    durable.run("systemctl", "start", "ackd")
    recovered(durable)
    found = verify(durable, run)
    assert (found["whole"], found["repeated"], found["twice"]) == (True, 200, 0)


def crash(machine: Machine) -> None:
    """End ackd like a power failure, which ackd finds at its next start."""
    machine.run("systemctl", "kill", "--signal=KILL", "ackd")
    machine.run("systemctl", "stop", "ackd")
    reboot(machine)


def test_nothing_is_recorded_again_that_the_journal_has(durable: Machine) -> None:
    run = Run()
    send(durable, *numbers(run, 1, 300), run.end(300))
    archive(durable)
    crash(durable)
    durable.run("systemctl", "start", "ackd")
    (message,) = recovered(durable)
    assert b"the journal lacked 0" in message
    found = verify(durable, run)
    assert (found["whole"], found["repeated"]) == (True, 0)
    crash(durable)  # and once more: nothing is safe yet
    durable.run("systemctl", "start", "ackd")
    wait_until("ackd has recovered again", lambda: len(recovered(durable)) == 2)
    assert verify(durable, run)["repeated"] == 0


# Writes the payloads' entries into the journal once more, as another user.
FORGE = """
import socket
from systemd import journal

entries = list(journal.Reader(converters={"MESSAGE": bytes, "ACKD_SEQUENCE": bytes}))
sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sock.connect("/run/systemd/journal/socket")
for entry in entries:
    if "ACKD_SEQUENCE" in entry:
        entry["MESSAGE_ID"] = entry["MESSAGE_ID"].hex
        fields = {name: value for name, value in entry.items() if not name.startswith("_")}
        sock.send(b"".join(
            name.encode() + b"="
            + (value if isinstance(value, bytes) else str(value).encode()) + b"\\n"
            for name, value in fields.items()
        ))
"""


def test_a_forged_entry_does_not_keep_a_payload_from_being_recorded(durable: Machine) -> None:
    run = Run()
    send(durable, *numbers(run, 1, 100), run.end(100))
    durable.run("journalctl", "--sync")
    nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--groups=systemd-journal")
    lost = archive(durable)
    durable.run(*nobody, "python3", "-c", FORGE)
    durable.run("journalctl", "--sync")
    assert len(durable.journal(PAYLOADS)) == 202
    crash(durable)
    durable.run("rm", lost)
    assert len(durable.journal(PAYLOADS)) == 101
    durable.run("systemctl", "start", "ackd")
    recovered(durable)
    found = verify(durable, run)
    assert (found["whole"], found["repeated"]) == (True, 101)


# Writes zeros over pages of a file: each page behind the first hundredth has been lost with some
# probability, as if the power had failed before they reached the disk.
LOSE_PAGES = """
import os, random, sys

path, seed = sys.argv[1:]
chance = random.Random(seed)
share = chance.random()
with open(path, "r+b") as file:
    pages = os.fstat(file.fileno()).st_size // 4096
    for page in range(pages // 100 + 1, pages):
        if chance.random() < share:
            os.pwrite(file.fileno(), bytes(4096), 4096 * page)
"""


def test_any_pages_of_the_journals_file_can_be_lost(durable: Machine) -> None:
    seed = secrets.token_hex(4)
    run = Run()
    for first in range(1, 2000, 100):
        send(durable, *numbers(run, first, first + 99))
    send(durable, run.end(2000))
    damaged = archive(durable)
    for attempt in range(4):
        crash(durable)
        durable.python(LOSE_PAGES, damaged, f"{seed}-{attempt}")
        durable.run("systemctl", "start", "ackd")
        wait_until("ackd has recovered", lambda: len(recovered(durable)) > attempt)  # noqa: B023
        found = verify(durable, run)
        assert (found["whole"], found["missing"]) == (True, 0), f"{seed=}, {attempt=}"
        damaged = archive(durable)


def test_a_crash_during_the_recovery_loses_nothing(durable: Machine) -> None:
    run = Run()
    for first in range(1, 20_000, 1000):
        send(durable, *numbers(run, first, first + 999))
    send(durable, run.end(20_000))
    lost = archive(durable)
    crash(durable)
    durable.run("rm", lost)
    for _ in range(3):
        durable.run("systemctl", "start", "ackd")
        durable.run("systemctl", "kill", "--signal=KILL", "ackd")
        durable.run("systemctl", "stop", "ackd")
    durable.run("systemctl", "start", "ackd")
    with greeted(durable) as peer:  # clients are served meanwhile
        peer.send(b"hello\n")
        peer.expect(ACK)
    recovered(durable)
    found = verify(durable, run)
    assert (found["whole"], found["missing"]) == (True, 0)


def test_without_the_right_to_read_the_journal_all_is_recorded_again(durable: Machine) -> None:
    run = Run()
    send(durable, *numbers(run, 1, 100), run.end(100))
    archive(durable)
    crash(durable)
    durable.run("sh", "-c", "chmod 0700 /var/log/journal/*")
    durable.run("systemctl", "start", "ackd")
    recovered(durable)
    durable.run("sh", "-c", "chmod 2755 /var/log/journal/*")
    (message,) = (
        entry["MESSAGE"] for entry in durable.journal("-u", "ackd", "--grep=no right to read")
    )
    assert message.startswith(b"records are repeated that may not be lost: ")
    found = verify(durable, run)
    assert (found["whole"], found["repeated"]) == (True, 101)


# Prints the log's cursor `safe`, from the end of the control block, and how many records there are.
CURSORS = """
from pathlib import Path
from struct import calcsize, unpack_from

control = Path("/var/lib/ackd/control").read_bytes()
print(*unpack_from("=QQQ", control, calcsize("=8sII16s")))
"""


def cursors(machine: Machine) -> list[int]:
    """Return the log's cursors `sent`, `read` and `safe`."""
    return [int(number) for number in machine.python(CURSORS).stdout.split()]


def test_the_log_keeps_records_until_journald_has_archived_them(durable: Machine) -> None:
    durable.run("sh", "-c", f"cat /proc/sys/kernel/random/boot_id >{BOOT_ID}")
    durable.run("systemctl", "restart", "ackd")
    run = Run()
    send(durable, *numbers(run, 1, 100), run.end(100))
    _, read, safe = wait_until("journald has read all", lambda: all_read(durable))
    assert safe < read
    # The file of which ackd knows that it has the records may be the next one.
    for _ in range(2):
        archive(durable)
        with suppress(DeadlineError):
            wait_until("the records are safe", lambda: cursors(durable)[2] >= read, timeout=25)
    assert cursors(durable)[2] >= read


def all_read(machine: Machine) -> list[int]:
    sent, read, safe = cursors(machine)
    return [sent, read, safe] if sent == read >= 101 else []


def test_payloads_are_refused_while_the_journal_is_in_memory(durable: Machine) -> None:
    def reply(peer: Peer) -> bytes:
        peer.send(b"hello\n")
        line = b""
        while not line.endswith(b"\n"):
            line += peer.socket.recv(4096)
        return line

    try:
        with greeted(durable) as peer:
            durable.run("journalctl", "--relinquish-var")
            reason = wait_until(
                "payloads are refused", lambda: reply(peer).removeprefix(ACK), timeout=30
            )
            text = b"not received: the journal does not store payloads on the disk: it is /run/log/"
            assert reason.startswith(text)
            with connect(durable) as other:
                other.expect(reason.replace(b"not received", b"not connect"))
            durable.run("journalctl", "--flush")
            wait_until("payloads are acknowledged", lambda: reply(peer) == ACK, timeout=30)
    finally:
        durable.run("journalctl", "--flush")


def test_verify_says_that_records_can_be_on_their_way(durable: Machine) -> None:
    run = Run()
    durable.run("systemctl", "kill", "--signal=STOP", "systemd-journald")
    try:
        for first in range(1, 10_000, 1000):
            send(durable, *numbers(run, first, first + 999))
        send(durable, run.end(10_000))
        done = durable.run("ackctl", "verify", run.name, check=False)
        assert done.returncode == 6
        assert done.stderr == (
            "ackctl: records may still be on their way:"
            " see `systemctl status ackd`, and try again\n"
        )
    finally:
        durable.run("systemctl", "kill", "--signal=CONT", "systemd-journald")
    done = durable.run("ackctl", "verify", run.name)  # it waits for them
    assert (done.returncode, done.stderr) == (0, "")
