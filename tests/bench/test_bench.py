"""The harness of the benchmarks counts what is wrong, and all servers hold the same exchange."""

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ackd.records import Kind
from tests.bench.load import Seen, clients
from tests.bench.programs import Programs, build
from tests.bench.results import Results, rate
from tests.bench.servers import COMPETITORS, C, Server, Site
from tests.bench.targets import EACH, FIFTY, TARGETS
from tests.bench.works import GROWTH, MAIN, Run
from tests.conftest import StartDaemon
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING, Peer

# Debian's builds have neither libsystemd-dev nor the competitors. In an environment of the
# project's own they are there, or this fails.
pytestmark = pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="nothing to measure with")

# In pieces, with an end of either kind, empty, and at last without one.
SENT = (b"whole\n", b"in ", b"pieces\nand", b" with CR\r\n", b"\n", b"two\nat once\n", b"a rest")


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return build(tmp_path_factory.mktemp("bench"))


@contextmanager
def answering(*answers: bytes) -> Iterator[int]:
    """A server for one client that greets and gives these answers, one for each read; its port."""

    def serve(client: socket.socket) -> None:
        with client:
            client.sendall(GREETING)
            for answer in answers:
                if not client.recv(65536):
                    return
                client.sendall(answer)

    def accept() -> None:
        listener.accept()[0].close()  # the load's look whether anybody listens
        serve(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(DEADLINE)


def load(programs: Programs, port: int, *options: str) -> Seen:
    command = (str(programs.load), *options, str(port))
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        clients(process) as crowd,
    ):
        return crowd.run()


def test_each_right_ack_is_counted_once_however_it_comes(programs: Programs) -> None:
    with answering(ACK * 2 + ACK[:7], ACK[7:] + ACK * 2) as port:
        seen = load(programs, port, "--depth=3", "--count=5")
    assert (seen.sent, seen.acks, seen.trouble) == (5, 5, "")


def test_a_wrong_ack_is_counted_as_wrong(programs: Programs) -> None:
    for wrong in (b"not received: no\n", ACK[1:], b"x" + ACK, b"\n", ACK[:-1] + b"!\n"):
        with answering(ACK, wrong, ACK) as port:
            seen = load(programs, port, "--count=3")
        assert (seen.sent, seen.acks, seen.trouble) == (3, 2, "1 wrong")


def test_more_acks_than_payloads_are_wrong(programs: Programs) -> None:
    with answering(ACK, ACK * 3) as port:
        seen = load(programs, port, "--count=2")
    assert (seen.acks, seen.wrong) == (2, 2)


def test_a_connection_that_ends_early_is_lost_with_what_has_no_answer(programs: Programs) -> None:
    with answering(ACK * 2) as port:
        seen = load(programs, port, "--depth=4", "--count=4")
    assert (seen.acks, seen.trouble) == (2, "2 unanswered, 1 lost")


def test_payloads_are_unique_and_have_their_size(programs: Programs, start: StartDaemon) -> None:
    daemon = start()
    seen = load(programs, daemon.port, "--clients=3", "--count=60", "--size=30", "--run=R")
    assert seen.trouble == ""
    payloads = daemon.journal.payloads(60)
    assert sorted(payloads) == [b"R-%012d" % number + b"x" * 16 for number in range(1, 61)]


def test_with_churn_each_payload_has_a_connection_of_its_own(
    programs: Programs, start: StartDaemon
) -> None:
    daemon = start()
    seen = load(programs, daemon.port, "--churn", "--clients=2", "--count=20", "--sources=2")
    assert (seen.acks, seen.trouble) == (20, "")
    entries = [daemon.journal.next(Kind.PAYLOAD) for _ in range(20)]
    assert len({entry["ACKD_CONNECTION"] for entry in entries}) == 20
    assert {entry["ACKD_PEER"] for entry in entries} == {b"127.0.0.1", b"127.0.0.2"}


@contextmanager
def serving(server: Server, programs: Programs) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    site = Site(sys.executable, (), "", str(programs.reference), port)
    with subprocess.Popen(server.command(site)) as process:
        try:
            load(programs, port, "--count=1")  # it waits until somebody listens
            yield port
        finally:
            process.kill()


def exchange(port: int) -> bytes:
    """Return all that a server says to what is sent, each part when all before is answered."""
    with Peer(port) as peer:
        peer.expect(GREETING)
        for data in SENT:
            peer.send(data)
            peer.expect(ACK * data.count(b"\n"))
        peer.half_close()
        return peer.read_to_loss()


def test_ackd_acknowledges_a_rest_at_the_end(start: StartDaemon) -> None:
    assert exchange(start().port) == ACK


@pytest.mark.parametrize("server", [C, *COMPETITORS], ids=lambda server: str(server.name))
def test_the_others_answer_as_ackd_does(server: Server, programs: Programs) -> None:
    with serving(server, programs) as port:
        assert exchange(port) == ACK


def test_all_that_a_server_acknowledges_in_one_go_comes(programs: Programs) -> None:
    """The acks of one read are more than a socket takes at once."""
    with serving(C, programs) as port:
        seen = load(programs, port, "--size=1", "--depth=40000", "--count=200000")
    assert (seen.acks, seen.trouble) == (200_000, "")


def test_each_work_has_its_own_name_and_is_beside_c() -> None:
    works = [*MAIN, *GROWTH]
    assert len({(work.part, work.name, work.recording) for work in works}) == len(works)
    assert all(work.servers[0].name == "C" for work in works)


def measured(*rates: float) -> list[Run]:
    return [Run(rate, 1e-6, 0.0, 0.0, 0.0, 0.0) for rate in rates]


def results(c: list[Run], ackd: list[Run]) -> Results:
    return Results({(FIFTY, "C"): [*c], (FIFTY, EACH): [*ackd]})


def test_ratios_are_those_within_a_turn_so_that_a_drift_is_none() -> None:
    drifting = results(measured(100, 400, 200), measured(90, 360, 180))
    assert drifting.ratio(FIFTY, EACH, rate) == 0.9
    assert drifting.median(FIFTY, EACH, rate) == 180


def test_one_run_that_failed_leaves_a_server_without_figures() -> None:
    failed = results(measured(100, 100), measured(100))
    failed.add(FIFTY, EACH, "failed: 1 wrong")
    assert failed.failure(FIFTY, EACH) == "failed: 1 wrong"
    assert failed.ratio(FIFTY, EACH, rate) is None
    assert failed.median(FIFTY, EACH, rate) is None


def test_a_target_is_met_or_missed_by_so_much() -> None:
    target = next(target for target in TARGETS if FIFTY.name in target.work)
    for value, verdict in ((95.0, "met"), (200.0, "met"), (76.0, "missed by 20.0%")):
        assert target.verdict(target.measured(results(measured(100), measured(value)))) == verdict
    assert target.verdict(target.measured(Results())) == "not measured"
