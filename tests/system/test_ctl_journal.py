"""`ackctl verify` and `ackctl log` on a server, with complete runs, faults and forged records."""

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from datetime import datetime

import pytest

from ackd.ctl.runs.payloads import Run
from ackd.journal.entry import JournalFormat
from ackd.records import Kind, Origin
from tests.support.peer import ACK

from .support.connections import connect, greeted
from .support.install import BIND
from .support.machine import (
    CLIENT_ADDRESS,
    MACHINE_ADDRESS,
    Machine,
    Process,
    succeed,
    unit_setting,
    wait_until,
)

OWN_JOURNAL = "/usr/share/ackd/own-journal"
SOCKETS = ("systemd-journald.socket", "systemd-journald-dev-log.socket")

Ended = tuple[int, str, str]  # exit status, standard output, standard error


@pytest.fixture
def without_own_journal(server: Machine) -> Iterator[Machine]:
    """A machine with only the system's journal; at the end its own journal is removed."""
    yield server
    server.run(OWN_JOURNAL, "--undo")
    server.run("systemctl", "stop", "systemd-journald@ackd.socket", "systemd-journald@ackd")
    server.run("sh", "-c", "rm -r /var/log/journal/*.ackd")


@pytest.fixture
def run() -> Run:
    return Run()


def send(machine: Machine, *payloads: bytes) -> None:
    """Send payloads from the client host on one connection, and wait for their acks."""
    with greeted(machine) as peer:
        peer.send(b"".join(b"%b\n" % payload for payload in payloads))
        peer.expect(ACK * len(payloads))


def numbers(run: Run, *wanted: int) -> list[bytes]:
    return [run.payload(number) for number in wanted]


def ackctl(machine: Machine, *arguments: str, before: tuple[str, ...] = ()) -> Ended:
    done = machine.run(*before, "ackctl", *arguments, check=False)
    return done.returncode, done.stdout, done.stderr


def verify(machine: Machine, run: Run, *options: str) -> Ended:
    """Run `ackctl verify`; replace the times in its output."""
    status, out, err = ackctl(machine, "verify", run.name, *options)
    return status, re.sub(r"(?m)\d{4}-\d\d-\d\d .* to .*$", "TIMES", out), err


def faults(machine: Machine, run: Run, *options: str) -> dict[str, object]:
    """Return the faults of a run that is not whole, from the JSON of `ackctl verify`."""
    status, out, _ = ackctl(machine, "verify", run.name, "--json", *options)
    printed = json.loads(out)
    names = ("missing_numbers", "twice_numbers", "out_of_order", "altered", "lost")
    doubts = ("not_believed", "without_unit")
    found = {name: printed[name] for name in (*names, *doubts) if printed[name]}
    assert (status, printed["status"], printed["whole"]) == (6, 6, False)
    return found if printed["sent"] is not None else found | {"end": False}


def rotate(machine: Machine) -> str:
    """Make journald begin a new file; return the path of the file before."""

    def archived() -> set[str]:
        # The records of ordinary users are in files of their own.
        found = machine.run(
            "find", "/var/log/journal", "-name", "system*.journal", "-printf", "%f\\n"
        )
        return set(found.stdout.split())

    machine.run("journalctl", "--sync")
    there = archived()
    machine.run("journalctl", "--rotate")
    (new,) = archived() - there
    return machine.run("find", "/var/log/journal", "-name", new).stdout.strip()


# Verify: complete runs, and faults


def test_a_run_is_whole(server: Machine, run: Run) -> None:
    send(server, *numbers(run, *range(1, 101)), run.end(100))
    printed = f"""\
run {run.name}: whole
from {CLIENT_ADDRESS} in 1 connection, TIMES
    100  sent
    100  recorded
      0  missing
      0  twice
      0  out of order
      0  altered
"""
    assert verify(server, run) == (0, printed, "")


