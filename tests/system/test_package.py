"""The packages: made by `make deb`, installed, upgraded, removed and purged on each release."""

import re
from collections.abc import Iterator
from email import message_from_string
from email.message import Message

import pytest

from ackd.records import Kind
from tests.support.obstacle import obstacle
from tests.support.peer import ACK
from tests.support.project import PROJECT
from tests.support.readme import python_lines

from .support.audit import assert_exactly_once, load
from .support.connections import greeted
from .support.install import put_packages
from .support.machine import MACHINE_ADDRESS, CommandError, Machine
from .support.workshop import Packages, Versions, Workshop, open_workshop, source_archive

EDITED = f"# The administrator was here.\nbind: {MACHINE_ADDRESS}\n"
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
# Logs, what dpkg and apt keep of their work, journald's index of catalogs, and what is no disk.
LEFT_OUT = (
    *("/proc", "/sys", "/dev", "/run", "/tmp", "/root", "/var/log", "/var/lib/systemd/catalog"),
    *("/var/lib/dpkg", "/var/lib/apt", "/var/cache/apt", "/var/cache/debconf"),
)


def state(machine: Machine) -> set[str]:
    """Return all files, units, what systemd has loaded of ours, and who listens."""
    left_out = " -o ".join(f"-path {path}" for path in LEFT_OUT)
    list_files = f"find / '(' {left_out} ')' -prune -o -printf '%p %M %u %l\\n'"
    asked = (
        ("sh", "-c", list_files),
        ("systemctl", "list-unit-files", "--no-legend"),
        ("systemctl", "list-units", "--all", "--no-legend", "--plain", "*ackd*"),
        ("ss", "-tlnH"),
    )
    return {line for command in asked for line in machine.run(*command).stdout.splitlines()}


@pytest.fixture(scope="module")
def bare_state(machine: Machine) -> set[str]:
    """Return the state of the machine before ackd ever was on it."""
    return state(machine)


@pytest.fixture
def installed(machine: Machine, packages: Versions, bare_state: set[str]) -> Iterator[Machine]:
    """A machine on which the package has just been installed."""
    put_packages(machine, packages.first)
    yield machine
    machine.run("dpkg", "--purge", *NAMES)


@pytest.fixture
def reached(installed: Machine) -> Machine:
    """One whose administrator lets ackd serve the network."""
    installed.put("/etc/ackd.yaml", EDITED)
    installed.run("systemctl", "reload", "ackd")
    return installed


def is_so(machine: Machine, question: str, unit: str) -> bool:
    return machine.run("systemctl", "--quiet", question, unit, check=False).returncode == 0


def seal(machine: Machine) -> None:
    """Let systemd listen on the network for a service that has none."""
    machine.put(
        "/etc/systemd/system/ackd.socket.d/address.conf",
        f"[Socket]\nListenStream=\nListenStream={MACHINE_ADDRESS}:10008\n",
    )
    machine.run("/usr/share/ackd/seal")


def unseal(machine: Machine) -> None:
    machine.run("rm", "-rf", "/etc/systemd/system/ackd.socket.d")
    machine.run("rm", "-rf", "/etc/systemd/system/ackd.service.d")


def join_again(machine: Machine) -> None:
    """Go back to the system's journal, and don't wait the half a minute until the own one ends."""
    machine.run("/usr/share/ackd/own-journal", "--undo")
    machine.run("systemctl", "stop", "systemd-journald@ackd.service")


# Made


@pytest.fixture(scope="module")
def workshop() -> Iterator[Workshop]:
    """Where the package is made once more."""
    if obstacle():
        pytest.skip(f"no namespaces: {obstacle()}")
    with open_workshop() as workshop:
        yield workshop


@pytest.fixture(scope="module")
def again(workshop: Workshop) -> tuple[str, Packages]:
    """The packages and their directory, made elsewhere, and tested."""
    workshop.machine.run("localedef", "--inputfile=tr_TR", "--charmap=UTF-8", "tr_TR.UTF-8")
    otherwise = {"LC_ALL": "tr_TR.UTF-8", "TMPDIR": "/var/tmp", "TZ": "KTM-5:45"}
    return workshop.make("quite/elsewhere", umask="077", env=otherwise)


def test_lintian_has_nothing_to_say(workshop: Workshop, again: tuple[str, Packages]) -> None:
    dist, _ = again
    lint = "lintian --pedantic --display-info --display-experimental ackd_*.changes"
    assert workshop.by_nobody(dist, "sh", "-c", lint) == ""


def test_made_again_elsewhere_and_otherwise_it_is_the_same_bits(
    again: tuple[str, Packages], packages: Versions
) -> None:
    _, made = again
    assert made == packages.first


def test_nothing_that_a_build_or_its_tests_leave_is_in_it(installed: Machine) -> None:
    packed = installed.run("dpkg", "--listfiles", *NAMES).stdout
    assert not re.search("pycache|pytest|hypothesis|coverage|/tests|LICENSE", packed)


