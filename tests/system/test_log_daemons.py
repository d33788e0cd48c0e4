"""rsyslog and syslog-ng: as senders, and rsyslog as a neighbour that copies ackd's records."""

import re
from collections.abc import Iterator

import pytest

from ackd.journal.entry import payloads_of
from ackd.records import Kind
from tests.support.project import PROJECT

from .support.base_root import LOG_DAEMONS, Release
from .support.install import BIND, install
from .support.machine import MACHINE_ADDRESS, JournalEntry, Machine, boot, wait_until

LOGS = ("/var/log/syslog", "/var/log/user.log", "/var/log/messages")
REMEDY = "/etc/rsyslog.d/10-ackd.conf"
SYSLOG_NG_CONF = "/etc/syslog-ng/syslog-ng.conf"
FORWARD = "/etc/rsyslog.d/50-test.conf"
PAYLOAD = f"MESSAGE_ID={Kind.PAYLOAD.value}"


def serving(release: Release) -> Iterator[Machine]:
    """Yield a machine with a log daemon, on which ackd listens on the machine's address."""
    with boot(release, tools=LOG_DAEMONS[release]) as machine:
        install(machine)
        machine.put("/etc/ackd.yaml", BIND)
        machine.run("systemctl", "start", "ackd")
        yield machine


@pytest.fixture(scope="module")
def with_rsyslog() -> Iterator[Machine]:
    yield from serving(Release.TRIXIE)


@pytest.fixture(scope="module")
def with_syslog_ng() -> Iterator[Machine]:
    yield from serving(Release.BOOKWORM)


@pytest.fixture
def rsyslog(with_rsyslog: Machine) -> Iterator[Machine]:
    """A machine with rsyslog as Debian configures it; a test may configure it otherwise."""
    yield with_rsyslog
    with_rsyslog.run("rm", "-f", REMEDY, FORWARD)
    restart_rsyslog(with_rsyslog)


def restart_rsyslog(machine: Machine) -> None:
    """Restart rsyslog, also beyond its start limit."""
    machine.run("systemctl", "reset-failed", "rsyslog")
    machine.run("systemctl", "restart", "rsyslog")


def configure(machine: Machine, path: str, text: str) -> None:
    machine.put(path, text)
    machine.run("rsyslogd", "-N1")  # checks the configuration
    restart_rsyslog(machine)


def remedy(path: str) -> str:
    """Return the line that the manual says to write into this file of a log daemon."""
    text = (PROJECT / "man" / "ackd.8.scd").read_text().partition(f"_{path}_")[2]
    line: str = re.split("```\n", text, maxsplit=2)[1]
    return line


def send(machine: Machine, payload: str) -> None:
    machine.client.run("nc", "-N", MACHINE_ADDRESS, "10008", input=f"{payload}\n")


def copies(machine: Machine, text: str) -> list[str]:
    """Return the lines of rsyslog's files that have a text."""
    return machine.run("grep", "-hsF", text, *LOGS, check=False).stdout.splitlines()


def await_copies(machine: Machine, marker: str) -> None:
    """Wait until a log daemon has copied all records of before: it gets them in order."""
    machine.run("logger", "--priority", "user.info", marker)
    wait_until(f"{marker} is copied", lambda: len(copies(machine, marker)) >= 2)


def payloads(machine: Machine) -> list[str]:
    entries = machine.journal(PAYLOAD)
    fields = [{name: entry[name] for name in entry.fields} for entry in entries]
    return [payload.decode() for entry in fields for _, payload in payloads_of(entry)]


def test_rsyslog_copies_each_payload_until_the_remedy_of_the_manual_stops_it(
    rsyslog: Machine,
) -> None:
    send(rsyslog, "copied payload")
    await_copies(rsyslog, "first-marker")
    assert len(copies(rsyslog, "Buffer: copied payload")) == 2

    configure(rsyslog, REMEDY, remedy(REMEDY))
    send(rsyslog, "payload without copies")
    await_copies(rsyslog, "second-marker")
    assert copies(rsyslog, "payload without copies") == []
    assert "payload without copies" in payloads(rsyslog)


