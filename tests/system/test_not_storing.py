"""A journald that takes payloads and does not store them: ackd acknowledges no payload then."""

import json
import sys
from collections.abc import Iterator
from itertools import count

import pytest

from ackd.records import Kind
from tests.support.project import PROJECT

from .support.base_root import Release
from .support.connections import greeted
from .support.install import BIND
from .support.machine import MACHINE_ADDRESS, Machine, wait_until

JOURNALD = "systemd-journald.service"
OWN_JOURNALD = "systemd-journald@ackd.service"
OWN_JOURNAL = "/usr/share/ackd/own-journal"
CONF = "/etc/systemd/journald.conf.d/50-test.conf"
UNIT_CONF = "/run/systemd/system/ackd.service.d/50-test.conf"
NONE, SOME = "the journal does not store payloads: ", "the journal does not store all payloads: "
numbers = count(1)
ACKNOWLEDGED = (0, "thank you client, you data is Received success", True)


def send(machine: Machine, namespace: str = "") -> tuple[int, str, bool]:
    """Send a payload from the client; return the status, the answer, and whether it is stored."""
    payload = f"payload {next(numbers)}"
    command = (sys.executable, "-m", "ackd.ctl", "send", "--host", MACHINE_ADDRESS, "--json")
    environment = {"PYTHONPATH": str(PROJECT)}
    done = machine.client.run(*command, payload, env=environment, check=False)
    said = json.loads(done.stdout.splitlines()[0])
    reply = said.get("reply") or said["problem"]
    where = (f"--namespace={namespace}",) if namespace else ()
    # A journald that was killed is started again, and then answers.
    sync = ("journalctl", *where, "--sync")
    wait_until("journald answers", lambda: machine.run(*sync, check=False).returncode == 0)
    stored = bool(machine.journal(*where, f"MESSAGE=Buffer: {payload}"))
    return done.returncode, reply, stored


def rejected(reason: str) -> tuple[int, str, bool]:
    return 1, f"turned away: not connect: {reason}", False


def status_of(machine: Machine) -> str:
    return machine.run("systemctl", "show", "--property=StatusText", "--value", "ackd").stdout


def logged(machine: Machine, kind: Kind) -> list[bytes]:
    matches = ("-u", "ackd", f"MESSAGE_ID={kind.value}")
    return [entry["MESSAGE"] for entry in machine.journal(*matches)]


def restart_journald(machine: Machine, unit: str = JOURNALD) -> None:
    """Restart a journald, also beyond its start limit."""
    machine.run("systemctl", "reset-failed", unit)
    machine.run("systemctl", "restart", unit)


def restart_with(machine: Machine, path: str, *lines: str) -> None:
    """Write settings of a journald, and restart it."""
    machine.put(path, "\n".join(("[Journal]", *lines, "")))
    restart_journald(machine, OWN_JOURNALD if "journald@ackd" in path else JOURNALD)


@pytest.fixture
def restored(server: Machine) -> Iterator[Machine]:
    """A machine with a running ackd; afterwards the settings of journald and ackd are as before."""
    yield server
    server.run("rm", "--recursive", "--force", "/etc/systemd/journald.conf.d", UNIT_CONF)
    server.run("systemctl", "daemon-reload")
    restart_journald(server)


# journald's settings


@pytest.mark.parametrize("setting", ["MaxLevelStore=notice", "MaxLevelStore=4", "Storage=none"])
def test_payloads_that_journald_would_drop_are_refused(restored: Machine, setting: str) -> None:
    pid = restored.pid_of("ackd")
    assert send(restored) == ACKNOWLEDGED
    reason = f"{NONE}{setting} in {CONF}"
    with greeted(restored) as connected:
        restart_with(restored, CONF, setting)
        for _ in range(2):
            connected.send(b"one\n")
            connected.expect(f"not received: {reason}\n".encode())
    assert send(restored) == rejected(reason)
    assert send(restored) == rejected(reason)
    wait_until("the status has the reason", lambda: status_of(restored).startswith(reason))
    restart_with(restored, CONF)
    assert send(restored) == ACKNOWLEDGED
    wait_until("the status is normal", lambda: NONE not in status_of(restored))
    assert restored.pid_of("ackd") == pid
    if "none" not in setting:  # such a journal does not store the message either
        assert logged(restored, Kind.NOT_STORED)[-1] == reason.encode()
    assert logged(restored, Kind.STORED_AGAIN)[-1] == b"the journal stores payloads again"


def test_ackd_reads_the_settings_at_its_start(restored: Machine) -> None:
    restart_with(restored, CONF, "MaxLevelStore=err")
    restored.run("systemctl", "stop", "ackd")
    restored.run("systemctl", "start", "ackd")
    reason = f"{NONE}MaxLevelStore=err in {CONF}"
    assert send(restored) == rejected(reason)
    assert logged(restored, Kind.NOT_STORED)[-1] == reason.encode()


