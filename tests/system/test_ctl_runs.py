"""What `ackctl ping`, `probe` and `bench` tell of their runs, and what `ackctl verify` finds."""

import json
import re
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

Told = dict[str, Any]  # an object of JSON

HOST = ("--host", MACHINE_ADDRESS)


def configure(machine: Machine, settings: str) -> None:
    machine.put("/etc/ackd.yaml", BIND + settings)
    machine.run("systemctl", "reload", "ackd")


def ackctl(machine: Machine, *arguments: str, status: int = 0) -> Told:
    """Run ackctl with --json to its end, with this exit status; return its last object."""
    done = machine.run("ackctl", *arguments, "--json", check=False)
    told: Told = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, told["status"], done.stderr) == (status, status, "")
    return told


def whole(machine: Machine, told: Told) -> Told:
    """Return what `verify` finds of a run: what its sender knows to be acknowledged."""
    found = ackctl(machine, "verify", told["run"])
    assert told["end_acknowledged"]
    assert (found["whole"], found["recorded"]) == (True, told["acknowledged"])
    assert found["sent"] == told.get("sent", told["acknowledged"])
    return found


# Ping


def test_a_ping_is_recorded(server: Machine) -> None:
    told = ackctl(server, "ping", *HOST, "--count", "20", "--interval", "0.01", "--parallel", "3")
    assert (told["sent"], told["acknowledged"]) == (60, 60)
    assert whole(server, told)["connections"] == 3


@contextmanager
def ping(machine: Machine, interval: str) -> Iterator[Process]:
    command = ("ackctl", "ping", *HOST, "--interval", interval, "--json")
    with machine.popen(*command, stderr=subprocess.PIPE) as process:
        yield process


def await_ack(ping: Process, after: float = 0) -> None:
    """Wait for the ack of a payload that was sent after this time."""
    assert ping.stdout
    for line in ping.stdout:
        told = json.loads(line)
        assert told["verdict"] == "acknowledged"
        if datetime.fromisoformat(told["time"]).timestamp() > after:
            return
    raise AssertionError("it has ended")


def interrupted(ping: Process, status: int) -> Told:
    """End it by Ctrl-C; return what it says then."""
    ping.send_signal(signal.SIGINT)
    out, _ = ping.communicate()
    told: Told = json.loads(out.splitlines()[-1])
    assert (ping.returncode, told["status"]) == (status, status)
    return told


def test_a_ping_notices_nothing_of_a_restart(server: Machine) -> None:
    with ping(server, "0.05") as pinging:
        await_ack(pinging)
        server.run("systemctl", "restart", "ackd")
        await_ack(pinging, after=time.time())
        told = interrupted(pinging, 0)
    assert (told["not_sent"], told["outages"]) == (0, [])
    assert whole(server, told)["connections"] == 1
    records = server.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}")
    run = told["run"].encode()
    assert len({record["_PID"] for record in records if run in record["MESSAGE"]}) == 2


def test_a_ping_goes_on_when_ackd_is_there_again(server: Machine) -> None:
    with ping(server, "0.5") as pinging:
        await_ack(pinging)
        server.run("systemctl", "stop", "ackd")
        assert pinging.stderr
        # It tries to connect 0.1, 0.3 and 0.7 s after that: a payload was due before the last time.
        said = [pinging.stderr.readline().decode() for _ in range(4)]
        server.run("systemctl", "start", "ackd")
        await_ack(pinging)
        told = interrupted(pinging, 3)
    assert ["not reached" in line for line in said] == [False, True, True, True]
    assert told["not_sent"] > 0
    assert (told["acknowledged"], told["unknown"]) == (told["sent"], 0)
    assert whole(server, told)["connections"] == 2


# Probe


@pytest.mark.parametrize(
    "options", [(), ("--sweep",), ("--hold", "1"), ("--sweep", "--hold", "0.5,1")]
)
def test_a_probe_is_recorded(server: Machine, options: tuple[str, ...]) -> None:
    told = ackctl(server, "probe", *HOST, *options)
    assert whole(server, told)["connections"] == 1


