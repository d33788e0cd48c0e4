"""The workloads: each is a load on some servers; `run_once` measures one run."""

import os
import secrets
from dataclasses import dataclass
from enum import Enum

from .load import Load, LoadError, LoadReport, clients
from .places import Place
from .servers import (
    ACKD,
    ACKD_BATCH,
    ACKD_DISK,
    ACKD_DISK_BATCH,
    ACKD_NONE,
    ACKD_TLS,
    BEANSTALKD,
    C_LOGGING,
    C_RECORDING,
    COMPETITORS,
    REDIS,
    STUNNEL,
    C,
    Server,
)

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Part(Enum):
    """A section of the report; the value is its heading."""

    RECORDING = "Recording"
    DURABLE = "Durable"
    NOTHING = "Recording nothing"
    IDLE = "Idle clients"
    TLS = "Over TLS, recording nothing"
    TLS_IDLE = "Idle clients over TLS"
    CLIENTS = "Cost by number of clients"
    SIZES = "Cost by size of payloads"


@dataclass(frozen=True)
class Workload:
    """One load on some servers; the first server is the reference for the ratios."""

    part: Part
    name: str
    load: Load
    servers: tuple[Server, ...]
    recording: bool


@dataclass(frozen=True)
class Run:
    """The figures of one run: acks per second, seconds, and bytes.

    `cpu` is the server's CPU per ack; `memory` is the server's resident memory per client.
    """

    rate: float
    cpu: float
    p50: float
    p99: float
    p999: float
    memory: float


RECORDERS = (C_RECORDING, ACKD, ACKD_BATCH)
SYNCERS = (C_LOGGING, ACKD_DISK, ACKD_DISK_BATCH, REDIS, BEANSTALKD)
RESPONDERS = (C, ACKD_NONE, *COMPETITORS)
# The memory of an idle client does not depend on the setting `record`.
HOLDERS = (C, ACKD, *COMPETITORS)
# The first two without TLS.
ENCRYPTERS = (C, ACKD_NONE, ACKD_TLS, STUNNEL)
CLIENT_COUNTS = (1, 10, 100, 1_000, 10_000)
PAYLOAD_SIZES = (1, 16, 256, 4_096, 65_536)


def size_name(size: int) -> str:
    """Return a size of bytes with its unit."""
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def _clients_name(count: int) -> str:
    return "1 client" if count == 1 else f"{count:,} clients"


def _growth(recording: bool) -> list[Workload]:
    servers = RECORDERS if recording else (C, ACKD_NONE)
    return [
        *(
            Workload(Part.CLIENTS, _clients_name(count), Load(count), servers, recording)
            for count in CLIENT_COUNTS
        ),
        *(
            Workload(Part.SIZES, size_name(size), Load(50, size=size), servers, recording)
            for size in PAYLOAD_SIZES
        ),
    ]


MAIN = [
    Workload(Part.RECORDING, "1 client, one at a time", Load(1), RECORDERS, True),
    Workload(Part.RECORDING, "50 clients, one at a time", Load(50), RECORDERS, True),
    Workload(Part.RECORDING, "50 clients, 64 deep", Load(50, 64), RECORDERS, True),
    Workload(Part.DURABLE, "1 client, one at a time", Load(1), SYNCERS, True),
    Workload(Part.DURABLE, "50 clients, one at a time", Load(50), SYNCERS, True),
    Workload(Part.DURABLE, "50 clients, 64 deep", Load(50, 64), SYNCERS, True),
    Workload(Part.NOTHING, "100 clients, one at a time", Load(100), RESPONDERS, False),
    Workload(Part.NOTHING, "100 clients, 64 deep", Load(100, 64), RESPONDERS, False),
    Workload(Part.NOTHING, "connect, one payload, close", Load(20, churn=True), RESPONDERS, False),
    Workload(Part.IDLE, "10,000 idle clients", Load(10_000, idle=True), HOLDERS, False),
    Workload(Part.TLS, "100 clients, one at a time", Load(100), ENCRYPTERS, False),
    Workload(Part.TLS, "100 clients, 64 deep", Load(100, 64), ENCRYPTERS, False),
    Workload(Part.TLS, "connect, one payload, close", Load(20, churn=True), ENCRYPTERS, False),
    Workload(Part.TLS_IDLE, "1,000 idle clients", Load(1_000, idle=True), ENCRYPTERS, False),
]
GROWTH = [*_growth(recording=True), *_growth(recording=False)]


def run_once(place: Place, server: Server, load: Load, seconds: float) -> Run:
    """Start a server, put the load on it, and stop it; raises LoadError."""
    with place.serving(server) as pid:
        warming = Load(1).arguments(server.protocol, 0.1, "warm", server.tls)
        with clients(place.popen_load(warming)) as first:
            warm = first.run().acks
        resident = _resident(place, pid)
        name = f"R{secrets.token_hex(4)}"
        arguments = load.arguments(server.protocol, seconds, name, server.tls)
        with clients(place.popen_load(arguments)) as connected:
            memory = (_resident(place, pid) - resident) / load.clients
            before = _cpu(place, pid)
            report = connected.run()
            cpu = _cpu(place, pid) - before
            if report.errors:
                raise LoadError(report.errors)
            _check(place.recorded(server, warm + report.acks), warm + report.acks)
    return _run(report, cpu, memory)


def _check(recorded: int | None, acknowledged: int) -> None:
    if recorded is not None and recorded != acknowledged:
        raise LoadError(f"{acknowledged} acknowledged, but {recorded} recorded")


def _run(report: LoadReport, cpu: float, memory: float) -> Run:
    acks = max(report.acks, 1)
    rate = report.acks / report.seconds if report.acks else 0.0
    return Run(rate, cpu / acks, report.p50, report.p99, report.p999, memory)


def _cpu(place: Place, pid: int) -> float:
    """Return the seconds of CPU of a process, its ended threads and its children, proc(5)."""
    ticks = 0
    for process in _family(place, pid):
        fields = place.read(f"/proc/{process}/stat").rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / _TICK


def _resident(place: Place, pid: int) -> int:
    family = _family(place, pid)
    return sum(int(place.read(f"/proc/{each}/statm").split()[1]) for each in family) * _PAGE


def _family(place: Place, pid: int) -> list[int]:
    return [pid, *map(int, place.read(f"/proc/{pid}/task/{pid}/children").split())]
