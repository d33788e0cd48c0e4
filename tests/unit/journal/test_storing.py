"""Settings of journald and of a unit that drop payloads; a directory takes the place of `/`."""

import os
import shutil
from pathlib import Path

import pytest

from ackd.journal.storing import Storing

NOTHING = "the journal does not store payloads: "
NOT_ALL = "the journal does not store all payloads: "
MAIN = "etc/systemd/journald.conf"
UNLIMITED = {"log-rate-limit-interval": "1000000", "log-rate-limit-burst": "10000000"}


class Host:
    """The files of a host whose journald was started before any other file was written."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.socket = str(root / "run/systemd/journal/socket")
        self.environ = {"INVOCATION_ID": "00c0ffee"}
        for directory in ("journal", "units"):
            (root / "run/systemd" / directory).mkdir(parents=True)
        self.put("proc/self/cgroup", "9:name=systemd:/\n0::/system.slice/ackd.service\n")
        self.set_unit(invocation="00c0ffee", **UNLIMITED)

    def put(self, path: str, content: str | bytes) -> None:
        data = content.encode() if isinstance(content, str) else content
        (self.root / path).parent.mkdir(parents=True, exist_ok=True)
        (self.root / path).write_bytes(data)

    def set_unit(self, unit: str = "ackd.service", **values: str) -> None:
        for name, value in values.items():
            link = self.root / f"run/systemd/units/{name}:{unit}"
            link.unlink(missing_ok=True)
            link.symlink_to(value)

    def start_journald(self, name: str = "journald") -> None:
        self.set_unit(f"systemd-{name}.service", invocation="abad1dea")

    def storing(self, is_service: bool = True) -> Storing:
        return Storing(self.socket, self.environ, is_service=is_service, root=str(self.root))

    def obstacle(self, is_service: bool = True) -> str:
        storing = self.storing(is_service)
        storing.look()
        assert storing.unknown == ""
        return storing.obstacle


@pytest.fixture
def host(tmp_path: Path) -> Host:
    return Host(tmp_path)


def journal(*lines: str) -> str:
    return "".join(f"{line}\n" for line in ("[Journal]", *lines))


# journald's settings


def test_without_any_file_payloads_are_stored(host: Host) -> None:
    assert host.obstacle() == ""


@pytest.mark.parametrize("value", ["notice", "5", "0x5", "05", "+5", "emerg", "0"])
def test_a_level_below_info_stores_none(host: Host, value: str) -> None:
    host.put(MAIN, journal(f"MaxLevelStore={value}"))
    assert host.obstacle() == f"{NOTHING}MaxLevelStore={value} in /{MAIN}"


@pytest.mark.parametrize("value", ["info", "debug", "6", "7"])
def test_a_level_of_info_or_above_stores_all(host: Host, value: str) -> None:
    host.put(MAIN, journal(f"MaxLevelStore={value}"))
    assert host.obstacle() == ""


@pytest.mark.parametrize(
    "value",
    ["", "Notice", "8", "-1", "1.5", "notice # quiet", "'notice'", "err,", "0x", "09", "9" * 5000],
)
def test_values_that_journald_ignores_change_nothing(host: Host, value: str) -> None:
    host.put(MAIN, journal(f"MaxLevelStore={value}", f"Storage={value}"))
    assert host.obstacle() == ""
    host.put(MAIN, journal("MaxLevelStore=err", f"MaxLevelStore={value}"))
    assert host.obstacle() == f"{NOTHING}MaxLevelStore=err in /{MAIN}"


@pytest.mark.parametrize("value", ["auto", "volatile", "persistent"])
def test_every_kind_of_storage_stores_all(host: Host, value: str) -> None:
    host.put(MAIN, journal("Storage=none", f"Storage={value}"))
    assert host.obstacle() == ""


def test_no_storage_stores_none(host: Host) -> None:
    host.put(MAIN, journal("Storage=none"))
    assert host.obstacle() == f"{NOTHING}Storage=none in /{MAIN}"


# How journald reads a file


@pytest.mark.parametrize(
    "content",
    [
        "[Journal]\nMaxLevelStore = notice \n",
        "\ufeff[Journal]\nMaxLevelStore=notice\n",
        "[Journal]\r\nMaxLevelStore=notice\r\n",
        "[Journal]\n  MaxLevelStore=notice",
        "[Journal]\nMaxLevelStore=\\\nnotice\n",
        "[Journal]\nMaxLevelStore=\\\n# a comment within\nnotice\n",
        "[Other]\nMaxLevelStore=debug\n[Journal]\nMaxLevelStore=notice\n[X-Other]\nMaxLevelStore=debug",
        "[Journal]\nMaxLevelStore=notice\n#MaxLevelStore=debug\n ; MaxLevelStore=debug\n",
        "[Journal]\n=debug\nMaxLevelStore\nmaxlevelstore=debug\nMaxLevelStore=notice\n",
        "[Journal]\nMaxLevelStore=notice\n[Journal\nMaxLevelStore=debug\n",
        b"[Journal]\nMaxLevelStore=notice\n# \xe4\n\xe4=\nMaxLevelStore=debug\n",
        b"[Journal]\nMaxLevelStore=notice\0MaxLevelStore\n",
    ],
)
def test_a_file_is_read_as_journald_reads_it(host: Host, content: str | bytes) -> None:
    host.put(MAIN, content)
    assert host.obstacle() == f"{NOTHING}MaxLevelStore=notice in /{MAIN}"


@pytest.mark.parametrize(
    "content",
    [
        "MaxLevelStore=notice\n",
        "[journal]\nMaxLevelStore=notice\n",
        "# [Journal]\nMaxLevelStore=notice\n",
        "[Journal]\n#MaxLevelStore=notice\n",
        "[Journal]\n# a comment does not go on \\\nMaxLevelStore=notice\nMaxLevelStore=debug\n",
        "[Journal]\nCompress=\\\nMaxLevelStore=notice\n",
    ],
)
def test_lines_that_are_not_settings_of_journald_change_nothing(host: Host, content: str) -> None:
    host.put(MAIN, content)
    assert host.obstacle() == ""


def test_a_line_that_journald_can_not_read_ends_the_reading_of_all_files(host: Host) -> None:
    host.put(MAIN, journal("[Journal", "MaxLevelStore=notice"))
    host.put("etc/systemd/journald.conf.d/50.conf", journal("Storage=none"))
    assert host.obstacle() == ""


# The order of the files


def test_a_directory_ends_the_reading_of_all_files(host: Host) -> None:
    host.put("etc/systemd/journald.conf.d/10.conf", journal("Storage=none"))
    (host.root / "etc/systemd/journald.conf.d/20.conf").mkdir()
    host.put("etc/systemd/journald.conf.d/30.conf", journal("Storage=auto"))
    assert "Storage=none" in host.obstacle()


def test_a_drop_in_overrides_the_main_file(host: Host) -> None:
    host.put(MAIN, journal("MaxLevelStore=notice"))
    host.put("usr/lib/systemd/journald.conf.d/50.conf", journal("MaxLevelStore=debug"))
    assert host.obstacle() == ""


def test_the_drop_in_that_sorts_last_wins_wherever_it_is(host: Host) -> None:
    host.put("etc/systemd/journald.conf.d/10.conf", journal("Storage=none"))
    host.put("run/systemd/journald.conf.d/20.conf", journal("Storage=auto", "MaxLevelStore=3"))
    host.put("usr/local/lib/systemd/journald.conf.d/9.conf", journal("MaxLevelStore=4"))
    last = "usr/local/lib/systemd/journald.conf.d/9.conf"
    assert host.obstacle() == f"{NOTHING}MaxLevelStore=4 in /{last}"


@pytest.mark.parametrize(
    ("above", "below"), [("etc", "run"), ("run", "usr/local/lib"), ("usr/local/lib", "usr/lib")]
)
def test_a_drop_in_replaces_one_of_the_same_name(host: Host, above: str, below: str) -> None:
    host.put(f"{below}/systemd/journald.conf.d/50.conf", journal("Storage=none"))
    host.put(f"{above}/systemd/journald.conf.d/50.conf", journal("Compress=no"))
    assert host.obstacle() == ""


@pytest.mark.parametrize("target", ["/dev/null", "/nowhere"])
def test_a_drop_in_can_be_masked(host: Host, target: str) -> None:
    host.put("usr/lib/systemd/journald.conf.d/50.conf", journal("Storage=none"))
    mask = host.root / "etc/systemd/journald.conf.d/50.conf"
    mask.parent.mkdir(parents=True)
    mask.symlink_to(target)
    assert host.obstacle() == ""


def test_other_names_are_no_drop_ins(host: Host) -> None:
    host.put("etc/systemd/journald.conf.d/50.conf.dpkg-old", journal("Storage=none"))
    host.put("etc/systemd/journald.conf.d/.50.conf", journal("Storage=none"))
    host.put("etc/systemd/journald.d/50.conf", journal("Storage=none"))
    assert host.obstacle() == ""


def test_the_first_main_file_is_the_only_one(host: Host) -> None:
    host.put("usr/lib/systemd/journald.conf", journal("Storage=none"))
    assert host.obstacle() == f"{NOTHING}Storage=none in /usr/lib/systemd/journald.conf"
    host.put(MAIN, journal())
    assert host.obstacle() == ""


# The kernel's command line


@pytest.mark.parametrize(
    "option",
    ["systemd.journald.max_level_store=notice", "systemd.journald.max-level-store=5"],
)
def test_the_kernels_command_line_overrides_the_files(host: Host, option: str) -> None:
    host.put(MAIN, journal("MaxLevelStore=debug"))
    host.put("proc/cmdline", f"root=/dev/vda quiet {option}\n")
    assert host.obstacle() == f"{NOTHING}{option} on the kernel command line"


def test_the_kernels_command_line_can_store_more(host: Host) -> None:
    host.put(MAIN, journal("MaxLevelStore=notice"))
    host.put("proc/cmdline", 'systemd.journald.max_level_store="debug"')
    assert host.obstacle() == ""


@pytest.mark.parametrize("option", ["", "=", "=what", "rd.systemd.journald.max_level_store=err"])
def test_kernel_options_that_journald_ignores_change_nothing(host: Host, option: str) -> None:
    host.put("proc/cmdline", f"systemd.journald.max_level_store{option}")
    assert host.obstacle() == ""


def test_in_a_container_the_command_line_is_that_of_its_init(host: Host) -> None:
    host.put("run/systemd/container", "systemd-nspawn")
    host.put("proc/cmdline", "systemd.journald.max_level_store=err")
    host.put("proc/1/cmdline", "/sbin/init\0systemd.journald.max_level_store=notice\0")
    option = "systemd.journald.max_level_store=notice"
    assert host.obstacle() == f"{NOTHING}{option} on the kernel command line"


def test_the_credential_has_the_command_line_that_the_sandbox_hides(host: Host) -> None:
    host.environ["CREDENTIALS_DIRECTORY"] = str(host.root / "run/credentials/ackd.service")
    host.put(
        "run/credentials/ackd.service/kernel-command-line",
        "systemd.journald.max_level_store=crit",
    )
    option = "systemd.journald.max_level_store=crit"
    assert host.obstacle() == f"{NOTHING}{option} on the kernel command line"


# The unit


@pytest.mark.parametrize(("number", "name"), [("5", "notice"), ("0", "emerg")])
def test_the_units_own_level_stores_none(host: Host, number: str, name: str) -> None:
    host.set_unit(**{"log-level-max": number})
    assert host.obstacle() == f"{NOTHING}LogLevelMax={name} of ackd.service"


@pytest.mark.parametrize("number", ["6", "7", "8", "notice", "-1"])
def test_the_units_own_level_stores_all(host: Host, number: str) -> None:
    host.set_unit(**{"log-level-max": number})
    assert host.obstacle() == ""


def test_the_units_own_rate_limit_stores_some(host: Host) -> None:
    host.set_unit(**{"log-rate-limit-burst": "10"})
    limit = "LogRateLimitBurst=10 of ackd.service, LogRateLimitIntervalSec=1s of ackd.service"
    assert host.obstacle() == NOT_ALL + limit


def without_limits(host: Host) -> None:
    for name in UNLIMITED:
        (host.root / f"run/systemd/units/{name}:ackd.service").unlink()


def test_without_a_limit_of_the_unit_that_of_journald_is_in_force(host: Host) -> None:
    without_limits(host)
    limit = "RateLimitBurst=10000 by default, RateLimitIntervalSec=30s by default"
    assert host.obstacle() == NOT_ALL + limit
    host.put(MAIN, journal("RateLimitBurst=20", "RateLimitInterval=1min 30s"))
    limit = f"RateLimitBurst=20 in /{MAIN}, RateLimitInterval=1min 30s in /{MAIN}"
    assert host.obstacle() == NOT_ALL + limit


@pytest.mark.parametrize(
    "limit",
    [
        ("RateLimitIntervalSec=0",),
        ("RateLimitBurst=0",),
        ("RateLimitIntervalSec=0s 0ms",),
        ("RateLimitIntervalSec=0.5", "RateLimitBurst=50000"),
        ("RateLimitIntervalSec=500 ms", "RateLimitBurst=0xffffffff"),
    ],
)
def test_a_limit_that_is_never_reached_stores_all(host: Host, limit: tuple[str, ...]) -> None:
    without_limits(host)
    host.put(MAIN, journal(*limit))
    assert host.obstacle() == ""


@pytest.mark.parametrize(
    "span", ["", "1 parsec", "-1", "s", "1.", "30sec,", "infinity and beyond", "9" * 500]
)
def test_a_span_that_journald_ignores_changes_nothing(host: Host, span: str) -> None:
    without_limits(host)
    host.put(MAIN, journal("RateLimitIntervalSec=0", f"RateLimitIntervalSec={span}"))
    assert host.obstacle() == ""


def test_a_missing_half_of_the_units_limit_is_that_of_journald(host: Host) -> None:
    (host.root / "run/systemd/units/log-rate-limit-interval:ackd.service").unlink()
    host.put(MAIN, journal("RateLimitIntervalSec=infinity"))
    limit = f"LogRateLimitBurst=10000000 of ackd.service, RateLimitIntervalSec=infinity in /{MAIN}"
    assert host.obstacle() == NOT_ALL + limit
    host.put(MAIN, journal("RateLimitBurst=0"))  # this sets the interval to 0 too
    assert host.obstacle() == ""


def test_a_rate_limit_counts_only_for_a_service(host: Host) -> None:
    without_limits(host)
    assert host.obstacle(is_service=False) == ""


@pytest.mark.parametrize(
    "cgroup",
    [
        "0::/\n",
        "",
        "4:memory:/system.slice/ackd.service\n",
        "0::/user.slice/user-1000.slice/session-1.scope\n",
        "0::/machine.slice/machine-guest.scope/payload/system.slice/ackd.service\n",
        "0::/system.slice/cron.service\n",
    ],
)
def test_a_unit_that_may_not_be_the_unit_of_ackd_does_not_count(host: Host, cgroup: str) -> None:
    host.put("proc/self/cgroup", cgroup)
    host.set_unit("ackd.service", **{"log-level-max": "0", "log-rate-limit-burst": "1"})
    host.set_unit("cron.service", **{"log-level-max": "0", "invocation": "0ddba11"})
    assert host.obstacle() == ""


@pytest.mark.parametrize(
    "cgroup",
    [
        "/system.slice/system-ackd.slice/ackd@lab.service",
        "/ackd@lab.service",
        "/ackd@lab.service/below",
    ],
)
def test_the_unit_of_an_instance_is_found_in_any_slice(host: Host, cgroup: str) -> None:
    host.put("proc/self/cgroup", f"0::{cgroup}\n")
    host.set_unit("ackd@lab.service", **{"log-level-max": "4", "invocation": "00c0ffee"})
    assert host.obstacle() == f"{NOTHING}LogLevelMax=warning of ackd@lab.service"


# Namespaces


@pytest.fixture
def in_namespace(host: Host) -> Host:
    """A host with a namespace, and an ackd that records there."""
    (host.root / "run/systemd/journal.lab").mkdir()
    host.socket = str(host.root / "run/systemd/journal.lab/socket")
    host.put(MAIN, journal("Storage=none"))
    host.put("proc/cmdline", "systemd.journald.max_level_store=err")
    return host


def test_a_namespace_has_files_of_its_own_and_no_kernel_options(in_namespace: Host) -> None:
    assert in_namespace.obstacle() == ""
    in_namespace.put("etc/systemd/journald@lab.conf.d/50.conf", journal("Storage=none"))
    where = "in /etc/systemd/journald@lab.conf.d/50.conf"
    assert in_namespace.obstacle() == f"{NOTHING}Storage=none {where}"


def test_a_namespace_behind_the_path_of_the_systems_journal_is_found(in_namespace: Host) -> None:
    (in_namespace.root / "run/systemd/journal").rmdir()
    (in_namespace.root / "run/systemd/journal").symlink_to("journal.lab")
    in_namespace.socket = str(in_namespace.root / "run/systemd/journal/socket")
    assert in_namespace.obstacle() == ""
    in_namespace.put("run/systemd/journald@lab.conf", journal("MaxLevelStore=2"))
    assert in_namespace.obstacle() == f"{NOTHING}MaxLevelStore=2 in /run/systemd/journald@lab.conf"


@pytest.mark.parametrize("socket", ["/elsewhere/socket", "socket"])
def test_the_settings_behind_another_socket_are_unknown(host: Host, socket: str) -> None:
    host.put(MAIN, journal("Storage=none"))
    host.set_unit(**{"log-level-max": "0"})
    host.socket = socket
    assert host.obstacle() == ""


def test_the_settings_of_the_hosts_journal_are_unknown_in_a_container(host: Host) -> None:
    host.put(MAIN, journal("Storage=none"))
    shutil.rmtree(host.root / "run/systemd/units")
    assert host.obstacle() == ""


# Unknown settings


def await_next_tick(host: Host) -> None:
    """Wait until a new file has a later time than journald's start: some milliseconds."""
    started = host.root / "run/systemd/units/invocation:systemd-journald.service"
    clock = host.root / "clock"
    clock.touch()
    while clock.stat().st_ctime <= started.lstat().st_ctime:
        clock.chmod(0o600)


