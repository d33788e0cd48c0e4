"""The benchmarks in a booted Debian: the reference server, starts, and `ackctl send`."""

from collections.abc import Iterator

import pytest

from ackd.records import Kind
from tests.bench.load import Load
from tests.bench.places import Booted, booted
from tests.bench.programs import build
from tests.bench.servers import ACKD, C_RECORDING, Server
from tests.bench.workloads import SYNCERS, run_once
from tests.system.support.machine import DISK


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with booted(build(tmp_path_factory.mktemp("bench"))) as place:
        yield place


def own_fields(place: Booted, server: Server) -> dict[str, bytes]:
    """Return the fields that a server itself gave to the record of the last payload of a run."""
    assert run_once(place, server, Load(2, depth=4), 0.1).rate > 0
    entry = place.machine.journal(f"MESSAGE_ID={Kind.PAYLOAD.value}")[-1]
    return {name: entry[name] for name in entry.fields if not name.startswith("_")}


def test_the_reference_server_records_the_same_fields_as_ackd(place: Booted) -> None:
    ackd, reference = own_fields(place, ACKD), own_fields(place, C_RECORDING)
    assert ackd.keys() == reference.keys()
    same = ("PRIORITY", "SYSLOG_IDENTIFIER", "ACKD_PEER", "ACKD_LISTENER", "ACKD_BYTES")
    assert [ackd[name] for name in same] == [reference[name] for name in same]


@pytest.mark.parametrize("server", SYNCERS, ids=lambda server: str(server.name))
def test_a_durable_server_is_measured_on_the_disk(place: Booted, server: Server) -> None:
    """`run_once` compares the acks with the recorded payloads, but not for C."""
    if server.ackd and not place.accepts(server):
        pytest.skip("this ackd has no durability: disk")
    assert run_once(place, server, Load(2, depth=4), 0.1).rate > 0
    assert place.machine.run("find", DISK, "-type", "f", "-size", "+0").stdout


def test_a_start_is_measured(place: Booted) -> None:
    start = place.start(ACKD)
    assert start.seconds > 0
    assert start.resident > 1024 * 1024


def test_ackctl_send_is_measured_beside_a_bare_python(place: Booted) -> None:
    with place.listening(ACKD):
        send = place.send(ACKD)
    assert send.ackctl > send.python > 0
