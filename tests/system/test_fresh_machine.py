"""README's commands, exactly as README shows them, on a minimal system of each release.

The system has git, make and ca-certificates, and otherwise only the packages of every Debian. All
packages come from a directory: see `minimal_root`.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pytest

from tests.support.readme import shows

from .support.base_root import Release
from .support.fresh import CHECKOUT, fresh_machine
from .support.machine import Host

RUN = "make run"
SEND = 'python3 -m ackd.ctl send "this data will send to server!"'
MAKE = "make deb"
INSTALL = "sudo apt install ./dist/*.deb"
INSTALL_CLIENT = "sudo apt install ./dist/python3-ackd_*.deb ./dist/ackctl_*.deb"
LISTENING = "listening on 127.0.0.1:10008 and [::1]:10008"


def in_checkout(command: str) -> tuple[str, ...]:
    """Return the words that run a command of README in the checkout; root needs no sudo."""
    assert shows(command), f"README does not show {command}"
    return ("sh", "-c", f"cd {CHECKOUT} && exec {command.removeprefix('sudo ')}")


def lines_until(output: IO[bytes], word: str) -> list[str]:
    """Return the lines up to the first line that contains a word."""
    lines: list[str] = []
    while not lines or word not in lines[-1]:
        line = output.readline().decode()
        assert line, f"no {word!r} in {lines}"
        lines.append(line.rstrip("\n"))
    return lines


@pytest.fixture(scope="module")
def fresh(release: Release) -> Iterator[Host]:
    """A machine on which the tests of this module run README's commands, one after another."""
    with fresh_machine(release) as host:
        yield host


@contextmanager
def running(fresh: Host) -> Iterator[tuple[IO[bytes], list[str]]]:
    """Start `make run`; yield its output, and the lines until ackd listens."""
    with fresh.popen(*in_checkout(RUN)) as make:
        assert make.stdout
        yield make.stdout, lines_until(make.stdout, "listening")
        make.terminate()  # make then ends ackd
        make.stdout.read()


def test_make_run_starts_ackd_and_shows_payloads(fresh: Host) -> None:
    with running(fresh) as (output, lines):
        # The installed packages, the command to send a line, and the first line of ackd.
        assert len(lines) == 3
        assert lines[-1].endswith(LISTENING)
        sent = fresh.run(*in_checkout(SEND))
        assert sent.stdout == "thank you client, you data is Received success\n"
        lines_until(output, "Buffer: this data will send to server!")


def test_make_run_with_a_port_in_use_prints_only_the_error(fresh: Host) -> None:
    with running(fresh):
        second = fresh.run(*in_checkout(RUN), check=False)
    assert second.returncode == 2
    assert len(second.stdout.splitlines()) == 1
    assert "can't listen on 127.0.0.1:10008 and [::1]:10008: Address already" in second.stderr
    assert len(second.stderr.splitlines()) == 2  # one of ackd, one of make


def test_make_deb_makes_three_packages_and_prints_little(fresh: Host) -> None:
    done = fresh.run(*in_checkout(MAKE), timeout=900)
    print(done.stdout)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) <= 6
    built = re.findall(r"^\./dist/(.*)_.*_all\.deb$", done.stdout, re.MULTILINE)
    assert built == ["ackctl", "ackd", "python3-ackd"]
    assert re.search(r"^=+ \d+ passed", fresh.run("cat", f"{CHECKOUT}/dist/build.log").stdout, re.M)


def test_a_failed_make_deb_names_its_log(fresh: Host) -> None:
    broken = f"rm -rf /srv/broken && cp -r {CHECKOUT} /srv/broken && echo nonsense >"
    fresh.run("sh", "-c", f"{broken} /srv/broken/debian/changelog")
    done = fresh.run("make", "-C", "/srv/broken", "deb", check=False)
    assert done.returncode == 2
    assert len((done.stdout + done.stderr).splitlines()) < 40
    assert "dist/build.log" in done.stderr


def test_the_packages_of_the_client_install_no_daemon(fresh: Host, release: Release) -> None:
    archive = fresh.run("tar", "-cC", CHECKOUT, "dist").stdout.encode(errors="surrogateescape")
    with fresh_machine(release) as client:
        client.run("tar", "-xC", CHECKOUT, input=archive)
        client.run("apt-get", "update")
        client.run(*in_checkout(INSTALL_CLIENT))
        installed = client.run("dpkg-query", "--show", "--showformat=${Package}\n").stdout.split()
        assert not {"ackd", "python3-daemon", "python3-yaml"} & set(installed)
        client.run("python3", "-c", "import ackd.client")
        assert client.run("ackctl", "send", "hello", check=False).returncode == 3
        for verb in ("ping", "probe", "bench", "verify", "log"):
            assert client.run("ackctl", verb, "--help").stderr == ""
        assert client.run("ackctl", "log", check=False).stderr.startswith("ackctl: ")


def test_apt_installs_the_packages(fresh: Host) -> None:
    fresh.run(*in_checkout(INSTALL))
    assert fresh.run("ackd", "--check-config").stdout == "ackd: /etc/ackd.yaml: good\n"
    assert fresh.run("ackctl", "send", "hello", check=False).returncode == 3
    fresh.run("python3", "-c", "import ackd.client")


def test_make_test_first_reports_that_a_plain_chroot_can_not_run_some_tests(fresh: Host) -> None:
    done = fresh.run("make", "-C", CHECKOUT, "obstacle")
    assert "no test can make a network or boot a Debian system" in done.stdout
    plan = fresh.run("make", "-C", CHECKOUT, "--dry-run", "test").stdout
    assert plan.index("tests/support/obstacle") < plan.index("pip install")