def test_verify_reports_each_kind_of_fault(server: Machine, run: Run) -> None:
    altered = run.payload(9).replace(b"number=9", b"number=8")
    send(server, *numbers(run, 1, 2, 5, 4, 7, 7), altered, run.end(12))
    printed = f"""\
run {run.name}: not whole
from {CLIENT_ADDRESS} in 1 connection, TIMES
     12  sent
      5  recorded
      7  missing: 3, 6, 8-12
      1  twice: 7
      1  out of order
      1  altered
"""
    assert verify(server, run) == (6, printed, "")


def test_a_run_without_payloads_is_not_whole(server: Machine, run: Run) -> None:
    printed = f"run {run.name}: not whole: there is nothing of it in the journal\n"
    assert verify(server, run) == (6, printed, "")


def test_a_run_without_its_end_is_not_whole(server: Machine, run: Run) -> None:
    send(server, *numbers(run, 1, 2))
    assert faults(server, run) == {"end": False}


def test_verify_checks_the_order_of_each_connection(server: Machine, run: Run) -> None:
    with greeted(server) as one, greeted(server) as two:
        for peer, number in ((one, 2), (two, 1), (one, 3), (two, 4)):
            peer.send(run.payload(number) + b"\n")
            peer.expect(ACK)
        two.send(run.end(4) + b"\n")
        two.expect(ACK)
    status, out, _ = ackctl(server, "verify", run.name, "--json")
    assert (status, json.loads(out)["connections"]) == (0, 2)


def test_verify_and_log_read_records_of_several_payloads(server: Machine, run: Run) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}record: batch\n")
    server.run("systemctl", "reload", "ackd")
    send(server, *numbers(run, *range(1, 1001)), run.end(1000), b"not of the run")
    assert faults(server, run) == {"altered": 1}
    assert lines(server, "-n", "2") == [
        f"{CLIENT_ADDRESS} #1001: {run.end(1000).decode()}",
        f"{CLIENT_ADDRESS} #1002: not of the run",
    ]


def test_verify_reads_payloads_of_the_largest_size(server: Machine, run: Run) -> None:
    server.put("/etc/ackd.yaml", f"{BIND}max_payload: 131072\n")
    server.run("systemctl", "reload", "ackd")
    send(server, run.payload(1, 131072), run.payload(2, 131072), run.end(2))
    assert verify(server, run)[0] == 0


def test_removed_records_are_missing_and_lost(server: Machine, run: Run) -> None:
    with greeted(server) as peer:
        for number in range(1, 4):
            peer.send(run.payload(number) + b"\n")
            peer.expect(ACK)
            before = rotate(server)
            if number == 2:
                server.run("rm", before)
        peer.send(run.end(3) + b"\n")
        peer.expect(ACK)
    assert faults(server, run) == {"missing_numbers": [[2, 2]], "lost": 1}
    assert "      1  lost: acknowledged, and not in the journal\n" in verify(server, run)[1]


def test_payloads_that_ackd_has_repeated_are_no_fault(server: Machine, run: Run) -> None:
    journald = server.pid_of("systemd-journald")
    with greeted(server) as peer:
        server.run("sh", "-c", f"kill -STOP {journald}")
        peer.send(b"".join(payload + b"\n" for payload in (*numbers(run, 1, 2, 3), run.end(3))))
        peer.expect(ACK * 4)
        # ackd is frozen: it must not notice the kill before another journald has read the queue.
        ackd = server.pid_of("ackd")
        forget_starts(server)
        server.run("sh", "-c", f"kill -STOP {ackd} && kill -KILL {journald}")
        wait_until("the payloads are recorded", lambda: in_journal(server, run))
        succeed(server, "restart", *SOCKETS)
        server.run("sh", "-c", f"kill -CONT {ackd}")
        wait_until("ackd repeats them", lambda: in_journal(server, run, "ACKD_REPEATED=1"))
    status, out, _ = verify(server, run)
    assert status == 0
    assert re.search(r"\n      \d+  repeated by ackd, which is no fault\n", out)


