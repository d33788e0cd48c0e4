"""What `ackctl probe` remembers of authorities, whatever is wrong with the place for it."""

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ackd.client.end import Certificate
from ackd.ctl.probe.authorities import Authority, remember, remembered

SERVER = "ackd.example.org port 10008"


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of a user whose home is `tmp_path`."""
    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / ".local" / "state" / "ackctl" / "authorities.json"


def signed_by(name: str, organisation: str = "") -> Certificate:
    return Certificate("ackd", name, ("ackd.example.org",), 0, 1, organisation)


def test_an_authority_is_remembered(file: Path) -> None:
    assert remembered(SERVER) is None
    remember(SERVER, signed_by("R10", "Let's Encrypt"), 1000)
    remember("other port 1", signed_by("Test CA"), 1001.5)
    assert remembered(SERVER) == Authority("R10", "Let's Encrypt", 1000)
    remember(SERVER, signed_by("R11", "Let's Encrypt"), 2000)
    assert remembered(SERVER) == Authority("R11", "Let's Encrypt", 2000)
    assert remembered("other port 1") == Authority("Test CA", "", 1001.5)
    assert [each.name for each in file.parent.iterdir()] == [file.name]
    assert (file.stat().st_mode & 0o777, file.parent.stat().st_mode & 0o777) == (0o600, 0o700)


@pytest.mark.parametrize(
    ("certificate", "same"),
    [
        (signed_by("E8", "Example"), True),
        (signed_by("R10", "Other"), False),
        (signed_by("R10"), False),
        (signed_by("Example"), True),
    ],
)
def test_an_organisation_counts_and_not_the_name_of_its_authority(
    certificate: Certificate, same: bool
) -> None:
    assert Authority("R10", "Example", 0).signed(certificate) == same


def test_an_authority_without_organisation_counts_by_its_name() -> None:
    authority = Authority("Test CA", "", 0)
    assert authority.signed(signed_by("Test CA"))
    assert not authority.signed(signed_by("Firewall CA"))


def test_the_place_can_be_chosen(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "a" / "b"))
    remember(SERVER, signed_by("Test CA"), 1000)
    assert (tmp_path / "a" / "b" / "ackctl" / "authorities.json").exists()
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    assert remembered(SERVER) is None
    remember(SERVER, signed_by("Test CA"), 1000)
    assert file.exists()


RIGHT = {"name": "Test CA", "organisation": "", "seen": 1000}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 100,
        b"{" * 100_000,
        b"[" * 100_000,
        b"[]",
        b'{"ackd.example.org port 10008": 1}',
        b" " * 2_000_000 + json.dumps({SERVER: RIGHT}).encode(),
        *(
            json.dumps({SERVER: {**RIGHT, **wrong}}).encode()
            for wrong in (
                {"name": 1},
                {"organisation": None},
                {"seen": "1000"},
                {"seen": -1},
                {"seen": 1e300},
                {"seen": float("nan")},
                {"seen": 10**400},
            )
        ),
    ],
)
def test_a_damaged_file_is_as_none_and_is_replaced(file: Path, content: bytes) -> None:
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    assert remembered(SERVER) is None
    remember(SERVER, signed_by("Test CA"), 1000)
    assert json.loads(file.read_bytes()) == {SERVER: RIGHT}


def test_what_is_not_damaged_stays(file: Path) -> None:
    file.parent.mkdir(parents=True)
    other: dict[str, Any] = {"other port 1": RIGHT, "damaged port 1": {"name": "x"}}
    file.write_text(json.dumps(other))
    remember(SERVER, signed_by("Test CA"), 1000)
    assert json.loads(file.read_bytes()) == {"other port 1": RIGHT, SERVER: RIGHT}


def test_the_servers_that_were_seen_last_are_remembered(file: Path) -> None:
    file.parent.mkdir(parents=True)
    many = {f"s{number} port 1": {**RIGHT, "seen": number} for number in range(1, 1201)}
    file.write_text(json.dumps(many))
    remember(SERVER, signed_by("Test CA"), 2000)
    assert list(json.loads(file.read_bytes())) == [
        *(f"s{n} port 1" for n in range(202, 1201)),
        SERVER,
    ]


def make_directory(file: Path) -> None:
    (file / "below").mkdir(parents=True)


def make_parent_a_file(file: Path) -> None:
    file.parent.parent.mkdir(parents=True)
    file.parent.touch()


def leave_nothing_writable(file: Path) -> None:
    os.environ["XDG_STATE_HOME"] = "/proc/self/state"


def name_no_home(file: Path) -> None:
    os.environ["HOME"] = "/nonexistent"


def name_the_root(file: Path) -> None:
    os.environ["HOME"] = "/"


def remove_the_home(file: Path) -> None:
    del os.environ["HOME"]


@pytest.mark.parametrize(
    "spoil",
    [
        *(make_directory, make_parent_a_file, leave_nothing_writable),
        *(name_no_home, name_the_root, remove_the_home),
    ],
)
def test_without_a_place_nothing_is_remembered(file: Path, spoil: Any) -> None:
    spoil(file)
    remember(SERVER, signed_by("Test CA"), 1000)
    assert remembered(SERVER) is None
    assert not Path("/nonexistent").exists()
    assert not Path("/.local").exists()


def test_a_fifo_is_never_waited_for(file: Path) -> None:
    file.parent.mkdir(parents=True)
    os.mkfifo(file)
    assert remembered(SERVER) is None
    remember(SERVER, signed_by("Test CA"), 1000)
    assert remembered(SERVER)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_nothing_is_written_into_the_home_of_another_user(file: Path, tmp_path: Path) -> None:
    os.chown(tmp_path, 65534, 65534)
    remember(SERVER, signed_by("Test CA"), 1000)
    assert list(tmp_path.iterdir()) == []