def test_the_settings_are_read_again_after_a_kill_of_journald(restored: Machine) -> None:
    restored.put(CONF, "[Journal]\nMaxLevelStore=notice\n")
    restored.run("systemctl", "kill", "--signal=KILL", JOURNALD)
    expected = rejected(f"{NONE}MaxLevelStore=notice in {CONF}")
    wait_until("the payload is refused", lambda: send(restored) == expected)


def test_a_setting_that_journald_has_not_read_changes_nothing(restored: Machine) -> None:
    restored.put(CONF, "[Journal]\nStorage=none\n")
    for command in ("reload", "restart"):
        restored.run("systemctl", command, "ackd")
        assert send(restored) == ACKNOWLEDGED
    unknown = b"can't find out whether the journal stores payloads: "
    why = b"/etc/systemd/journald.conf.d has changed"
    assert logged(restored, Kind.LOG)[-1].startswith(unknown + why)


def test_a_setting_that_was_taken_back_is_in_force_until_journald_restarts(
    restored: Machine,
) -> None:
    restart_with(restored, CONF, "Storage=none")
    restored.put(CONF, "[Journal]\n")
    restored.run("systemctl", "reload", "ackd")
    assert send(restored) == rejected(f"{NONE}Storage=none in {CONF}")
    restart_journald(restored)
    assert send(restored) == ACKNOWLEDGED


def test_a_later_drop_in_overrides_the_level(restored: Machine) -> None:
    restored.put("/run/systemd/journald.conf.d/90-all.conf", "[Journal]\nMaxLevelStore=debug\n")
    restart_with(restored, CONF, "MaxLevelStore=notice")
    assert send(restored) == ACKNOWLEDGED
    restored.run("rm", "/run/systemd/journald.conf.d/90-all.conf")
    restart_journald(restored)
    assert send(restored) == rejected(f"{NONE}MaxLevelStore=notice in {CONF}")


def test_a_file_that_ackd_may_not_read_is_no_reason_to_refuse(restored: Machine) -> None:
    restored.put(CONF, "[Journal]\nMaxLevelStore=debug\n", mode=0o600)
    restart_journald(restored)
    assert send(restored) == ACKNOWLEDGED
    unknown = f"can't find out whether the journal stores payloads: {CONF}: Permission denied"
    assert unknown.encode() in logged(restored, Kind.LOG)


def test_with_record_none_a_journal_without_storage_is_no_reason_to_refuse(
    restored: Machine,
) -> None:
    restart_with(restored, CONF, "Storage=none")
    restored.put("/etc/ackd.yaml", f"{BIND}record: none\n")
    restored.run("systemctl", "reload", "ackd")
    status, reply, _ = send(restored)
    assert (status, reply) == ACKNOWLEDGED[:2]
    restored.put("/etc/ackd.yaml", BIND)
    restored.run("systemctl", "reload", "ackd")
    assert send(restored) == rejected(f"{NONE}Storage=none in {CONF}")


def test_the_command_line_of_the_kernel_is_known_in_the_sandbox(restored: Machine) -> None:
    # In a container journald reads the command line of PID 1, which can't be changed now.
    option = "systemd.journald.max_level_store=notice"
    override = "/run/systemd/system/systemd-journald.service.d/50-test.conf"
    restored.put("/run/command-line", f"/sbin/init {option}")
    restored.put(override, f'[Service]\nEnvironment="SYSTEMD_PROC_CMDLINE={option}"\n')
    credential = "[Service]\nLoadCredential=init-command-line:/run/command-line\n"
    restored.put(UNIT_CONF, credential)
    restored.run("systemctl", "daemon-reload")
    restart_journald(restored)
    restored.run("systemctl", "restart", "ackd")
    assert send(restored) == rejected(f"{NONE}{option} on the kernel command line")
    restored.run("rm", override)


# The unit


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        ("LogLevelMax=notice", f"{NONE}LogLevelMax=notice of ackd.service"),
        (
            "LogRateLimitBurst=10",
            f"{SOME}LogRateLimitBurst=10 of ackd.service,"
            " LogRateLimitIntervalSec=1s of ackd.service",
        ),
        (
            "LogRateLimitIntervalSec=0\nLogRateLimitBurst=0",
            f"{SOME}RateLimitBurst=10000 by default, RateLimitIntervalSec=30s by default",
        ),
    ],
    ids=["level", "small limit", "default limit"],
)
def test_payloads_that_journald_would_drop_for_this_unit_are_refused(
    restored: Machine, setting: str, reason: str
) -> None:
    restored.put(UNIT_CONF, f"[Service]\n{setting}\n")
    restored.run("systemctl", "daemon-reload")
    assert send(restored) == ACKNOWLEDGED  # the setting is not in force yet
    restored.run("systemctl", "restart", "ackd")
    assert send(restored) == rejected(reason)
    restored.run("rm", UNIT_CONF)
    restored.run("systemctl", "daemon-reload")
    restored.run("systemctl", "restart", "ackd")
    assert send(restored) == ACKNOWLEDGED


