"""The metrics of ackd, as Debian's prometheus-node-exporter passes them on to Prometheus."""

import re
from collections.abc import Iterator

import pytest

from .support.base_root import EXPORTER, Release
from .support.install import BIND, install
from .support.machine import MACHINE_ADDRESS, Machine, boot, wait_until

DIRECTORY = "/var/lib/prometheus/node-exporter"
FILE = f"{DIRECTORY}/ackd.prom"
SCRAPE = """
import urllib.request
print(urllib.request.urlopen("http://127.0.0.1:9100/metrics").read().decode())
"""


@pytest.fixture(scope="module")
def exporter() -> Iterator[Machine]:
    """A machine with two ackd, and an exporter that has a directory for the metrics of others.

    Of one release only: a base for the other one would take minutes to build, and the exporter
    reads the files of both in the same way.
    """
    with boot(Release.TRIXIE, tools=EXPORTER) as machine:
        install(machine)
        machine.put("/etc/ackd.yaml", BIND)
        machine.put("/etc/ackd/north.yaml", f"{BIND}port: 10009\n")
        machine.run("systemctl", "enable", "--now", "ackd", "ackd@north")
        yield machine


def write(machine: Machine) -> None:
    done = machine.run("systemctl", "start", "ackd-metrics.service", check=False)
    why = ("journalctl", "--no-pager", "-n", "20", "-u", "ackd-metrics.service")
    assert done.returncode == 0, machine.run(*why).stdout


def scraped(machine: Machine) -> dict[str, float]:
    """Return what the exporter gives Prometheus of ackd, and of the file: values by samples."""
    text = machine.python(SCRAPE).stdout
    assert re.search("^node_textfile_scrape_error 0$", text, re.MULTILINE)
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("ackd_"))
    return {name: float(value) for name, value in pairs}


def of(unit: str, samples: dict[str, float]) -> dict[str, float]:
    """Return the samples of a unit, by their names without that label."""
    label = f'unit="{unit}"'
    return {
        re.sub(r"\{\}|,(?=\})|(?<=\{),", "", name.replace(label, "")): value
        for name, value in samples.items()
        if label in name
    }


def test_the_exporter_passes_the_metrics_on(exporter: Machine) -> None:
    for port, payloads in (("10008", "abc"), ("10009", "de")):
        exporter.run("ackctl", "send", "--host", MACHINE_ADDRESS, "--port", port, *payloads)
    write(exporter)
    samples = scraped(exporter)
    first, second = of("ackd.service", samples), of("ackd@north.service", samples)
    assert (first["ackd_up"], second["ackd_up"]) == (1, 1)
    assert first["ackd_payloads_acknowledged_total"] == 3
    assert second["ackd_payloads_acknowledged_total"] == 2
    assert first["ackd_journal_reachable"] == 1
    assert first["ackd_start_time_seconds"] > 1.7e9
    assert first['ackd_log_records_total{cursor="appended"}'] >= 3
    assert exporter.run("stat", "--format=%a %U", FILE).stdout == "644 root\n"


def test_one_that_is_stopped_is_down_and_its_last_values_are_gone(exporter: Machine) -> None:
    write(exporter)
    exporter.run("systemctl", "stop", "ackd@north")
    write(exporter)
    assert of("ackd@north.service", scraped(exporter)) == {"ackd_up": 0}
    exporter.run("systemctl", "start", "ackd@north")
    write(exporter)
    assert of("ackd@north.service", scraped(exporter))["ackd_up"] == 1


def test_one_that_hangs_is_down(exporter: Machine) -> None:
    exporter.run("systemctl", "kill", "--signal=STOP", "ackd")
    write(exporter)
    exporter.run("systemctl", "kill", "--signal=CONT", "ackd")
    samples = scraped(exporter)
    assert of("ackd.service", samples) == {"ackd_up": 0}
    assert of("ackd@north.service", samples)["ackd_up"] == 1


def test_one_that_is_switched_off_for_good_is_not_reported(exporter: Machine) -> None:
    exporter.run("systemctl", "disable", "--now", "ackd@north")
    write(exporter)
    assert of("ackd@north.service", scraped(exporter)) == {}
    exporter.run("systemctl", "start", "ackd@north")  # by hand, not at boot
    write(exporter)
    assert of("ackd@north.service", scraped(exporter))["ackd_up"] == 1
    exporter.run("systemctl", "enable", "ackd@north")


def test_the_timer_writes_and_logs_nothing(exporter: Machine) -> None:
    exporter.run("rm", "-f", FILE)
    exporter.put(
        "/etc/systemd/system/ackd-metrics.timer.d/soon.conf",
        "[Timer]\nOnCalendar=\nOnCalendar=*:*:*\n",
    )
    before = exporter.journal("-u", "ackd-metrics.service")
    exporter.run("systemctl", "daemon-reload")
    exporter.run("systemctl", "enable", "--now", "ackd-metrics.timer")

    def written() -> bool:
        return exporter.run("test", "-s", FILE, check=False).returncode == 0

    for _ in range(2):
        wait_until("the timer has written the file", written, timeout=60)
        exporter.run("rm", FILE)
    exporter.run("systemctl", "disable", "--now", "ackd-metrics.timer")
    write(exporter)  # or wait for the end of what the timer has started
    assert exporter.journal("-u", "ackd-metrics.service") == before
    assert exporter.run("ls", DIRECTORY).stdout.split() in ([], ["ackd.prom"])


def test_without_the_directory_nothing_is_done(exporter: Machine) -> None:
    exporter.run("mv", DIRECTORY, f"{DIRECTORY}.away")
    write(exporter)
    assert exporter.run("ls", DIRECTORY, check=False).returncode
    show = ("systemctl", "show", "--property=Result", "--value", "ackd-metrics.service")
    assert exporter.run(*show).stdout == "success\n"
    exporter.run("mv", f"{DIRECTORY}.away", DIRECTORY)
    write(exporter)
    assert of("ackd.service", scraped(exporter))["ackd_up"] == 1


def test_without_the_right_to_ask_the_file_stays_as_it_is(exporter: Machine) -> None:
    exporter.run("install", "-d", "-o", "nobody", "/var/tmp/metrics")
    path = "/var/tmp/metrics/ackd.prom"
    as_nobody = ("setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups")
    done = exporter.run(*as_nobody, "ackctl", "status", "--textfile", path, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("ackctl: ")
    assert exporter.run("ls", "/var/tmp/metrics").stdout == ""


def test_the_exposure_of_the_service_is_at_most_1(exporter: Machine) -> None:
    done = exporter.run("systemd-analyze", "security", "ackd-metrics.service")
    match = re.search(r"level for ackd-metrics.service: ([0-9.]+)", done.stdout)
    assert match
    assert float(match[1]) <= 1
