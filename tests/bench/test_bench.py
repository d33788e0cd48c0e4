"""The benchmarks: the load generator counts errors, and all servers do the same exchange."""

import itertools
import socket
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from ackd.records import Kind
from tests.bench.checkout import Checkout
from tests.bench.load import LoadReport, clients
from tests.bench.places import Send, Start
from tests.bench.programs import Programs, build
from tests.bench.report import Conditions, comparison
from tests.bench.results import Results, rate
from tests.bench.servers import C_LOGGING, COMPETITORS, C, Paths, Server
from tests.bench.targets import EACH, FIFTY, TARGETS
from tests.bench.workloads import GROWTH, MAIN, Run
from tests.conftest import StartDaemon
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING, Peer

# A build of the Debian package has neither libsystemd-dev nor the competitors. The project's
# virtual environment has them: a test fails there if one is missing.
pytestmark = pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="nothing to measure with")

# A whole line, a line in pieces, both line ends, an empty line, and a rest without a line end.
SENT = (b"whole\n", b"in ", b"pieces\nand", b" with CR\r\n", b"\n", b"two\nat once\n", b"a rest")


HEADER = struct.Struct("=IIQ")  # in reference.c


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Programs:
    return build(tmp_path_factory.mktemp("bench"))


@contextmanager
def answering(*answers: bytes, greeting: bytes = GREETING) -> Iterator[int]:
    """Serve one client: greet it, and send one of the answers after each read; yield the port."""

    def serve(client: socket.socket) -> None:
        with client:
            client.sendall(greeting)
            for answer in answers:
                if not client.recv(65536):
                    return
                client.sendall(answer)

    def accept() -> None:
        listener.accept()[0].close()  # await_server() in load.c
        serve(listener.accept()[0])

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(DEADLINE)


def load(programs: Programs, port: int, *options: str) -> LoadReport:
    command = (str(programs.load), *options, str(port))
    with (
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process,
        clients(process) as crowd,
    ):
        return crowd.run()


def test_each_correct_ack_is_counted_once_however_it_is_split(programs: Programs) -> None:
    with answering(ACK * 2 + ACK[:7], ACK[7:] + ACK * 2) as port:
        report = load(programs, port, "--depth=3", "--count=5")
    assert (report.sent, report.acks, report.errors) == (5, 5, "")


def test_a_wrong_ack_is_counted_as_wrong(programs: Programs) -> None:
    for wrong in (b"not received: no\n", ACK[1:], b"x" + ACK, b"\n", ACK[:-1] + b"!\n"):
        with answering(ACK, wrong, ACK) as port:
            report = load(programs, port, "--count=3")
        assert (report.sent, report.acks, report.errors) == (3, 2, "1 wrong")


def test_more_acks_than_payloads_are_wrong(programs: Programs) -> None:
    with answering(ACK, ACK * 3) as port:
        report = load(programs, port, "--count=2")
    assert (report.acks, report.wrong) == (2, 2)


def test_a_connection_that_ends_early_is_counted_as_lost_and_its_payloads_as_unanswered(
    programs: Programs,
) -> None:
    with answering(ACK * 2) as port:
        report = load(programs, port, "--depth=4", "--count=4")
    assert (report.acks, report.errors) == (2, "2 unanswered, 1 lost")


@pytest.mark.parametrize(
    ("protocol", "acks"),
    [
        ("redis", (b"$15\r\n1764156000000-0\r\n", b"$16\r\n1764156000000-12\r\n")),
        ("beanstalkd", (b"INSERTED 9\r\n", b"INSERTED 10\r\n")),
    ],
)
def test_acks_with_numbers_are_counted_wherever_they_are_split(
    programs: Programs, protocol: str, acks: tuple[bytes, bytes]
) -> None:
    first, second = acks
    for end in range(len(second)):
        with answering(first + second[:end], second[end:] + first, greeting=b"") as port:
            report = load(programs, port, f"--protocol={protocol}", "--depth=2", "--count=3")
        assert (report.sent, report.acks, report.errors) == (3, 3, "")