def in_journal(machine: Machine, run: Run, *fields: str) -> bool:
    payloads = (f"MESSAGE_ID={Kind.PAYLOAD.value}", *fields)
    # Without `--sync`, which needs a running journald.
    return run.name in machine.run("journalctl", "--output=cat", *payloads).stdout


def test_no_line_of_a_client_ends_verify(server: Machine, run: Run) -> None:
    highest = 10**18 - 1
    hostile = (run.payload(highest), b"run=" * 16000, b"ackctl run=%b number=" % run.name.encode())
    send(server, *numbers(run, 1), run.end(1))
    send(server, *hostile, hostile[-1] + b"9" * 60000, b"\xff" * 1000 + run.payload(1))
    status, out, err = verify(server, run)
    assert (status, err) == (6, "")
    assert f"      1  beyond the end: {highest}: is it one run?\n" in out
    send(server, run.end(highest))
    assert faults(server, run)["missing_numbers"] == [[2, highest - 1]]


def send_from_the_server(machine: Machine, payload: bytes) -> None:
    machine.run("ackctl", "send", "--host", MACHINE_ADDRESS, payload.decode())


def test_a_number_that_another_host_has_sent_is_reported(server: Machine, run: Run) -> None:
    send(server, *numbers(run, 1, 3), run.end(3))
    send_from_the_server(server, run.payload(2))
    status, out, _ = verify(server, run)
    senders = f"{MACHINE_ADDRESS} sent 1: 2; {CLIENT_ADDRESS} sent 2: 1, 3"
    assert (status, out.splitlines()[-1]) == (0, f"      2  senders: {senders}")


def test_nobody_without_the_key_can_send_a_number(server: Machine, run: Run) -> None:
    server.put("/root/key", "0123456789abcdef\n", 0o600)
    keyed = Run(run.name, b"0123456789abcdef")
    send(server, *numbers(keyed, 1, 3), keyed.end(3))
    send_from_the_server(server, run.payload(2))
    assert faults(server, run, "--key", "/root/key") == {"missing_numbers": [[2, 2]]}
    assert verify(server, run, "--key", "/root/key")[1].endswith(
        "      1  made without this key, and not counted above\n"
    )
    send(server, keyed.payload(2))
    assert verify(server, run, "--key", "/root/key")[0] == 0


# Forged records


_FORGER = """
import sys
from systemd import journal
for sequence, payload in enumerate(sys.argv[2:], 1):
    journal.send(
        f"Buffer: {payload}", MESSAGE_ID=sys.argv[1], ACKD_PEER="192.0.2.7", ACKD_PEER_PORT="7",
        ACKD_LISTENER="forged", ACKD_CONNECTION="forged-1", ACKD_SEQUENCE=str(sequence),
    )
"""


def forge(machine: Machine, *payloads: bytes, settings: tuple[str, ...] = ()) -> None:
    """Write records with the fields of ackd from another service with these settings."""
    properties = [f"--property={setting}" for setting in settings]
    service = ("systemd-run", "--wait", "--quiet", "--unit=forger", *properties)
    words = (Kind.PAYLOAD.value, *(payload.decode() for payload in payloads))
    machine.run(*service, "python3", "-c", _FORGER, *words)


def test_records_of_another_unit_are_not_believed(server: Machine, run: Run) -> None:
    send(server, *numbers(run, 1))
    forge(server, *numbers(run, 2), run.end(2))
    server.run("journalctl", "--sync")
    assert faults(server, run) == {"not_believed": 2, "end": False}
    reason = "not believed: another unit than ackd's has written them; see --unit\n"
    assert verify(server, run)[1].endswith(f"      2  {reason}")
    assert "forged" not in ackctl(server, "log", "--json")[1]
    status, out, err = ackctl(server, "log", "--peer", "192.0.2.7")
    assert (status, out) == (0, "")
    assert re.fullmatch(rf"ackctl: nothing to show, but \d+ {reason}", err)
    assert verify(server, run, "--unit", "*.service")[0] == 0
    assert faults(server, run, "--unit", "forger.service")["missing_numbers"] == [[1, 1]]


