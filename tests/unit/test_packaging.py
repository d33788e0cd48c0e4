"""The files of the packages agree with the code."""

import re

import pytest

import ackd
from ackd.records import Kind
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
        (
            "ExecStart=/usr/sbin/ackd",
            "ExecStart=/usr/sbin/ackd --config /etc/ackd/%i.yaml",
        ),
    ]


def test_debians_changelog_names_this_version() -> None:
    # A rebuild by Debian can append to the version: +nmu1, ~bpo13+1.
    newest = re.match(r"ackd \(([0-9.]+)[^)]*\) ", CHANGELOG.read_text())
    assert newest
    assert newest[1] == ackd.__version__


def test_no_tag_of_lintian_is_overridden() -> None:
    assert list((PROJECT / "debian").rglob("*lintian-overrides")) == []
