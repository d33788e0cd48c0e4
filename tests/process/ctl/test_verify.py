"""`ackctl verify` without a journal; tests with journals: tests/system/test_ctl_journal.py."""

import subprocess
import sys
from pathlib import Path

import pytest

import ackd
from tests.support.ackctl_process import ackctl

CODE = Path(ackd.__file__).parents[1]


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
def test_a_host_without_python_systemd_is_reported(verb: tuple[str, ...]) -> None:
    # -S: Python without the packages that are installed for it.
    command = (sys.executable, "-S", "-m", "ackd.ctl", *verb)
    environment = {"PYTHONPATH": str(CODE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    error = "ackctl: reading the journal takes python3-systemd: install it\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", error)
