"""`ackctl verify` before it comes to a journal; on real ones: tests/system/test_ctl_journal.py."""

import subprocess
import sys
from pathlib import Path

import pytest

import ackd
from tests.support.ackctl_process import ackctl

CODE = Path(ackd.__file__).parents[1]


@pytest.mark.parametrize("name", ["", "1a2b/3c4d", "two words", "ü"])
def test_not_everything_is_the_name_of_a_run(name: str) -> None:
    status, out, err = ackctl("verify", name)
    assert (status, out) == (2, "")
    assert f"argument RUN: {name!r} is not 1 to 64 letters, digits, '.', '_' or '-'" in err


def test_a_run_must_be_named() -> None:
    status, out, err = ackctl("verify")
    assert (status, out) == (2, "")
    assert err.endswith("the following arguments are required: RUN\n")


@pytest.mark.parametrize("verb", [("verify", "1a2b3c4d"), ("log",)])
def test_a_host_without_python_systemd_is_told_what_to_install(verb: tuple[str, ...]) -> None:
    # -S: Python as it is, without what has been installed for it.
    command = (sys.executable, "-S", "-m", "ackd.ctl", *verb)
    environment = {"PYTHONPATH": str(CODE)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    told = "ackctl: reading the journal takes python3-systemd: install it\n"
    assert (done.returncode, done.stdout, done.stderr) == (2, "", told)