def test_records_of_other_instances_are_believed(server: Machine, run: Run) -> None:
    server.put("/etc/ackd/north.yaml", f"{BIND}port: 10009\ngreeting: ''\n")
    server.run("systemctl", "start", "ackd@north")
    with connect(server, port=10009) as peer:
        peer.send(run.payload(1) + b"\n" + run.end(1) + b"\n")
        peer.expect(ACK * 2)
    server.run("systemctl", "stop", "ackd@north")
    assert verify(server, run)[0] == 0
    server.run("journalctl", "--sync")
    shown = ackctl(server, "log", "--lines", "1")[1]
    assert re.search(rf" port \d+ to ackd@north #2: {run.end(1).decode()}\n", shown)
    assert run.name not in ackctl(server, "log", "--no-runs", "--since", "-5min")[1]


@pytest.mark.parametrize("end", [("kill", "--signal=KILL"), ("stop",), ("restart",)])
def test_records_that_journald_reads_after_the_end_of_ackd_are_believed(
    server: Machine, run: Run, end: tuple[str, ...]
) -> None:
    journald, ackd = server.pid_of("systemd-journald"), server.pid_of("ackd")
    with greeted(server) as peer:
        server.run("sh", "-c", f"kill -STOP {journald}")
        peer.send(b"".join(payload + b"\n" for payload in (*numbers(run, 1, 2, 3), run.end(3))))
        peer.expect(ACK * 4)
        server.run("systemctl", *end, "ackd")
        wait_until("ackd has ended", lambda: not exists(server, ackd))
        forget_starts(server)
        server.run("sh", "-c", f"kill -KILL {journald}")
    wait_until("another journald has read the queue", lambda: synced(server), 60)
    assert () in units(server, run)  # the next ackd may have recorded them again as well
    assert verify(server, run)[0] == 0
    assert f"{CLIENT_ADDRESS} #4: {run.end(3).decode()}" in lines(server)


@pytest.fixture
def journald_starts_once(server: Machine) -> Iterator[Machine]:
    """A machine that does not start journald again after a kill."""
    setting = "/run/systemd/system/systemd-journald.service.d/limit.conf"
    server.put(setting, "[Unit]\nStartLimitIntervalSec=1h\nStartLimitBurst=1\n")
    server.run("systemctl", "daemon-reload")
    forget_starts(server)
    succeed(server, "restart", "systemd-journald")
    yield server
    server.run("rm", setting)
    server.run("systemctl", "daemon-reload")
    forget_starts(server)
    succeed(server, "restart", *SOCKETS)


@pytest.fixture
def ackd_starts_late(server: Machine) -> Iterator[None]:
    """An ackd that has crashed is only started after a minute; a frozen one is soon killed."""
    with unit_setting(server, "ackd", "[Service]\nRestartSec=60\nTimeoutStopSec=2\n"):
        yield


# The ways in which an administrator stops ackd, or what is left of it. Each has systemd discard the
# descriptors that ackd has stored.
KILL = "kill -KILL $(systemctl show --value --property=MainPID ackd)"
STOPS = {
    "a stop": "systemctl stop ackd",
    "a stop while ackd restarts": "systemctl restart --no-block ackd; systemctl stop ackd",
    "a stop after a crash": f"{KILL}; systemctl stop ackd",
    "a stop of a frozen ackd": "systemctl kill -s STOP ackd; systemctl stop ackd",
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS.keys())
@pytest.mark.usefixtures("ackd_starts_late")
def test_records_outlive_ackd_and_a_journald_that_is_not_started_again(
    journald_starts_once: Machine, run: Run, stop: str
) -> None:
    server = journald_starts_once
    journald, ackd = server.pid_of("systemd-journald"), server.pid_of("ackd")
    with greeted(server) as peer:
        server.run("sh", "-c", f"kill -STOP {journald}")
        peer.send(b"".join(payload + b"\n" for payload in (*numbers(run, 1, 2, 3), run.end(3))))
        peer.expect(ACK * 4)
        server.run("sh", "-c", stop)
        wait_until("ackd has ended", lambda: not exists(server, ackd))
        server.run("sh", "-c", f"kill -KILL {journald}")
    failed = ("systemctl", "is-failed", "systemd-journald.socket")
    wait_until("the socket is closed", lambda: server.run(*failed, check=False).returncode == 0)
    forget_starts(server)
    succeed(server, "restart", *SOCKETS)
    server.run("systemctl", "start", "ackd")
    wait_until("journald runs", lambda: synced(server))
    assert verify(server, run)[0] == 0