def test_a_file_that_has_changed_since_journald_started_is_not_in_force(host: Host) -> None:
    host.put(MAIN, journal())
    host.start_journald()
    await_next_tick(host)
    host.put(MAIN, journal("Storage=none"))
    storing = host.storing()
    storing.look()
    assert storing.obstacle == ""
    assert storing.unknown == f"{host.root / MAIN} has changed since journald was started"
    storing.look_at_new()  # as after the start of another journald
    assert storing.obstacle == f"{NOTHING}Storage=none in /{MAIN}"
    assert storing.unknown == ""


def test_the_settings_before_a_change_stay_in_force(host: Host) -> None:
    host.put(MAIN, journal("Storage=none"))
    host.start_journald()
    storing = host.storing()
    storing.look()
    await_next_tick(host)
    host.put(MAIN, journal())
    storing.look()
    assert storing.obstacle == f"{NOTHING}Storage=none in /{MAIN}"
    host.start_journald()
    storing.look()
    assert storing.obstacle == ""


def test_a_drop_in_that_was_removed_since_then_is_still_in_force(host: Host) -> None:
    drop_in = host.root / "etc/systemd/journald.conf.d/50.conf"
    host.put(MAIN, journal("Storage=none"))
    host.put("etc/systemd/journald.conf.d/50.conf", journal("Storage=auto"))
    host.start_journald()
    await_next_tick(host)
    drop_in.unlink()
    storing = host.storing()
    storing.look()
    assert storing.obstacle == ""
    assert storing.unknown == f"{drop_in.parent} has changed since journald was started"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read all files")