# Installed


def test_installing_it_says_nothing_but_what_every_package_says(
    machine: Machine, packages: Versions, bare_state: set[str]
) -> None:
    said = put_packages(machine, packages.first)
    said += machine.run("apt-get", "purge", "--yes", *NAMES).stderr
    assert not re.search("warning|disabled or a static", said, re.IGNORECASE)
    assert state(machine) == bare_state


def test_it_is_running_and_enabled_and_ackctl_reaches_it(installed: Machine) -> None:
    assert is_so(installed, "is-active", "ackd.service")
    assert is_so(installed, "is-enabled", "ackd.service")
    assert installed.run("ackctl", "send", "hello").returncode == 0
    assert installed.run("dpkg", "--verify", *NAMES).stdout == ""


def test_programs_can_use_its_modules(installed: Machine) -> None:
    lines = python_lines().replace("192.168.150.1", "127.0.0.1")
    said = installed.python(lines).stdout
    assert said.count("Verdict.ACKNOWLEDGED") == 2


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


def test_its_socket_and_further_instances_wait_for_the_administrator(installed: Machine) -> None:
    assert not is_so(installed, "is-active", "ackd.socket")
    assert not is_so(installed, "is-enabled", "ackd.socket")
    assert not is_so(installed, "is-enabled", "ackd@north.service")
    installed.run("systemd-analyze", "verify", "--man=no", *UNITS[::2], "ackd@north.service")


def test_the_journal_explains_its_records_at_once(installed: Machine) -> None:
    explained = installed.run("journalctl", "--catalog", f"MESSAGE_ID={Kind.LISTENING.value}")
    assert "Subject: ackd listens" in explained.stdout


def test_its_man_pages_and_completions_are_where_they_are_looked_for(installed: Machine) -> None:
    for page in MAN_PAGES:
        text = installed.run("zcat", f"/usr/share/man/{page}.gz").stdout
        assert ".TH" in text
    for completion in COMPLETIONS:
        assert installed.run("cat", f"/usr/share/{completion}").stdout


def test_it_is_of_one_version(installed: Machine) -> None:
    version = installed.run("dpkg-query", "--show", "--showformat=${Version}", "ackd").stdout
    assert installed.run("ackd", "--version").stdout.split()[-1] == version
    assert installed.run("ackctl", "--version").stdout.split()[-1] == version


@pytest.mark.parametrize("test", TESTS, ids=lambda test: str(test["Tests"]))
def test_debians_own_tests_of_it_pass(installed: Machine, test: Message) -> None:
    """As autopkgtest runs and judges them: the unit tests with each release's Python, above all."""
    installed.run("install", "-d", "--owner=nobody", "/srv/source", "/srv/tests")
    installed.run("tar", "-xC", "/srv/source", "--no-same-owner", input=source_archive())
    by_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    by = () if "needs-root" in test["Restrictions"] else by_nobody
    run = ("env", "--chdir=/srv/source", *by, f"debian/tests/{test['Tests']}")
    own = {"AUTOPKGTEST_TMP": "/srv/tests", "HOME": "/srv/tests"}  # as a user there has one
    done = installed.run(*run, env=own, timeout=600)
    print(done.stdout[-2000:])
    assert "allow-stderr" in test["Restrictions"] or done.stderr == ""
    installed.run("rm", "-r", "/srv/source", "/srv/tests")


# Upgraded


@pytest.fixture
def single(machine: Machine, packages: Versions, bare_state: set[str]) -> Iterator[Machine]:
    """A machine with the one package of before, which serves the network."""
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
        account = clients.stop()
    assert_exactly_once(single, "split", account)
    assert single.run("cat", "/etc/ackd.yaml").stdout == EDITED
    assert single.run("dpkg", "--verify", *NAMES).stdout == "??5?????? c /etc/ackd.yaml\n"
    assert single.run("test", "-e", "/usr/share/ackd/ackd", check=False).returncode != 0


def test_an_upgrade_restarts_further_instances_too(installed: Machine, packages: Versions) -> None:
    installed.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\n")
    installed.run("systemctl", "enable", "--now", "ackd@north")
    before = installed.pid_of("ackd@north")
    with greeted(installed, port=10009) as peer:
        put_packages(installed, packages.next)
        assert installed.pid_of("ackd@north") != before
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_an_upgrade_under_load_loses_no_connection_and_no_ack(
    reached: Machine, packages: Versions
) -> None:
    before = reached.pid_of("ackd")
    with load(reached, "upgrade", clients=40, depth=16) as clients:
        put_packages(reached, packages.next)
        assert reached.pid_of("ackd") != before
        account = clients.stop()
    assert_exactly_once(reached, "upgrade", account)
    print(f"{sum(account.sent)} payloads, longest pause {account.longest_pause:.3f} s")
    version = reached.run("dpkg-query", "--show", "--showformat=${Version}", "ackd").stdout
    assert version.endswith("+next")


