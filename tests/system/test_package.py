"""The packages: made by `make deb`, installed, upgraded, removed and purged on each release."""

import re
from collections.abc import Iterator
from email import message_from_string
from email.message import Message
from pathlib import Path

import pytest

from ackd.records import Kind
from tests.support.certificates import Authority, needs_openssl
from tests.support.peer import ACK
from tests.support.project import PROJECT
from tests.support.readme import python_lines

from .support.audit import assert_exactly_once, load
from .support.connections import greeted
from .support.install import put_packages
from .support.machine import MACHINE_ADDRESS, CommandError, Machine
from .support.workshop import Packages, Versions, Workshop, open_workshop, source_archive

EDITED = f"# The administrator was here.\nbind: {MACHINE_ADDRESS}\n"
METRICS = "/var/lib/prometheus/node-exporter"
UNITS = ("ackd.service", "ackd@.service", "ackd.socket")
MAN_PAGES = ("man1/ackctl.1", "man5/ackd.yaml.5", "man8/ackd.8")
NAMES = ("ackctl", "ackd", "python3-ackd")
COMPLETIONS = (
    *("bash-completion/completions/ackctl", "bash-completion/completions/ackd"),
    *("zsh/vendor-completions/_ackctl", "zsh/vendor-completions/_ackd"),
)
TESTS = [
    message_from_string(stanza)
    for stanza in (PROJECT / "debian/tests/control").read_text().split("\n\n")
]
# Logs, the data of dpkg and apt, journald's index of catalogs, and file systems without a disk.
LEFT_OUT = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/var/tmp", "/root", "/var/log"),
    *("/var/lib/systemd/catalog", "/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt"),
    "/var/cache/debconf",
)


def state(machine: Machine) -> set[str]:
    """Return all files, all unit files, the loaded units of ackd, and all listening sockets."""
    left_out = " -o ".join(f"-path {path}" for path in LEFT_OUT)
    list_files = f"find / '(' {left_out} ')' -prune -o -printf '%p %M %u %l\\n'"
    commands = (
        ("sh", "-c", list_files),
        ("systemctl", "list-unit-files", "--no-legend"),
        ("systemctl", "list-units", "--all", "--no-legend", "--plain", "*ackd*"),
        ("ss", "-tlnH"),
    )
    return {line for command in commands for line in machine.run(*command).stdout.splitlines()}


@pytest.fixture(scope="module")
def bare_state(machine: Machine) -> set[str]:
    """Return the state of the machine before the first installation of ackd."""
    return state(machine)


@pytest.fixture
def installed(machine: Machine, packages: Versions, bare_state: set[str]) -> Iterator[Machine]:
    """A machine on which the packages have just been installed."""
    put_packages(machine, packages.first)
    yield machine
    machine.run("dpkg", "--purge", *NAMES)


@pytest.fixture
def on_network(installed: Machine) -> Machine:
    """A machine whose ackd listens on the network of the client host."""
    installed.put("/etc/ackd.yaml", EDITED)
    installed.run("systemctl", "reload", "ackd")
    return installed


def unit_is(machine: Machine, state: str, unit: str) -> bool:
    command = ("systemctl", "--quiet", f"is-{state}", unit)
    return machine.run(*command, check=False).returncode == 0


def status_as_member(machine: Machine) -> str:
    """Return what `ackctl status` shows to a user in the group systemd-journal."""
    group = machine.run("getent", "group", "systemd-journal").stdout.split(":")[2]
    member = ("setpriv", "--reuid=4321", "--regid=4321", f"--groups={group}")
    return machine.run(*member, "ackctl", "status").stdout


def seal(machine: Machine) -> None:
    """Switch to the sealed service, for which systemd listens on the network."""
    machine.put(
        "/etc/systemd/system/ackd.socket.d/address.conf",
        f"[Socket]\nListenStream=\nListenStream={MACHINE_ADDRESS}:10008\n",
    )
    machine.run("/usr/share/ackd/seal")


def unseal(machine: Machine) -> None:
    machine.run("rm", "-rf", "/etc/systemd/system/ackd.socket.d")
    machine.run("rm", "-rf", "/etc/systemd/system/ackd.service.d")


def undo_own_journal(machine: Machine) -> None:
    """Switch back to the system's journal; stop the other journald, which ends only after 30 s."""
    machine.run("/usr/share/ackd/own-journal", "--undo")
    machine.run("systemctl", "stop", "systemd-journald@ackd.service")


# Built


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """A machine that builds the packages once more."""
    with open_workshop() as workshop:
        yield workshop