ENDED = (
    "not believed: their process had no unit, or had ended before journald read them; see --unit\n"
)


@pytest.mark.parametrize("user", ["DynamicUser=yes", "User=nobody", "User=root"])
def test_records_of_a_process_that_ends_before_journald_reads_them_are_not_believed(
    server: Machine, run: Run, user: str
) -> None:
    send(server, *numbers(run, 1))
    forge_and_end(server, user, *numbers(run, 2), run.end(2))
    assert units(server, run) == {(b"ackd.service",), ()}
    assert faults(server, run) == {"not_believed": 2, "without_unit": 2, "end": False}
    assert verify(server, run)[1].endswith(f"      2  {ENDED}")
    assert "forged" not in ackctl(server, "log", "--json")[1]
    status, out, err = ackctl(server, "log", "--peer", "192.0.2.7")
    assert (status, out) == (0, "")
    assert err.endswith(ENDED)
    assert verify(server, run, "--unit", "*")[0] == 0


_RECYCLER = """
import ctypes, os, signal, socket, sys
user, pid, record = int(sys.argv[1]), int(sys.argv[2]), sys.stdin.buffer.read()
sender = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
sender.connect("/run/systemd/journal/socket")
NAMES = "flags pidfd child_tid parent_tid exit_signal stack stack_size tls set_tid set_tid_size"
class Arguments(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in NAMES.split()]
numbers = (ctypes.c_int * 1)(pid)
arguments = Arguments(
    exit_signal=signal.SIGCHLD, set_tid=ctypes.addressof(numbers), set_tid_size=1
)
CLONE3 = 435
libc = ctypes.CDLL(None, use_errno=True)
child = libc.syscall(CLONE3, ctypes.byref(arguments), ctypes.sizeof(arguments))
if child == 0:
    os.setuid(user)
    os._exit(sender.send(record) != len(record))
assert child == pid, ctypes.get_errno()
assert os.waitpid(child, 0) == (pid, 0)
"""
ORDINARY_USER = 1000
OTHER_DYNAMIC_USER = 61500
UNUSED_NUMBER = 31000
# An ordinary user gets the number of an ackd that has ended by starting processes until they have
# gone once around; clone3(2) gives it at once, but only to root.


def forge_with_number(machine: Machine, pid: int, user: int, payload: bytes) -> None:
    """Write a record with the fields of ackd from a process with this number, and end it."""
    entry = JournalFormat()
    origin = Origin(CLIENT_ADDRESS, 40000, f"{MACHINE_ADDRESS}:10008", "forged-1")
    record = entry.payload(entry.prefix(origin), 1, payload)
    journald = machine.pid_of("systemd-journald")
    machine.run("sh", "-c", f"kill -STOP {journald}")
    machine.python(_RECYCLER, str(user), str(pid), input=record)
    machine.run("sh", "-c", f"kill -CONT {journald}")


