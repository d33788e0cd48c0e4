"""`ackctl verify` finds the runs of `ackctl ping`, `probe` and `bench` as those report them."""

import json
import re
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import Any
from xml.etree import ElementTree

import pytest

from ackd.records import Kind

from .support.install import BIND
from .support.machine import MACHINE_ADDRESS, Machine, Process

JsonObject = dict[str, Any]

HOST = ("--host", MACHINE_ADDRESS)


def configure(machine: Machine, settings: str) -> None:
    machine.put("/etc/ackd.yaml", BIND + settings)
    machine.run("systemctl", "reload", "ackd")


def ackctl(machine: Machine, *arguments: str, status: int = 0) -> JsonObject:
    """Run ackctl with --json, check its exit status, and return its last JSON object."""
    done = machine.run("ackctl", *arguments, "--json", check=False)
    printed: JsonObject = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, printed["status"]) == (status, status)
    assert len(done.stderr.splitlines()) == (arguments[0] != "verify" and status != 0)
    return printed


def verified(machine: Machine, printed: JsonObject) -> JsonObject:
    """Check that `verify` finds all acknowledged payloads of a run, and return its JSON object."""
    found = ackctl(machine, "verify", printed["run"])
    assert printed["end_acknowledged"]
    assert (found["whole"], found["recorded"]) == (True, printed["acknowledged"])
    assert found["sent"] == printed.get("sent", printed["acknowledged"])
    return found


# Ping


def test_all_payloads_of_a_ping_are_recorded(server: Machine) -> None:
    printed = ackctl(
        server, "ping", *HOST, "--count", "20", "--interval", "0.01", "--parallel", "3"
    )
    assert (printed["sent"], printed["acknowledged"]) == (60, 60)
    assert verified(server, printed)["connections"] == 3


@contextmanager
def ping(machine: Machine, interval: str) -> Iterator[Process]:
    command = ("ackctl", "ping", *HOST, "--interval", interval, "--json")
    with machine.popen(*command, stderr=subprocess.PIPE) as process:
        yield process


def await_ack(ping: Process, after: float = 0) -> None:
    """Wait for the ack of a payload sent after this time, in seconds since the epoch."""
    assert ping.stdout
    for line in ping.stdout:
        printed = json.loads(line)
        assert printed["verdict"] == "acknowledged"
        if datetime.fromisoformat(printed["time"]).timestamp() > after:
            return
    raise AssertionError("ping has ended")


def interrupted(ping: Process, status: int) -> JsonObject:
    """End a ping by Ctrl-C; return its last JSON object."""
    ping.send_signal(signal.SIGINT)
    out, _ = ping.communicate()
    printed: JsonObject = json.loads(out.splitlines()[-1])
    assert (ping.returncode, printed["status"]) == (status, status)
    return printed


def test_a_restart_does_not_disturb_a_ping(server: Machine) -> None:
    with ping(server, "0.05") as pinging:
        await_ack(pinging)
        server.run("systemctl", "restart", "ackd")
        await_ack(pinging, after=time.time())
        printed = interrupted(pinging, 0)
    assert (printed["not_sent"], printed["outages"]) == (0, [])
    assert verified(server, printed)["connections"] == 1
    records = server.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}")
    run = printed["run"].encode()
    assert len({record["_PID"] for record in records if run in record["MESSAGE"]}) == 2


def test_a_ping_continues_when_ackd_runs_again(server: Machine) -> None:
    with ping(server, "0.5") as pinging:
        await_ack(pinging)
        server.run("systemctl", "stop", "ackd")
        assert pinging.stderr
        errors = [pinging.stderr.readline().decode() for _ in range(2)]
        # ping tries to connect after 0.1, 0.3 and 0.7 s. A payload is due before the last attempt.
        assert not select.select([pinging.stderr], [], [], 1)[0]
        server.run("systemctl", "start", "ackd")
        await_ack(pinging)
        errors += [pinging.stderr.readline().decode() for _ in range(2)]
        printed = interrupted(pinging, 3)
    assert ["not reached" in line for line in errors] == [False, True, False, True]
    assert "connected" in errors[2]
    assert " times more: not reached" in errors[3]
    assert printed["not_sent"] > 0
    assert (printed["acknowledged"], printed["unknown"]) == (printed["sent"], 0)
    assert verified(server, printed)["connections"] == 2


# Probe