@pytest.fixture(scope="module")
def rebuilt(workshop: Workshop) -> tuple[str, Packages]:
    """The directory and the packages of a build in another environment, with the tests."""
    workshop.machine.run("localedef", "--inputfile=tr_TR", "--charmap=UTF-8", "tr_TR.UTF-8")
    environment = {"LC_ALL": "tr_TR.UTF-8", "TMPDIR": "/var/tmp", "TZ": "KTM-5:45"}
    return workshop.make("quite/elsewhere", umask="077", env=environment)


def test_lintian_reports_nothing(workshop: Workshop, rebuilt: tuple[str, Packages]) -> None:
    dist, _ = rebuilt
    lint = "lintian --pedantic --display-info --display-experimental ackd_*.changes"
    assert workshop.run_as_nobody(dist, "sh", "-c", lint) == ""


def test_a_build_in_another_directory_and_environment_gives_the_same_bits(
    rebuilt: tuple[str, Packages], packages: Versions
) -> None:
    _, built = rebuilt
    assert built == packages.first


def test_the_packages_have_no_files_that_the_build_or_its_tests_leave(installed: Machine) -> None:
    packed = installed.run("dpkg", "--listfiles", *NAMES).stdout
    assert not re.search("pycache|pytest|hypothesis|coverage|/tests|LICENSE", packed)


# Installed


def test_installing_and_purging_print_no_warning(
    machine: Machine, packages: Versions, bare_state: set[str]
) -> None:
    output = put_packages(machine, packages.first)
    output += machine.run("apt-get", "purge", "--yes", *NAMES).stderr
    assert not re.search("warning|disabled or a static", output, re.IGNORECASE)
    assert state(machine) == bare_state


def test_an_installed_ackd_runs_and_is_enabled_and_reachable(installed: Machine) -> None:
    assert unit_is(installed, "active", "ackd.service")
    assert unit_is(installed, "enabled", "ackd.service")
    assert installed.run("ackctl", "send", "hello").returncode == 0
    assert installed.run("dpkg", "--verify", *NAMES).stdout == ""


def test_a_monitoring_system_checks_an_installed_ackd(installed: Machine) -> None:
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    done = installed.run(*as_nobody, "ackctl", "check", "--critical", "15000")
    assert done.stdout.startswith("ACKD OK: payload check-")
    installed.run("systemctl", "stop", "ackd")
    done = installed.run(*as_nobody, "ackctl", "check", check=False)
    assert (done.returncode, done.stderr) == (2, "")
    assert done.stdout.startswith(
        "ACKD CRITICAL: not reached: 127.0.0.1 port 10008: connection ref"
    )
    examples = installed.run("ls", "/usr/share/doc/ackctl/examples/monitoring").stdout
    assert set(examples.split()) >= {"icinga2.conf", "nagios.cfg", "zabbix.conf", "cron"}


def test_python_programs_can_use_the_library(installed: Machine) -> None:
    lines = python_lines().replace("192.168.150.1", "127.0.0.1")
    output = installed.python(lines).stdout
    assert output.count("Verdict.ACKNOWLEDGED") == 2


@pytest.mark.parametrize("program", ["ackd", "ackctl"])
def test_no_variable_and_no_file_in_the_working_directory_replaces_a_module(
    installed: Machine, program: str
) -> None:
    broken = "raise SystemExit('the wrong module')"
    installed.put("/tmp/astray/argparse.py", broken)
    installed.put("/tmp/astray/ackd/__init__.py", broken)
    for variable in ("PYTHONPATH", "PYTHONHOME"):
        run = ("env", "--chdir=/tmp/astray", f"{variable}=/tmp/astray", program, "--version")
        assert installed.run(*run).stdout.startswith(f"{program} ")


def test_the_socket_and_other_instances_are_not_enabled(installed: Machine) -> None:
    assert not unit_is(installed, "active", "ackd.socket")
    assert not unit_is(installed, "enabled", "ackd.socket")
    assert not unit_is(installed, "enabled", "ackd@north.service")
    installed.run("systemd-analyze", "verify", "--man=no", *UNITS[::2], "ackd@north.service")


def test_the_catalog_of_an_installed_ackd_explains_its_records(installed: Machine) -> None:
    explained = installed.run("journalctl", "--catalog", f"MESSAGE_ID={Kind.LISTENING.value}")
    assert "Subject: ackd listens" in explained.stdout


def test_man_pages_and_completions_are_installed(installed: Machine) -> None:
    for page in MAN_PAGES:
        text = installed.run("zcat", f"/usr/share/man/{page}.gz").stdout
        assert ".TH" in text
    for completion in COMPLETIONS:
        assert installed.run("cat", f"/usr/share/{completion}").stdout


