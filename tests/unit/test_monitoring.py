"""The examples for monitoring systems name options and metrics that exist."""

import re
import shlex

import pytest

from ackd.ctl import main as ctl
from tests.support.project import PROJECT

EXAMPLES = PROJECT / "examples" / "monitoring"
# A command of ackctl, up to the end of the line or of the shell's substitution.
COMMAND = re.compile(r"/usr/bin/ackctl (check .*?)(?:\)|$)", re.MULTILINE)
COMMANDS = [
    (path.name, command)
    for path in EXAMPLES.iterdir()
    for command in COMMAND.findall(path.read_text())
]


@pytest.mark.parametrize(("path", "command"), COMMANDS)
def test_each_command_can_be_typed(path: str, command: str) -> None:
    # The macros of Nagios, and the parameters of Zabbix.
    words = shlex.split(re.sub(r"\$\w+\$?", "1", command))
    assert ctl.parser().parse_args(words).timeout < {"zabbix.conf": 3}.get(path, 60)


def test_the_command_of_icinga_has_all_options_of_the_check() -> None:
    check = ctl.parser("check").parse_args(["check"]).parser
    known = {option for action in check._actions for option in action.option_strings}
    text = (EXAMPLES / "icinga2.conf").read_text()
    assert set(re.findall(r'^    "(-.+?)" = ', text, re.MULTILINE)) == known - {"-h", "--help"}


def test_each_example_has_a_command() -> None:
    without = {path.name for path in EXAMPLES.iterdir()} - {path for path, _ in COMMANDS}
    assert without == {"icinga2.conf"}
