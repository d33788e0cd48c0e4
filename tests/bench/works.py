"""The works that are measured: which load, on which servers, and what comes of one run."""

import os
import secrets
from dataclasses import dataclass
from enum import Enum

from .load import Clients, Load, LoadError, clients
from .places import Place
from .servers import ACKD, ACKD_BATCH, ACKD_NONE, C_RECORDING, COMPETITORS, C, Server

_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Part(Enum):
    """A chapter of the report; the value is its heading."""

    RECORDING = "Recording"
    NOTHING = "Recording nothing"
    IDLE = "Idle clients"
    CLIENTS = "How cost grows with clients"
    SIZES = "How cost grows with payloads"


@dataclass(frozen=True)
class Work:
    """One load on some servers, which are run by turns; the first is the one others are beside."""

    part: Part
    name: str
    load: Load
    servers: tuple[Server, ...]
    recording: bool


@dataclass(frozen=True)
class Run:
    """What one run has measured: acks a second, seconds, and bytes.

    `cpu` is the server's, for each ack; `memory` what each client has added to it.
    """

    rate: float
    cpu: float
    p50: float
    p99: float
    p999: float
    memory: float


RECORDERS = (C_RECORDING, ACKD, ACKD_BATCH)
RESPONDERS = (C, ACKD_NONE, *COMPETITORS)
# An idle client costs ackd the same, whatever it would record.
HOLDERS = (C, ACKD, *COMPETITORS)
GROWN_CLIENTS = (1, 10, 100, 1_000, 10_000)
GROWN_SIZES = (1, 16, 256, 4_096, 65_536)


def size_name(size: int) -> str:
    """Return a size as it is usually written."""
    return f"{size // 1024} KiB" if size >= 1024 else f"{size} B"


def _clients_name(count: int) -> str:
    return "1 client" if count == 1 else f"{count:,} clients"


def _grown(recording: bool) -> list[Work]:
    servers = RECORDERS if recording else (C, ACKD_NONE)
    return [
        *(
            Work(Part.CLIENTS, _clients_name(count), Load(count), servers, recording)
            for count in GROWN_CLIENTS
        ),
        *(
            Work(Part.SIZES, size_name(size), Load(50, size=size), servers, recording)
            for size in GROWN_SIZES
        ),
    ]


MAIN = [
    Work(Part.RECORDING, "1 client, one at a time", Load(1), RECORDERS, True),
    Work(Part.RECORDING, "50 clients, one at a time", Load(50), RECORDERS, True),
    Work(Part.RECORDING, "50 clients, 64 deep", Load(50, 64), RECORDERS, True),
    Work(Part.NOTHING, "100 clients, one at a time", Load(100), RESPONDERS, False),
    Work(Part.NOTHING, "100 clients, 64 deep", Load(100, 64), RESPONDERS, False),
    Work(Part.NOTHING, "connect, one payload, close", Load(20, churn=True), RESPONDERS, False),
    Work(Part.IDLE, "10,000 idle clients", Load(10_000, idle=True), HOLDERS, False),
]
GROWTH = [*_grown(recording=True), *_grown(recording=False)]


def run_once(place: Place, server: Server, load: Load, seconds: float) -> Run:
    """Run a load on a server that is started for it; raises LoadError."""
    with place.serving(server) as pid:
        with clients(place.popen_load(Load(1).arguments(0.1, "warm"))) as first:
            warm = first.run().acks
        resident = _resident(place, pid)
        run = f"R{secrets.token_hex(4)}"
        with clients(place.popen_load(load.arguments(seconds, run))) as crowd:
            memory = (_resident(place, pid) - resident) / load.clients
            return _measured(place, pid, crowd, memory, warm)


def _measured(place: Place, pid: int, crowd: Clients, memory: float, warm: int) -> Run:
    before = _cpu(place, pid)
    seen = crowd.run()
    cpu = _cpu(place, pid) - before
    if seen.trouble:
        raise LoadError(seen.trouble)
    recorded = place.recorded()
    if recorded is not None and recorded != seen.acks + warm:
        raise LoadError(f"{seen.acks + warm} acknowledged, but {recorded} recorded")
    acks = max(seen.acks, 1)
    rate = seen.acks / seen.seconds if seen.acks else 0.0
    return Run(rate, cpu / acks, seen.p50, seen.p99, seen.p999, memory)


def _cpu(place: Place, pid: int) -> float:
    """Return the seconds of CPU that a process has had, with threads that have ended, proc(5)."""
    fields = place.read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICK


def _resident(place: Place, pid: int) -> int:
    return int(place.read(f"/proc/{pid}/statm").split()[1]) * _PAGE