def test_the_programs_have_the_version_of_the_package(installed: Machine) -> None:
    version = installed.run("dpkg-query", "--show", "--showformat=${Version}", "ackd").stdout
    assert installed.run("ackd", "--version").stdout.split()[-1] == version
    assert installed.run("ackctl", "--version").stdout.split()[-1] == version


@pytest.mark.parametrize("test", TESTS, ids=lambda test: str(test["Tests"]))
def test_the_tests_of_the_debian_packages_pass(installed: Machine, test: Message) -> None:
    """Run them and judge them like autopkgtest; they include the unit tests."""
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    as_user = () if "needs-root" in test["Restrictions"] else as_nobody
    run = ("env", "--chdir=/srv/source", *as_user, f"debian/tests/{test['Tests']}")
    own = {"AUTOPKGTEST_TMP": "/srv/tests", "HOME": "/srv/tests"}  # nobody has no home directory
    installed.run("install", "-d", "--owner=nobody", "/srv/source", "/srv/tests")
    try:
        installed.run("tar", "-xC", "/srv/source", "--no-same-owner", input=source_archive())
        done = installed.run(*run, env=own, timeout=1100)
    finally:
        installed.run("rm", "-r", "/srv/source", "/srv/tests")
    print(done.stdout[-2000:])
    assert "allow-stderr" in test["Restrictions"] or done.stderr == ""


# Upgraded


@pytest.fixture
def single(machine: Machine, packages: Versions, bare_state: set[str]) -> Iterator[Machine]:
    """A machine with the single package of version 0.1.0, which listens on the network."""
    if packages.single is None:
        pytest.skip("needs the history of this checkout: it makes the package of version 0.1.0")
    put_packages(machine, packages.single)
    machine.put("/etc/ackd.yaml", EDITED)
    machine.run("systemctl", "reload", "ackd")
    yield machine
    machine.run("dpkg", "--purge", *NAMES)
    assert state(machine) == bare_state


def test_an_upgrade_from_the_single_package_loses_no_connection_and_no_ack(
    single: Machine, packages: Versions
) -> None:
    before = single.pid_of("ackd")
    with load(single, "split", clients=40, depth=16) as clients:
        put_packages(single, packages.first)
        assert single.pid_of("ackd") != before
        report = clients.stop()
    assert_exactly_once(single, "split", report)
    assert single.run("cat", "/etc/ackd.yaml").stdout == EDITED
    assert single.run("dpkg", "--verify", *NAMES).stdout == "??5?????? c /etc/ackd.yaml\n"
    assert single.run("test", "-e", "/usr/share/ackd/ackd", check=False).returncode != 0
    assert f"{MACHINE_ADDRESS}:10008" in status_as_member(single)


def test_an_upgrade_restarts_other_instances_too(installed: Machine, packages: Versions) -> None:
    installed.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\n")
    installed.run("systemctl", "enable", "--now", "ackd@north")
    before = installed.pid_of("ackd@north")
    with greeted(installed, port=10009) as peer:
        put_packages(installed, packages.next)
        assert installed.pid_of("ackd@north") != before
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_an_upgrade_under_load_loses_no_connection_and_no_ack(
    on_network: Machine, packages: Versions
) -> None:
    before = on_network.pid_of("ackd")
    with load(on_network, "upgrade", clients=40, depth=16) as clients:
        put_packages(on_network, packages.next)
        assert on_network.pid_of("ackd") != before
        report = clients.stop()
    assert_exactly_once(on_network, "upgrade", report)
    print(f"{sum(report.sent)} payloads, longest pause {report.longest_pause:.3f} s")
    version = on_network.run("dpkg-query", "--show", "--showformat=${Version}", "ackd").stdout
    assert version.endswith("+next")


def test_an_upgrade_of_the_sealed_service_under_load_loses_nothing(
    installed: Machine, packages: Versions
) -> None:
    seal(installed)
    since = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "ackd.socket")
    before = installed.run(*since).stdout
    with load(installed, "sealed", clients=40, depth=16) as clients:
        put_packages(installed, packages.next)
        report = clients.stop()
    assert_exactly_once(installed, "sealed", report)
    assert installed.run(*since).stdout == before
    unseal(installed)


def test_an_upgrade_with_the_own_journal_under_load_loses_nothing(
    on_network: Machine, packages: Versions
) -> None:
    on_network.run("/usr/share/ackd/own-journal")
    before = on_network.pid_of("ackd")
    with load(on_network, "own", clients=40, depth=16) as clients:
        put_packages(on_network, packages.next)
        report = clients.stop()
    assert on_network.pid_of("ackd") != before
    assert_exactly_once(on_network, "own", report, namespaces=("ackd",))
    undo_own_journal(on_network)