@pytest.mark.parametrize(
    "options", [(), ("--sweep",), ("--hold", "1"), ("--sweep", "--hold", "0.5,1")]
)
def test_all_payloads_of_a_probe_are_recorded(server: Machine, options: tuple[str, ...]) -> None:
    printed = ackctl(server, "probe", *HOST, *options)
    assert verified(server, printed)["connections"] == 1


def test_the_accepted_payloads_of_a_probe_are_recorded_without_the_refused_ones(
    server: Machine,
) -> None:
    configure(server, "max_payload: 1000\n")
    printed = ackctl(server, "probe", *HOST, "--sweep", "--hold", "0.5")
    assert (printed["refused"], printed["limit"], printed["largest"]) == (1, 1000, 1000)
    assert verified(server, printed)["connections"] == 1


def test_all_payloads_of_a_probe_without_a_greeting_are_recorded(server: Machine) -> None:
    configure(server, "greeting: ''\n")
    printed = ackctl(server, "probe", *HOST, "--no-greeting", "--sweep")
    # The silent connection before it has no payloads.
    assert verified(server, printed)["connections"] == 1


# Bench


@pytest.mark.parametrize("record", ["each", "batch"])
def test_all_payloads_of_a_bench_are_recorded(server: Machine, record: str) -> None:
    configure(server, f"record: {record}\n")
    load = ("--clients", "5", "--depth", "64", "--seconds", "0.5")
    printed = ackctl(server, "bench", *HOST, *load)
    assert printed["sent"] >= 5 * 64
    assert verified(server, printed)["connections"] == 5


# Payloads that are not a run


def test_verify_does_not_find_payloads_that_are_acknowledged_without_a_record(
    server: Machine,
) -> None:
    configure(server, "record: none\n")
    printed = ackctl(server, "bench", *HOST, "--seconds", "0.1")
    assert printed["acknowledged"] > 0
    found = ackctl(server, "verify", printed["run"], status=6)
    assert (found["recorded"], found["sent"]) == (0, None)


def test_lines_of_ackctl_send_are_not_part_of_a_run(server: Machine) -> None:
    printed = ackctl(server, "ping", *HOST, "--count", "3", "--interval", "0.01")
    run = printed["run"]
    about = ("send", f"verify {run}", f"run {run}: whole", f"on the server, `ackctl verify {run}`")
    assert ackctl(server, "send", *HOST, run, *about)["acknowledged"] == 5
    assert verified(server, printed)["peers"] == [MACHINE_ADDRESS]
    found = ackctl(server, "verify", "send", status=6)
    assert (found["recorded"], found["altered"], found["sent"]) == (0, 0, None)


# The chart of bench, drawn by Debian's matplotlib

MATPLOTLIB = "/usr/lib/python3/dist-packages/matplotlib"
PLOT = ("ackctl", "bench", *HOST, "--seconds", "2", "--plot")


def test_bench_draws_the_latencies_as_svg(server: Machine) -> None:
    assert server.run(*PLOT, "/root/x.svg").stderr == ""
    drawn = ElementTree.fromstring(server.run("cat", "/root/x.svg").stdout)
    legend = drawn.findall(".//*[@id='legend_1']//{*}text")
    assert [(text.text or "").split()[0] for text in legend] == ["p50", "p95", "p99", "p99.9"]
    (axes,) = drawn.findall(".//*[@id='patch_2']/{*}path")
    top = min(map(float, re.findall(r"[ML] \S+ (\S+)", axes.get("d", ""))))
    # The y axis of SVG points down: the legend is above the bars, where it is readable.
    assert max(float(text.get("y", "nan")) for text in legend) < top


def test_bench_draws_the_latencies_as_png(server: Machine) -> None:
    assert server.run(*PLOT, "/root/x.png").stderr == ""
    picture = server.run("cat", "/root/x.png").stdout.encode(errors="surrogateescape")
    # The signature of PNG, and the type of its last chunk: RFC 2083.
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture[-8:-4] == b"IEND"


@pytest.fixture
def without_matplotlib(server: Machine) -> Iterator[Machine]:
    """A machine without matplotlib."""
    server.run("mv", MATPLOTLIB, "/root")
    yield server
    server.run("mv", "/root/matplotlib", MATPLOTLIB)


def test_without_matplotlib_bench_names_the_package_to_install(without_matplotlib: Machine) -> None:
    done = without_matplotlib.run(*PLOT, "/root/y.svg", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "error: argument --plot: matplotlib is not installed;"
        " on Debian: apt install python3-matplotlib\n"
    )
