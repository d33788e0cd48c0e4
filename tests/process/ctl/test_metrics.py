"""`ackctl status --openmetrics` and `--textfile` with a real ackd that systemd has not started."""

import os
from collections.abc import Callable
from pathlib import Path
from stat import S_IMODE
from typing import Any

import pytest

from tests.conftest import StartDaemon
from tests.support.ackctl_process import ackctl

pytest.importorskip("prometheus_client", reason="needs python3-prometheus-client")

import prometheus_client.openmetrics.parser

# Without the annotation it is an untyped function.
PARSE: Callable[[str], Any] = prometheus_client.openmetrics.parser.text_string_to_metric_families


def samples(text: str) -> dict[str, float]:
    """Return the values of all samples without a reason, a cursor and the like."""
    found = [sample for metric in PARSE(text) for sample in metric.samples]
    return {each.name: each.value for each in found if each.labels.keys() <= {"unit"}}


def test_the_metrics_are_those_of_the_running_ackd(start: StartDaemon) -> None:
    ackd = start("max_payload: 5\nmax_connections: 7")
    with ackd.peer() as peer:
        peer.send(b"one\ntwo\nmuch too long\n")
        ackd.journal.payloads(2)
        peer.half_close()
        peer.read_to_loss()
        status, text, complaint = ackctl("status", str(ackd.process.pid), "--openmetrics")
    assert (status, complaint) == (0, "")
    found = samples(text)
    assert found["ackd_up"] == 1
    assert found["ackd_payloads_acknowledged_total"] == 2
    assert found["ackd_payloads_refused_total"] == 1
    assert found["ackd_connections_total"] == 1
    assert found["ackd_clients_limit"] == 7
    assert found["ackd_received_bytes_total"] == len("one\ntwo\nmuch too long\n")
    assert (
        'ackd_payloads_refused_by_reason_total{unit="",reason="longer than max_payload"} 1' in text
    )


def test_an_ackd_that_does_not_run_is_down() -> None:
    status, text, complaint = ackctl("status", str(os.getpid()), "--openmetrics")
    assert (status, complaint) == (0, "")
    assert samples(text) == {"ackd_up": 0}


def test_the_file_is_replaced_as_a_whole(start: StartDaemon, tmp_path: Path) -> None:
    ackd = start()
    directory = tmp_path / "node-exporter"
    directory.mkdir()
    path = directory / "ackd.prom"
    path.write_text("old")
    with path.open() as old:
        ended = ackctl("status", str(ackd.process.pid), "--textfile", str(path), before=MASK)
        assert old.read() == "old"
    assert ended == (0, "", "")
    assert path.read_text().startswith("# HELP ackd_up ")
    assert S_IMODE(path.stat().st_mode) == 0o644
    assert [each.name for each in directory.iterdir()] == ["ackd.prom"]


# All may read the file, whatever the umask is.
MASK = ("sh", "-c", 'umask 077; exec "$@"', "sh")


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("/nonexistent/ackd.prom", "/nonexistent/ackd.prom: No such file or directory"),
        ("/proc/ackd.prom", "/proc/ackd.prom: "),
        ("", "an empty name: "),
    ],
)
def test_a_file_that_can_not_be_written_is_reported(
    path: str, reason: str, start: StartDaemon
) -> None:
    ackd = start()
    status, out, complaint = ackctl("status", str(ackd.process.pid), "--textfile", path)
    assert (status, out) == (2, "")
    assert complaint.startswith(f"ackctl: --textfile: {reason}")


def test_metrics_can_not_be_watched(start: StartDaemon) -> None:
    status, out, complaint = ackctl("status", "--watch", "--openmetrics")
    assert (status, out) == (2, "")
    assert "error: metrics can't be watched\n" in complaint
