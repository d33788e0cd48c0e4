"""The files of the packages agree with the code."""

import re
import subprocess

import pytest

import ackd
from ackd.records import Kind
from ackd.status_names import socket_path
from tests.support.project import PROJECT

PACKAGING = PROJECT / "packaging"
CHANGELOG = PROJECT / "debian" / "changelog"


@pytest.mark.parametrize("kind", list(Kind), ids=lambda kind: str(kind.name))
def test_the_catalog_explains_each_kind_of_record(kind: Kind) -> None:
    catalog = (PACKAGING / "ackd.catalog").read_text()
    assert catalog.count(f"-- {kind.value}\nSubject: ") == 1


def test_the_template_unit_differs_only_by_its_configuration() -> None:
    first = (PACKAGING / "ackd.service").read_text().splitlines()
    second = (PACKAGING / "ackd@.service").read_text().splitlines()
    different = [(a, b) for a, b in zip(first, second, strict=True) if a != b]
    assert different == [
        (
            "Description=Record lines that arrive over TCP, and acknowledge them",
            "Description=Record lines that arrive over TCP, and acknowledge them (%i)",
        ),
        ("Wants=ackd-status.socket", "Wants=ackd-status@%i.socket"),
        (
            "ExecStart=/usr/sbin/ackd",
            "ExecStart=/usr/sbin/ackd --config /etc/ackd/%i.yaml",
        ),
    ]


@pytest.mark.parametrize("kind", ["socket", "service"])
def test_the_status_units_of_an_instance_differ_only_by_its_name(kind: str) -> None:
    one = (PACKAGING / f"ackd-status.{kind}").read_text()
    instance = (PACKAGING / f"ackd-status@.{kind}").read_text()
    pairs = zip(one.splitlines(), instance.splitlines(), strict=True)
    different = [(a, b) for a, b in pairs if a != b]
    assert different
    for line, of_instance in different:
        assert of_instance.replace("@%i", "").replace(" (%i)", "") == line


@pytest.mark.parametrize("name", ["", "@two"])
def test_the_status_sockets_have_the_paths_where_ackctl_asks(name: str) -> None:
    unit = (PACKAGING / f"ackd-status{'@' if name else ''}.socket").read_text()
    assert f"\nListenStream={socket_path(name)}\n" in unit.replace("%i", "two")


@pytest.mark.parametrize("script", ["seal", "own-journal", "durable", "tls"])
@pytest.mark.parametrize("arguments", [["--undoo"], ["--undo", "more"], [""], ["--help", "--undo"]])
def test_a_switch_rejects_arguments_that_it_does_not_know(
    script: str, arguments: list[str]
) -> None:
    command = ["sh", str(PACKAGING / script), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


@pytest.mark.parametrize("script", ["seal", "own-journal", "durable", "tls"])
def test_a_switch_shows_its_usage(script: str) -> None:
    command = ["sh", str(PACKAGING / script), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("usage: ")


@pytest.mark.parametrize("arguments", [["c"], ["", "k"], ["c", ""], ["c", "k", ""], list("abcd")])
def test_the_switch_of_tls_needs_two_or_three_files(arguments: list[str]) -> None:
    command = ["sh", str(PACKAGING / "tls"), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("usage: ")


def test_debians_changelog_names_this_version() -> None:
    # A rebuild by Debian can append to the version: +nmu1, ~bpo13+1.
    newest = re.match(r"ackd \(([0-9.]+)[^)]*\) ", CHANGELOG.read_text())
    assert newest
    assert newest[1] == ackd.__version__


def test_no_tag_of_lintian_is_overridden() -> None:
    assert list((PROJECT / "debian").rglob("*lintian-overrides")) == []