def test_the_rate_limit_of_journald_counts_if_the_unit_has_no_limit(restored: Machine) -> None:
    restored.put(UNIT_CONF, "[Service]\nLogRateLimitIntervalSec=0\nLogRateLimitBurst=0\n")
    restored.run("systemctl", "daemon-reload")
    restored.run("systemctl", "restart", "ackd")
    restart_with(restored, CONF, "RateLimitBurst=7")
    reason = f"{SOME}RateLimitBurst=7 in {CONF}, RateLimitIntervalSec=30s by default"
    assert send(restored) == rejected(reason)
    restart_with(restored, CONF, "RateLimitIntervalSec=0")
    assert send(restored) == ACKNOWLEDGED


def test_a_reload_that_fails_puts_settings_of_the_unit_into_force_all_the_same(
    restored: Machine,
) -> None:
    restored.put(UNIT_CONF, "[Service]\nLogLevelMax=notice\n")
    restored.run("systemctl", "daemon-reload")
    assert send(restored) == ACKNOWLEDGED
    restored.put("/etc/ackd.yaml", f"{BIND}port: 70000\n")
    assert restored.run("systemctl", "reload", "ackd", check=False).returncode != 0
    reason = f"{NONE}LogLevelMax=notice of ackd.service"
    assert send(restored) == rejected(reason)
    restored.put("/etc/ackd.yaml", BIND)
    restored.run("rm", UNIT_CONF)
    restored.run("systemctl", "daemon-reload")
    restored.run("systemctl", "restart", "ackd")
    assert send(restored) == ACKNOWLEDGED


def test_a_filter_of_the_unit_is_a_reason_to_refuse(restored: Machine) -> None:
    restored.put(UNIT_CONF, "[Service]\nLogFilterPatterns=~payload\n")
    restored.run("systemctl", "daemon-reload")
    restored.run("systemctl", "restart", "ackd")
    reason = f"{SOME}LogFilterPatterns= of ackd.service"
    old = restored.release is Release.BOOKWORM  # its systemd does not have this setting
    assert send(restored) == (ACKNOWLEDGED if old else rejected(reason))


def test_the_sealed_service_refuses_payloads_too(restored: Machine) -> None:
    address = f"[Socket]\nListenStream=\nListenStream={MACHINE_ADDRESS}:10008\n"
    restored.put("/etc/systemd/system/ackd.socket.d/address.conf", address)
    restored.run("/usr/share/ackd/seal")
    assert send(restored) == ACKNOWLEDGED
    restart_with(restored, CONF, "Storage=none")
    assert send(restored) == rejected(f"{NONE}Storage=none in {CONF}")
    restored.run("/usr/share/ackd/seal", "--undo")


def test_the_settings_of_an_instance_are_those_of_its_own_unit(restored: Machine) -> None:
    restored.run("systemctl", "stop", "ackd")
    restored.put("/etc/ackd/lab.yaml", BIND)
    drop_in = "/run/systemd/system/ackd@lab.service.d/50-test.conf"
    restored.put(drop_in, "[Service]\nLogLevelMax=warning\n")
    restored.run("systemctl", "daemon-reload")
    restored.run("systemctl", "start", "ackd@lab")
    assert send(restored) == rejected(f"{NONE}LogLevelMax=warning of ackd@lab.service")
    restored.run("systemctl", "stop", "ackd@lab")


# The own journal


def test_the_settings_of_the_own_journal_are_those_of_its_own_files(restored: Machine) -> None:
    restored.run(OWN_JOURNAL)
    restart_with(restored, CONF, "Storage=none")
    assert send(restored, "ackd") == ACKNOWLEDGED
    own = "/etc/systemd/journald@ackd.conf.d/50-test.conf"
    restart_with(restored, own, "MaxLevelStore=notice")
    assert send(restored, "ackd") == rejected(f"{NONE}MaxLevelStore=notice in {own}")
    restored.run("rm", "--recursive", "/etc/systemd/journald@ackd.conf.d")
    restart_journald(restored, OWN_JOURNALD)
    assert send(restored, "ackd") == ACKNOWLEDGED
    restored.run(OWN_JOURNAL, "--undo")
    assert send(restored) == rejected(f"{NONE}Storage=none in {CONF}")
