"""The examples for monitoring systems name options and metrics that exist."""

import re
import shlex
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from ackd.ctl import main as ctl
from ackd.ctl.status.metrics import METRICS, to_prometheus
from ackd.status import DaemonStatus, Durations
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
    assert without == {"icinga2.conf", "alerts.yml"}


# Rules of Prometheus

ALERTS = EXAMPLES / "alerts.yml"
# Those of node_exporter itself.
OTHERS = {"node_textfile_mtime_seconds"}


def rules() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load(ALERTS.read_text())["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


def exported() -> set[str]:
    """Return the names of all samples, as the textfile collector knows them."""
    full = to_prometheus({"ackd.service": DaemonStatus(commits=Durations(p99=1.0))})
    ends = {f"{each.name}{each.type.value}" for each in METRICS}
    return set(re.findall(r"^(ackd_\w+)", full, re.MULTILINE)) | ends


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: str(rule["alert"]))
def test_each_alert_is_about_metrics_that_exist(rule: dict[str, Any]) -> None:
    without_labels = re.sub(r"\{.*?\}|\[.*?\]", "", rule["expr"])
    named = set(re.findall(r"[a-z]+_[a-z_]+", without_labels))
    assert named
    assert named <= exported() | OTHERS
    assert rule.keys() <= {"alert", "expr", "for", "annotations"}
    labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert labels <= {"instance", "unit", "name"}
    assert ("name" in labels) <= ("certificate" in rule["expr"])


@pytest.mark.skipif(not shutil.which("promtool"), reason="promtool is not installed")
def test_prometheus_takes_the_alerts() -> None:
    subprocess.run(["promtool", "check", "rules", ALERTS], check=True, capture_output=True)