def test_a_file_that_may_not_be_read_is_no_reason_to_refuse(host: Host) -> None:
    host.put(MAIN, journal("Storage=none"))
    (host.root / MAIN).chmod(0)
    storing = host.storing()
    storing.look()
    assert storing.obstacle == ""
    assert storing.unknown == f"{host.root / MAIN}: Permission denied"


def make_fifo(host: Host, path: str) -> str:
    """Make a file that ackd does not read, and return why its settings are unknown."""
    (host.root / path).parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(host.root / path)
    return f"{host.root / path} is not a regular file"


def test_a_fifo_is_no_reason_to_refuse_or_to_wait(host: Host) -> None:
    host.put(MAIN, journal("Storage=none"))
    why = make_fifo(host, "etc/systemd/journald.conf.d/50.conf")
    storing = host.storing()
    descriptors = os.listdir("/proc/self/fd")
    storing.look()
    assert (storing.obstacle, storing.unknown) == ("", why)
    assert os.listdir("/proc/self/fd") == descriptors


def test_unknown_settings_are_logged_once(host: Host, caplog: pytest.LogCaptureFixture) -> None:
    why = make_fifo(host, MAIN)
    storing = host.storing()
    storing.look()
    storing.look()
    assert caplog.messages == [f"can't find out whether the journal stores payloads: {why}"]


def test_the_unit_counts_even_if_the_settings_of_journald_are_unknown(host: Host) -> None:
    make_fifo(host, MAIN)
    host.set_unit(**{"log-level-max": "3"})
    storing = host.storing()
    storing.look()
    assert storing.obstacle == f"{NOTHING}LogLevelMax=err of ackd.service"


def test_a_limit_with_an_unknown_half_is_no_reason_to_refuse(host: Host) -> None:
    make_fifo(host, MAIN)
    without_limits(host)
    host.set_unit(**{"log-rate-limit-burst": "10"})
    storing = host.storing()
    storing.look()
    assert storing.obstacle == ""


def test_the_reason_fits_on_one_line(host: Host) -> None:
    host.put("etc/systemd/journald.conf.d/a\nb.conf", journal("Storage=none"))
    where = r"in /etc/systemd/journald.conf.d/a\nb.conf"
    assert host.obstacle() == f"{NOTHING}Storage=none {where}"