def test_a_probe_of_which_payloads_were_refused_is_recorded_without_them(server: Machine) -> None:
    configure(server, "max_payload: 1000\n")
    told = ackctl(server, "probe", *HOST, "--sweep", "--hold", "0.5")
    assert (told["refused"], told["limit"], told["largest"]) == (1, 1000, 1000)
    assert whole(server, told)["connections"] == 1


def test_a_probe_of_an_ackd_that_does_not_greet_is_recorded(server: Machine) -> None:
    configure(server, "greeting: ''\n")
    told = ackctl(server, "probe", *HOST, "--no-greeting", "--sweep")
    assert whole(server, told)["connections"] == 1  # the silent one before it has no payloads


# Bench


@pytest.mark.parametrize("record", ["each", "batch"])
def test_a_bench_is_recorded(server: Machine, record: str) -> None:
    configure(server, f"record: {record}\n")
    load = ("--clients", "5", "--depth", "64", "--seconds", "0.5")
    told = ackctl(server, "bench", *HOST, *load)
    assert told["sent"] >= 5 * 64
    assert whole(server, told)["connections"] == 5


# What is no run


def test_what_is_acknowledged_and_not_recorded_is_not_there(server: Machine) -> None:
    configure(server, "record: none\n")
    told = ackctl(server, "bench", *HOST, "--seconds", "0.1")
    assert told["acknowledged"] > 0
    found = ackctl(server, "verify", told["run"], status=6)
    assert (found["recorded"], found["sent"]) == (0, None)


def test_lines_that_are_sent_are_no_run(server: Machine) -> None:
    told = ackctl(server, "ping", *HOST, "--count", "3", "--interval", "0.01")
    run = told["run"]
    about = ("send", f"verify {run}", f"run {run}: whole", f"on the server, `ackctl verify {run}`")
    assert ackctl(server, "send", *HOST, run, *about)["acknowledged"] == 5
    assert whole(server, told)["peers"] == [MACHINE_ADDRESS]
    found = ackctl(server, "verify", "send", status=6)
    assert (found["recorded"], found["altered"], found["sent"]) == (0, 0, None)


# A picture, by Debian's own matplotlib

MATPLOTLIB = "/usr/lib/python3/dist-packages/matplotlib"
PLOTTED = ("ackctl", "bench", *HOST, "--seconds", "0.2", "--plot")


def test_the_latencies_are_drawn_as_svg(server: Machine) -> None:
    assert server.run(*PLOTTED, "/root/x.svg").stderr == ""
    drawn = ElementTree.fromstring(server.run("cat", "/root/x.svg").stdout)
    legend = drawn.findall(".//*[@id='legend_1']//{*}text")
    assert [(text.text or "").split()[0] for text in legend] == ["p50", "p95", "p99", "p99.9"]
    (axes,) = drawn.findall(".//*[@id='patch_2']/{*}path")
    top = min(map(float, re.findall(r"[ML] \S+ (\S+)", axes.get("d", ""))))
    # SVG counts downwards: it is above the bars, where it can be read.
    assert max(float(text.get("y", "nan")) for text in legend) < top


def test_the_latencies_are_drawn_as_png(server: Machine) -> None:
    assert server.run(*PLOTTED, "/root/x.png").stderr == ""
    picture = server.run("cat", "/root/x.png").stdout.encode(errors="surrogateescape")
    # PNG, RFC 2083: its signature, and what is behind the last chunk's length.
    assert picture.startswith(b"\x89PNG\r\n\x1a\n")
    assert picture[-8:-4] == b"IEND"


@pytest.fixture
def plain(server: Machine) -> Iterator[Machine]:
    """One without matplotlib."""
    server.run("mv", MATPLOTLIB, "/root")
    yield server
    server.run("mv", "/root/matplotlib", MATPLOTLIB)


def test_without_matplotlib_it_is_told_what_to_install(plain: Machine) -> None:
    done = plain.run(*PLOTTED, "/root/y.svg", check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.endswith(
        "error: argument --plot: matplotlib is not installed;"
        " on Debian: apt install python3-matplotlib\n"
    )