def forge_with_units_number(machine: Machine, user: int, payload: bytes) -> bool:
    """Write a record from a process with the number of an ackd that has ended.

    Return whether journald takes the record for one of ackd's unit.
    """
    ended = machine.pid_of("ackd")
    machine.run("systemctl", "restart", "ackd")
    wait_until("ackd has ended", lambda: not exists(machine, ended))
    forge_with_number(machine, ended, user, payload)
    *_, forged = machine.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}", "ACKD_CONNECTION=forged-1")
    return forged.all("_SYSTEMD_UNIT") == (b"ackd.service",)


@pytest.mark.parametrize("user", [ORDINARY_USER, OTHER_DYNAMIC_USER])
def test_records_of_a_process_with_the_number_of_an_ackd_that_has_ended_are_not_believed(
    server: Machine, run: Run, user: int
) -> None:
    send(server, *numbers(run, 1, 2, 4), run.end(4))
    without_unit = 0
    # journald forgets from time to time the units of all processes that have ended.
    while not forge_with_units_number(server, user, run.payload(3)):
        without_unit += 1
        assert without_unit < 10
    found = {"missing_numbers": [[3, 3]], "not_believed": without_unit + 1}
    assert faults(server, run) == found | ({"without_unit": without_unit} if without_unit else {})
    reason = "not believed: another user than that of ackd's unit has written them; see --unit"
    assert f"      1  {reason}\n" in verify(server, run)[1]
    assert "forged" not in ackctl(server, "log", "--json")[1]
    # The forged record does not make the forger a user of ackd's unit.
    forge_with_number(server, UNUSED_NUMBER, user, run.payload(3))
    found |= {"not_believed": without_unit + 2, "without_unit": without_unit + 1}
    assert faults(server, run) == found
    assert "missing_numbers" not in faults(server, run, "--unit", "*")


@pytest.fixture
def shared_user(server: Machine) -> Iterator[Machine]:
    """A machine whose ackd runs as a user that other services share."""
    setting = "/etc/systemd/system/ackd.service.d/user.conf"
    server.put(setting, "[Service]\nDynamicUser=no\nUser=daemon\n")
    server.run("systemctl", "daemon-reload")
    server.run("systemctl", "restart", "ackd")
    yield server
    server.run("rm", setting)
    server.run("systemctl", "daemon-reload")


def test_records_without_a_unit_are_not_believed_if_services_share_ackds_user(
    shared_user: Machine, run: Run
) -> None:
    send(shared_user, *numbers(run, 1))
    forge_and_end(shared_user, "User=daemon", *numbers(run, 2), run.end(2))
    assert faults(shared_user, run) == {"not_believed": 2, "without_unit": 2, "end": False}


def forge_and_end(machine: Machine, user: str, *payloads: bytes) -> None:
    """Write records with the fields of ackd, and end before journald reads them."""
    journald = machine.pid_of("systemd-journald")
    machine.run("sh", "-c", f"kill -STOP {journald}")
    # Without output streams, from which journald would know the unit.
    settings = (user, "StandardOutput=null", "StandardError=null")
    forge(machine, *payloads, settings=settings)
    machine.run("sh", "-c", f"kill -CONT {journald}")


def forget_starts(machine: Machine) -> None:
    """Let systemd start journald again however often the tests have killed it.

    After five starts in ten seconds systemd gives up journald and closes its sockets; what is in
    their queues is lost.
    """
    machine.run("systemctl", "reset-failed", "systemd-journald.service", *SOCKETS, check=False)


def synced(machine: Machine) -> bool:
    """Start journald, and return whether it has read its queue."""
    command = ("sh", "-c", "systemctl start systemd-journald && journalctl --sync")
    return machine.run(*command, check=False).returncode == 0


def exists(machine: Machine, pid: int) -> bool:
    return machine.run("sh", "-c", f"kill -0 {pid}", check=False).returncode == 0


def units(machine: Machine, run: Run) -> set[tuple[bytes, ...]]:
    """Return the units that journald recorded for the run's payloads; () for no unit."""
    return {
        entry.all("_SYSTEMD_UNIT")
        for entry in machine.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}")
        if run.name.encode() in entry["MESSAGE"]
    }


# The choice of the journal, and the right to read it