def test_syslog_ng_copies_each_payload_until_the_remedy_of_the_manual_stops_it(
    with_syslog_ng: Machine,
) -> None:
    send(with_syslog_ng, "copied payload")
    await_copies(with_syslog_ng, "first-marker")
    assert len(copies(with_syslog_ng, "Buffer: copied payload")) == 2

    before, log, after = with_syslog_ng.run("cat", SYSLOG_NG_CONF).stdout.partition("\nlog {")
    with_syslog_ng.put(SYSLOG_NG_CONF, f"{before}\n{remedy(SYSLOG_NG_CONF)}{log}{after}")
    with_syslog_ng.run("systemctl", "restart", "syslog-ng")
    send(with_syslog_ng, "payload without copies")
    await_copies(with_syslog_ng, "second-marker")
    assert copies(with_syslog_ng, "payload without copies") == []
    assert "payload without copies" in payloads(with_syslog_ng)


def test_with_the_remedy_an_rsyslog_that_forwards_everything_to_ackd_makes_no_loop(
    rsyslog: Machine,
) -> None:
    configure(rsyslog, REMEDY, remedy(REMEDY))
    configure(rsyslog, FORWARD, f"*.* @@{MACHINE_ADDRESS}:10008\n")

    def recorded(marker: str) -> list[str]:
        return [payload for payload in payloads(rsyslog) if marker in payload]

    # A copy of the first payload would come back before the second message.
    for marker in ("first-message", "second-message"):
        rsyslog.run("logger", marker)
        wait_until(f"{marker} is recorded", lambda marker=marker: recorded(marker))  # type: ignore[misc]
    assert len(recorded("first-message")) == 1


def test_omfwd_of_rsyslog(rsyslog: Machine) -> None:
    lines = [f"line {number}" for number in range(1000)]
    rsyslog.put("/srv/input", "".join(f"{line}\n" for line in lines))
    text = f"""module(load="imfile")
input(type="imfile" File="/srv/input" Tag="field" ruleset="forward")
ruleset(name="forward") {{
    action(type="omfwd" Target="{MACHINE_ADDRESS}" Port="10008" Protocol="tcp")
}}
"""
    configure(rsyslog, FORWARD, text)

    def recorded() -> list[str]:
        return [payload for payload in payloads(rsyslog) if " field " in payload]

    wait_until("all lines are recorded", lambda: len(recorded()) >= len(lines))
    assert [payload.partition(" field ")[2].strip() for payload in recorded()] == lines


def loggen(machine: Machine) -> tuple[int, int]:
    """Send 20,000 lines; return how many payloads were recorded, and how many bytes arrived."""

    def closed() -> list[JournalEntry]:
        return machine.journal("-u", "ackd", f"MESSAGE_ID={Kind.CLOSED.value}")

    before = len(closed())
    lines = ("--size", "200", "--number", "20000", "--rate", "1000000")
    machine.run("loggen", "--inet", "--stream", *lines, MACHINE_ADDRESS, "10008")
    entry = wait_until("the connection is closed", lambda: closed()[before:])[0]
    assert "ACKD_UNENDED" not in entry or b"may have dropped lines" in entry["MESSAGE"]
    return int(entry["ACKD_PAYLOADS"]), int(entry["ACKD_BYTES"])


def test_loggen_of_syslog_ng(with_syslog_ng: Machine) -> None:
    with_syslog_ng.put("/etc/ackd.yaml", f'{BIND}greeting: ""\nack: ""\n')
    with_syslog_ng.run("systemctl", "reload", "ackd")
    recorded, size = loggen(with_syslog_ng)
    assert recorded == 20_000
    # With replies, which loggen does not read, its close drops lines. All that arrive are recorded.
    with_syslog_ng.put("/etc/ackd.yaml", BIND)
    with_syslog_ng.run("systemctl", "reload", "ackd")
    some, arrived = loggen(with_syslog_ng)
    assert some == arrived // (size // recorded)