def test_an_upgrade_keeps_the_edited_configuration(on_network: Machine, packages: Versions) -> None:
    put_packages(on_network, packages.next)
    assert on_network.run("cat", "/etc/ackd.yaml").stdout == EDITED
    assert on_network.run("sh", "-c", "echo /etc/ackd.yaml*").stdout == "/etc/ackd.yaml\n"
    with greeted(on_network) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_an_upgrade_does_not_start_a_disabled_service(
    installed: Machine, packages: Versions
) -> None:
    installed.run("systemctl", "disable", "--now", "ackd")
    put_packages(installed, packages.next)
    assert not unit_is(installed, "active", "ackd.service")
    assert not unit_is(installed, "enabled", "ackd.service")


# Removed and purged


def test_removing_stops_ackd_and_keeps_the_configuration(on_network: Machine) -> None:
    with greeted(on_network) as peer:
        on_network.run("apt-get", "remove", "--yes", "ackd")
        peer.expect_end()
    assert not unit_is(on_network, "active", "ackd.service")
    assert "10008" not in on_network.run("ss", "-tlnH").stdout
    assert on_network.run("cat", "/etc/ackd.yaml").stdout == EDITED


def test_removing_closes_the_socket_of_the_sealed_service(installed: Machine) -> None:
    seal(installed)
    installed.run("apt-get", "remove", "--yes", "ackd")
    assert "10008" not in installed.run("ss", "-tlnH").stdout
    assert not unit_is(installed, "active", "ackd.socket")
    unseal(installed)


def test_removing_stops_other_instances(installed: Machine) -> None:
    installed.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\n")
    installed.run("systemctl", "enable", "--now", "ackd@north")
    with greeted(installed, port=10009) as peer:
        installed.run("apt-get", "remove", "--yes", "ackd")
        peer.expect_end()
    assert "10009" not in installed.run("ss", "-tlnH").stdout


@needs_openssl
def test_purging_leaves_nothing_of_instances_and_switches(
    installed: Machine, bare_state: set[str], tmp_path: Path
) -> None:
    installed.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\n")
    installed.run("systemctl", "enable", "--now", "ackd@north")
    installed.run("/usr/share/ackd/seal")
    own = Authority(tmp_path / "ca").issue("server")
    installed.put("/root/c.pem", own.certificate.read_bytes())
    installed.put("/root/k.pem", own.key.read_bytes(), 0o600)
    installed.run("/usr/share/ackd/tls", "/root/c.pem", "/root/k.pem")
    installed.run("mkdir", "--parents", METRICS)
    installed.run("systemctl", "enable", "--now", "ackd-metrics.timer")
    installed.run("systemctl", "start", "ackd-metrics.service")
    assert installed.run("ls", METRICS).stdout == "ackd.prom\n"
    done = installed.run("apt-get", "purge", "--yes", *NAMES)
    assert "warning" not in (done.stdout + done.stderr).lower()
    installed.run("rm", "-r", "/var/lib/prometheus")
    assert state(installed) == bare_state


def test_an_upgrade_does_not_stop_the_timer_of_the_metrics(
    installed: Machine, packages: Versions
) -> None:
    installed.run("systemctl", "enable", "--now", "ackd-metrics.timer")
    put_packages(installed, packages.next)
    assert unit_is(installed, "active", "ackd-metrics.timer")


def test_purging_leaves_nothing_behind(
    on_network: Machine, packages: Versions, bare_state: set[str]
) -> None:
    on_network.run("ackctl", "send", "--host", MACHINE_ADDRESS, "hello")
    put_packages(on_network, packages.next)
    assert state(on_network) != bare_state
    runtime = ("find", "/run", "-name", "ackd*")
    assert on_network.run(*runtime).stdout
    assert status_as_member(on_network)
    on_network.run("apt-get", "purge", "--yes", *NAMES)
    assert state(on_network) == bare_state
    assert on_network.run(*runtime).stdout == ""
    with pytest.raises(CommandError):
        on_network.run("journalctl", "--list-catalog", Kind.PAYLOAD.value)


def test_purging_after_undo_leaves_only_the_own_journal(
    on_network: Machine, bare_state: set[str]
) -> None:
    on_network.run("/usr/share/ackd/own-journal")
    on_network.run("ackctl", "send", "--host", MACHINE_ADDRESS, "to be kept")
    undo_own_journal(on_network)
    on_network.run("apt-get", "purge", "--yes", *NAMES)
    kept = ("journalctl", "--namespace=ackd", "--output=cat", "MESSAGE=Buffer: to be kept")
    assert state(on_network) == bare_state
    assert on_network.run(*kept).stdout == "Buffer: to be kept\n"