def test_verify_reads_the_own_journal_too(without_own_journal: Machine, run: Run) -> None:
    none = (2, "", "ackctl: there is no journal of a namespace 'ackd' on this host\n")
    assert verify(without_own_journal, run, "--namespace", "ackd") == none
    with greeted(without_own_journal) as peer:
        peer.send(run.payload(1) + b"\n")
        peer.expect(ACK)
        without_own_journal.run(OWN_JOURNAL)
        peer.send(run.payload(2) + b"\n" + run.end(2) + b"\n")
        peer.expect(ACK * 2)
    assert verify(without_own_journal, run)[0] == 0
    assert faults(without_own_journal, run, "--namespace", "ackd") == {"missing_numbers": [[1, 1]]}


NOBODY = ("setpriv", "--reuid=nobody", "--regid=nogroup")
REMEDY = "be root, or join the group systemd-journal and log in again"


@pytest.mark.parametrize("command", [("verify", "1a2b3c4d"), ("log",), ("log", "--follow")])
def test_a_user_without_the_right_to_read_the_journal_gets_the_remedy(
    server: Machine, command: tuple[str, ...]
) -> None:
    status, out, err = ackctl(server, *command, before=(*NOBODY, "--clear-groups"))
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"ackctl: no right to read /var/log/journal/.*\.journal: {REMEDY}\n", err)


def test_a_member_of_the_group_systemd_journal_can_verify(server: Machine, run: Run) -> None:
    send(server, *numbers(run, 1), run.end(1))
    server.run("journalctl", "--sync")
    member = (*NOBODY, "--groups=systemd-journal")
    assert ackctl(server, "verify", run.name, before=member)[0] == 0


def test_log_reports_a_missing_journal(server: Machine) -> None:
    hidden = "mount -t tmpfs none /var/log/journal && mount -t tmpfs none /run/log/journal"
    before = ("unshare", "--mount", "sh", "-c", f'{hidden} && exec "$@"', "sh")
    none = (2, "", "ackctl: there is no journal on this host\n")
    assert ackctl(server, "log", before=before) == none


# Log


def lines(machine: Machine, *options: str) -> list[str]:
    """Return the lines that `ackctl log` prints, without times and ports."""
    machine.run("journalctl", "--sync")
    status, out, err = ackctl(machine, "log", *options)
    assert (status, err) == (0, "")
    return [without_time(line) for line in out.splitlines()]


def without_time(line: str) -> str:
    whole = re.fullmatch(r"[\d-]{10} [\d:]{8}\.\d{3} ([\d.:a-f]+) port \d+(?: to \S+)? (#.*)", line)
    assert whole, line
    return f"{whole[1]} {whole[2]}"


def test_log_shows_the_address_number_and_payload(server: Machine) -> None:
    send(server, b"hello", b"\x1b[31mred \\ \xff")
    assert lines(server, "--lines", "2") == [
        f"{CLIENT_ADDRESS} #1: hello",
        f"{CLIENT_ADDRESS} #2: \\x1b[31mred \\\\ \\xff",
    ]


def test_log_shows_only_payloads_of_one_address(server: Machine, run: Run) -> None:
    send(server, b"from the client")
    here = ("ackctl", "send", "--host", MACHINE_ADDRESS, f"from here {run.name}")
    server.run(*here)
    send(server, b"from the client")
    assert (
        lines(server, "--peer", MACHINE_ADDRESS)[-1]
        == f"{MACHINE_ADDRESS} #1: from here {run.name}"
    )
    assert lines(server, "-n", "1", "--peer", f"::ffff:{MACHINE_ADDRESS}")[0].endswith(run.name)
    assert lines(server, "--peer", "192.0.2.1") == []