@pytest.mark.parametrize(
    ("protocol", "wrong"),
    [("redis", b"-OOM command not allowed\r\n"), ("beanstalkd", b"OUT_OF_MEMORY\r\n")],
)
def test_an_error_of_another_protocol_is_counted_as_wrong(
    programs: Programs, protocol: str, wrong: bytes
) -> None:
    with answering(wrong, greeting=b"") as port:
        report = load(programs, port, f"--protocol={protocol}", "--count=1")
    assert (report.acks, report.errors) == (0, "1 wrong")


def test_payloads_are_unique_and_have_the_given_size(
    programs: Programs, start: StartDaemon
) -> None:
    daemon = start()
    report = load(programs, daemon.port, "--clients=3", "--count=60", "--size=30", "--run=R")
    assert report.errors == ""
    payloads = daemon.journal.payloads(60)
    assert sorted(payloads) == [b"R-%012d" % number + b"x" * 16 for number in range(1, 61)]


def test_with_churn_each_payload_has_a_connection_of_its_own(
    programs: Programs, start: StartDaemon
) -> None:
    daemon = start()
    report = load(programs, daemon.port, "--churn", "--clients=2", "--count=20", "--sources=2")
    assert (report.acks, report.errors) == (20, "")
    entries = [daemon.journal.next(Kind.PAYLOAD) for _ in range(20)]
    assert len({entry["ACKD_CONNECTION"] for entry in entries}) == 20
    assert {entry["ACKD_PEER"] for entry in entries} == {b"127.0.0.1", b"127.0.0.2"}


@contextmanager
def serving(server: Server, programs: Programs, disk: Path = Path()) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    paths = Paths(sys.executable, (), (), "", str(programs.reference), port, str(disk))
    with subprocess.Popen(server.command(paths)) as process:
        try:
            load(programs, port, "--count=1")  # returns when the server listens
            yield port
        finally:
            process.kill()


def exchange(port: int) -> bytes:
    """Send the parts of SENT, each after the acks of all before; return the replies to the rest."""
    with Peer(port) as peer:
        peer.expect(GREETING)
        for data in SENT:
            peer.send(data)
            peer.expect(ACK * data.count(b"\n"))
        peer.half_close()
        return peer.read_to_loss()


def test_ackd_acknowledges_a_rest_without_a_line_end(start: StartDaemon) -> None:
    assert exchange(start().port) == ACK


@pytest.mark.parametrize("server", [C, *COMPETITORS], ids=lambda server: str(server.name))
def test_each_other_server_replies_like_ackd(server: Server, programs: Programs) -> None:
    with serving(server, programs) as port:
        assert exchange(port) == ACK


def test_c_logs_each_line_before_its_ack(programs: Programs, tmp_path: Path) -> None:
    with serving(C_LOGGING, programs, tmp_path) as port:
        written = logged(tmp_path / "log")
        assert exchange(port) == ACK
        assert logged(tmp_path / "log")[len(written) :] == [
            b"whole", b"in pieces", b"and with CR", b"", b"two", b"at once", b"a rest"
        ]  # fmt: skip


def logged(path: Path) -> list[bytes]:
    """Return the lines in the log of C, in which zeros follow the last record."""
    lines: list[bytes] = []
    log = path.read_bytes()
    while any(log[: HEADER.size]):
        size, _, number = HEADER.unpack_from(log)
        assert number == len(lines)
        lines.append(log[HEADER.size : HEADER.size + size])
        log = log[HEADER.size + size :]
    return lines


def test_c_sends_all_acks_of_one_read(programs: Programs) -> None:
    """The acks of one read are larger than a socket's send buffer."""
    with serving(C, programs) as port:
        report = load(programs, port, "--size=1", "--depth=40000", "--count=200000")
    assert (report.acks, report.errors) == (200_000, "")


def test_each_workload_has_a_unique_name_and_c_as_its_reference() -> None:
    workloads = [*MAIN, *GROWTH]
    names = {(workload.part, workload.name, workload.recording) for workload in workloads}
    assert len(names) == len(workloads)
    assert all(workload.servers[0].name == "C" for workload in workloads)