def test_an_upgrade_under_load_loses_nothing_where_it_is_sealed(
    installed: Machine, packages: Versions
) -> None:
    seal(installed)
    since = ("systemctl", "show", "--property=ActiveEnterTimestampMonotonic", "ackd.socket")
    before = installed.run(*since).stdout
    with load(installed, "sealed", clients=40, depth=16) as clients:
        put_packages(installed, packages.next)
        account = clients.stop()
    assert_exactly_once(installed, "sealed", account)
    assert installed.run(*since).stdout == before
    unseal(installed)


def test_an_upgrade_under_load_loses_nothing_where_it_has_its_own_journal(
    reached: Machine, packages: Versions
) -> None:
    reached.run("/usr/share/ackd/own-journal")
    before = reached.pid_of("ackd")
    with load(reached, "apart", clients=40, depth=16) as clients:
        put_packages(reached, packages.next)
        account = clients.stop()
    assert reached.pid_of("ackd") != before
    assert_exactly_once(reached, "apart", account, namespaces=("ackd",))
    join_again(reached)


def test_an_upgrade_keeps_the_edited_configuration(reached: Machine, packages: Versions) -> None:
    put_packages(reached, packages.next)
    assert reached.run("cat", "/etc/ackd.yaml").stdout == EDITED
    assert reached.run("sh", "-c", "echo /etc/ackd.yaml*").stdout == "/etc/ackd.yaml\n"
    with greeted(reached) as peer:
        peer.send(b"hello\n")
        peer.expect(ACK)


def test_an_upgrade_does_not_start_what_was_disabled(
    installed: Machine, packages: Versions
) -> None:
    installed.run("systemctl", "disable", "--now", "ackd")
    put_packages(installed, packages.next)
    assert not is_so(installed, "is-active", "ackd.service")
    assert not is_so(installed, "is-enabled", "ackd.service")


# Removed and purged


def test_removing_stops_it_and_keeps_its_configuration(reached: Machine) -> None:
    with greeted(reached) as peer:
        reached.run("apt-get", "remove", "--yes", "ackd")
        peer.expect_end()
    assert not is_so(reached, "is-active", "ackd.service")
    assert "10008" not in reached.run("ss", "-tlnH").stdout
    assert reached.run("cat", "/etc/ackd.yaml").stdout == EDITED


def test_removing_closes_the_socket_of_the_sealed_service(installed: Machine) -> None:
    seal(installed)
    installed.run("apt-get", "remove", "--yes", "ackd")
    assert "10008" not in installed.run("ss", "-tlnH").stdout
    assert not is_so(installed, "is-active", "ackd.socket")
    unseal(installed)


def test_removing_stops_further_instances(installed: Machine) -> None:
    installed.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\n")
    installed.run("systemctl", "enable", "--now", "ackd@north")
    with greeted(installed, port=10009) as peer:
        installed.run("apt-get", "remove", "--yes", "ackd")
        peer.expect_end()
    assert "10009" not in installed.run("ss", "-tlnH").stdout


def test_purging_leaves_nothing_of_instances_and_switches(
    installed: Machine, bare_state: set[str]
) -> None:
    installed.put("/etc/ackd/north.yaml", f"bind: {MACHINE_ADDRESS}\nport: 10009\n")
    installed.run("systemctl", "enable", "--now", "ackd@north")
    installed.run("/usr/share/ackd/seal")
    said = installed.run("apt-get", "purge", "--yes", *NAMES)
    assert "warning" not in (said.stdout + said.stderr).lower()
    assert state(installed) == bare_state


def test_purging_leaves_nothing_behind(
    reached: Machine, packages: Versions, bare_state: set[str]
) -> None:
    reached.run("ackctl", "send", "--host", MACHINE_ADDRESS, "hello")
    put_packages(reached, packages.next)
    assert state(reached) != bare_state
    reached.run("apt-get", "purge", "--yes", *NAMES)
    assert state(reached) == bare_state
    with pytest.raises(CommandError):
        reached.run("journalctl", "--list-catalog", Kind.PAYLOAD.value)


def test_purging_after_the_way_back_leaves_the_own_journal_and_nothing_else(
    reached: Machine, bare_state: set[str]
) -> None:
    reached.run("/usr/share/ackd/own-journal")
    reached.run("ackctl", "send", "--host", MACHINE_ADDRESS, "to be kept")
    join_again(reached)
    reached.run("apt-get", "purge", "--yes", *NAMES)
    kept = ("journalctl", "--namespace=ackd", "--output=cat", "MESSAGE=Buffer: to be kept")
    assert state(reached) == bare_state
    assert reached.run(*kept).stdout == "Buffer: to be kept\n"