def test_log_shows_only_payloads_since_a_time(server: Machine) -> None:
    send(server, b"before")
    server.run("journalctl", "--sync")
    before = json.loads(ackctl(server, "log", "-n", "1", "--json")[1].splitlines()[0])
    then = datetime.fromisoformat(before["time"]).timestamp() + 0.001
    send(server, b"after")
    assert lines(server, "--since", f"@{then:.6f}") == [f"{CLIENT_ADDRESS} #1: after"]
    assert lines(server, "--since", f"@{then:.6f}", "-n", "9") == [f"{CLIENT_ADDRESS} #1: after"]
    assert f"{CLIENT_ADDRESS} #1: before" in lines(server, "--since=-1h")
    assert lines(server, "--since", "tomorrow") == []


def test_log_prints_each_payload_as_json(server: Machine) -> None:
    send(server, b"one", b"\xff")
    server.run("journalctl", "--sync")
    status, out, _ = ackctl(server, "log", "--json", "--lines", "2")
    one, two, summary = map(json.loads, out.splitlines())
    assert (status, summary) == (0, {"payloads": 2, "status": 0})
    assert two["connection"] == one["connection"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT[\d:]{8}(\.\d+)?\+00:00", two["time"])
    del two["time"], two["connection"], two["port"]
    assert two == {
        "peer": CLIENT_ADDRESS,
        "listener": f"{MACHINE_ADDRESS}:10008",
        "sequence": 2,
        "bytes": 1,
        "payload": "\\xff",
        "repeated": False,
        "unterminated": False,
        "unit": "ackd.service",
        "proxy": "",
        "tls_name": "",
    }


# Follow


def line(process: Process) -> str:
    assert process.stdout
    return without_time(process.stdout.readline().decode().removesuffix("\n"))


def test_following_shows_new_payloads_until_ctrl_c(server: Machine) -> None:
    send(server, b"before")
    send(server, b"just now")
    server.run("journalctl", "--sync")
    follow = ("ackctl", "log", "--follow", "--lines", "1")
    with server.popen(*follow, stderr=subprocess.PIPE) as process:
        assert line(process) == f"{CLIENT_ADDRESS} #1: just now"
        send(server, b"one", b"two")
        assert line(process) == f"{CLIENT_ADDRESS} #1: one"
        assert line(process) == f"{CLIENT_ADDRESS} #2: two"
        process.send_signal(signal.SIGINT)
        assert process.communicate() == (b"", b"")
        assert process.returncode == 0


def test_following_ends_when_the_pipe_has_no_reader(server: Machine) -> None:
    send(server, b"hello")
    server.run("journalctl", "--sync")
    done = server.run("sh", "-c", "ackctl log --follow | grep --max-count=1 hello")
    assert (without_time(done.stdout[:-1]), done.stderr) == (f"{CLIENT_ADDRESS} #1: hello", "")


def test_following_begins_with_the_last_ten_payloads(server: Machine) -> None:
    send(server, *(b"%d" % number for number in range(1, 31)))
    server.run("journalctl", "--sync")
    with server.popen("ackctl", "log", "--follow", "--json") as process:
        assert process.stdout
        printed = [json.loads(process.stdout.readline()) for _ in range(10)]
        assert [payload["payload"] for payload in printed] == [str(n) for n in range(21, 31)]
        process.send_signal(signal.SIGINT)
        assert json.loads(process.communicate()[0]) == {"payloads": 10, "status": 0}


def test_following_continues_in_a_new_file_and_in_a_new_journal(
    without_own_journal: Machine,
) -> None:
    send(without_own_journal, b"before")
    without_own_journal.run("journalctl", "--sync")
    with without_own_journal.popen("ackctl", "log", "--follow", "--lines", "1") as process:
        assert line(process) == f"{CLIENT_ADDRESS} #1: before"
        rotate(without_own_journal)
        send(without_own_journal, b"in a new file")
        assert line(process) == f"{CLIENT_ADDRESS} #1: in a new file"
        without_own_journal.run(OWN_JOURNAL)
        send(without_own_journal, b"in a new journal")
        assert line(process) == f"{CLIENT_ADDRESS} #1: in a new journal"