def measured(*rates: float) -> list[Run]:
    return [Run(rate, 1e-6, 0.0, 0.0, 0.0, 0.0) for rate in rates]


def results(c: list[Run], ackd: list[Run]) -> Results:
    return Results({(FIFTY, "C"): [*c], (FIFTY, EACH): [*ackd]})


def test_ratios_are_within_a_round_so_that_a_drift_of_the_machine_cancels_out() -> None:
    drifting = results(measured(100, 400, 200), measured(90, 360, 180))
    assert drifting.ratio(FIFTY, EACH, rate) == 0.9
    assert drifting.median(FIFTY, EACH, rate) == 180


def test_the_comparison_shows_the_ratio_new_to_before_of_each_round() -> None:
    compared = results(measured(100, 100, 100), measured(90, 110, 100))
    for run in measured(100, 100, 100):
        compared.add(FIFTY, "ackd before", run)
    for name, seconds in ((EACH, 0.5), ("ackd before", 0.4)):
        compared.starts[name] = [Start(seconds, 1000)]
        compared.sends[name] = [Send(seconds, 0.1)]
    text = comparison(compared, Conditions((), rounds=3, growth_rounds=0, seconds=1, starts=1))
    assert f"| {FIFTY.name} | ackd | 1.000 (0.900 to 1.100) | 1.000 (1.000 to 1.000) |  |" in text
    assert "- start until READY=1: 1.250 (1.250 to 1.250)" in text


def test_a_server_with_a_failed_run_has_no_figures() -> None:
    failed = results(measured(100, 100), measured(100))
    failed.add(FIFTY, EACH, "failed: 1 wrong")
    assert failed.failure(FIFTY, EACH) == "failed: 1 wrong"
    assert failed.ratio(FIFTY, EACH, rate) is None
    assert failed.median(FIFTY, EACH, rate) is None


def test_a_target_is_met_or_missed_by_a_percentage() -> None:
    target = next(target for target in TARGETS if FIFTY.name in target.workload)
    for value, verdict in ((95.0, "met"), (200.0, "met"), (76.0, "missed by 20.0%")):
        assert target.verdict(target.measured(results(measured(100), measured(value)))) == verdict
    assert target.verdict(target.measured(Results())) == "not measured"


def test_a_program_of_another_checkout_imports_the_modules_of_that_checkout(tmp_path: Path) -> None:
    (tmp_path / "ackd").mkdir()
    (tmp_path / "ackd" / "__init__.py").touch()
    (tmp_path / "ackd" / "old.py").write_text("def main(): print(__file__)")
    (tmp_path / "pyproject.toml").write_text('[project.scripts]\nackd = "ackd.old:main"\n')
    script = Checkout(tmp_path).script("ackd", str(tmp_path))
    printed = subprocess.check_output((sys.executable, "-c", script), text=True)
    assert printed == f"{tmp_path}/ackd/old.py\n"


def test_no_text_of_the_chart_lies_on_another() -> None:
    from tests.bench.chart import chart  # slow to import

    figure = chart(all_measured())
    figure.draw_without_rendering()
    texts = [text for axes in figure.axes for text in texts_of(axes)]
    texts += figure.legends[0].get_texts()
    boxes = [(text.get_text(), text.get_window_extent()) for text in texts if text.get_text()]
    for (text, box), (other, over) in itertools.combinations(boxes, 2):
        assert not box.overlaps(over), (text, other)


def texts_of(axes: Any) -> Iterator[Any]:
    yield from (axes.title, *axes.texts)
    for axis in (axes.xaxis, axes.yaxis):
        if axis.get_visible():
            yield from axis.get_ticklabels()


def all_measured() -> Results:
    complete = Results()
    for workload in (*MAIN, *GROWTH):
        for server in workload.servers:
            complete.add(workload, server.name, measured(1_234_567.0)[0])
    return complete
