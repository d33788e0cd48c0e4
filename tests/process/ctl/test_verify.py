"""`ackctl verify` without a journal; tests with journals: tests/system/test_ctl_journal.py."""

from pathlib import Path

import pytest

from tests.support.ackctl_process import ackctl, ackctl_alone


@pytest.mark.parametrize("name", ["", "1a2b/3c4d", "two words", "ü"])
def test_an_invalid_name_of_a_run_is_reported(name: str) -> None:
    status, out, err = ackctl("verify", name)
    assert (status, out) == (2, "")
    assert f"argument RUN: {name!r} is not 1 to 64 letters, digits, '.', '_' or '-'" in err


def test_the_name_of_a_run_is_required() -> None:
    status, out, err = ackctl("verify")
    assert (status, out) == (2, "")
    assert err.endswith("the following arguments are required: RUN\n")


@pytest.mark.parametrize("verb", [("verify", "1a2b3c4d"), ("log",)])
def test_a_host_without_python_systemd_is_reported(verb: tuple[str, ...], tmp_path: Path) -> None:
    error = "ackctl: reading the journal takes python3-systemd: install it\n"
    assert ackctl_alone(tmp_path, *verb) == (2, "", error)
