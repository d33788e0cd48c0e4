"""The report of a running ackd: what it says, who gets it, and what it costs others."""

import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import gmtime, strftime, time

import pytest

import ackd
from ackd.ctl.exit_status import Status
from ackd.ctl.status.asking import AskError, ask
from ackd.records import Kind
from ackd.status import ClientStatus, Counted, DaemonStatus, from_json
from ackd.status_names import abstract_name
from tests.conftest import StartDaemon
from tests.support.certificates import Authority, needs_openssl
from tests.support.daemon_process import COMMAND, Daemon
from tests.support.journal_socket import DEADLINE
from tests.support.peer import ACK, GREETING, Peer

OTHER_USER = 65534
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: it asks as another user")


def status_of(ackd: Daemon) -> DaemonStatus:
    return ask(str(ackd.process.pid))


def exchange(ackd: Daemon, payload: bytes, source: str = "") -> None:
    with Peer(ackd.port, source=source) as peer:
        peer.expect(GREETING)
        peer.send(payload + b"\n")
        peer.expect(ACK)


def answer_at(path: Path) -> bytes:
    """Return what the socket at a path sends."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
        asker.settimeout(DEADLINE)
        asker.connect(str(path))
        answer = b""
        while part := asker.recv(65536):
            answer += part
    return answer


# What it says


def test_an_idle_ackd_reports_where_it_listens_and_since_when(start: StartDaemon) -> None:
    ackd = start("max_connections: 7\n")
    status = status_of(ackd)
    assert status.pid == ackd.process.pid
    assert status.unit == ""
    assert status.started <= status.time
    assert 0 < status.running < DEADLINE
    assert status.listeners == (f"127.0.0.1:{ackd.port}",)
    assert status.troubles == status.notes == ()
    assert (status.clients.connected, status.clients.limit) == (0, 7)
    assert status.journal.name == "the journal"
    assert status.journal.reachable


def test_payloads_and_clients_are_counted(start: StartDaemon) -> None:
    ackd = start("max_payload: 10\n")
    with ackd.peer() as first, ackd.peer(), Peer(ackd.port, source="127.0.0.2") as third:
        third.expect(GREETING)
        third.send(b"one\n")
        third.expect(ACK)
        first.send(b"a\nb\n" + b"long" * 10 + b"\n")
        first.expect(ACK * 2 + b"not received: longer than 10 bytes\n")
        status = status_of(ackd)
        few = ClientStatus("127.0.0.2", 1, 1, 0, 4)
        many = ClientStatus("127.0.0.1", 2, 2, 1, 45)
        assert status.clients.by_connections == (many, few)
        assert status.clients.by_payloads == (many, few)
        assert status.clients.connected == 3
    assert (status.payloads.acknowledged, status.payloads.refused) == (3, 1)
    assert status.payloads.refused_for == (Counted("longer than max_payload", 1),)
    assert status.payloads.bytes == 49
    assert status.rates.seconds > 0
    with ackd.peer():
        status = status_of(ackd)
        assert (status.clients.connected, status.clients.most) == (1, 3)
        assert status.clients.connections == 4


def test_all_addresses_of_an_ipv6_network_are_one_client(start: StartDaemon) -> None:
    ackd = start("proxy_from: [127.0.0.1]\n")
    addresses = ("2001:db8::1", "2001:db8::2", "2001:db8:0:1::1", "::1", "::2", "192.0.2.1")
    with ExitStack() as peers:
        for address in addresses:
            peer = peers.enter_context(Peer(ackd.port))
            family = "6" if ":" in address else "4"
            to = "::1" if ":" in address else "127.0.0.1"
            peer.send(f"PROXY TCP{family} {address} {to} 1 2\r\n".encode())
            peer.expect(GREETING)
        clients = status_of(ackd).clients.by_connections
    assert clients[0] == ClientStatus("2001:db8::/64", 2)
    others = {"2001:db8:0:1::/64", "::1", "::/64", "192.0.2.1"}
    assert {each.client for each in clients[1:]} == others


def test_clients_that_are_turned_away_are_counted_by_the_kind_of_reason(
    start: StartDaemon,
) -> None:
    ackd = start("allow: [127.0.0.1]\nmax_connections: 1\n")
    for source in ("127.0.0.2", "127.0.0.3"):
        with Peer(ackd.port, source=source) as peer:
            peer.expect(f"not connect: {source} is not allowed here\n".encode())
    with ackd.peer() as web, Peer(ackd.port) as other:
        other.expect(b"not connect: too many connections, the limit is 1\n")
        web.send(b"GET / HTTP/1.1\r\n\r\n")
        web.expect(b"not connect: this port takes no HTTP, send lines of text over plain TCP\n")
    clients = status_of(ackd).clients
    assert clients.turned_away == 4
    assert clients.turned_away_for[0] == Counted("not allowed", 2)
    others = {each.reason for each in clients.turned_away_for[1:]}
    assert others == {"too many connections", "another protocol"}


def test_a_journal_that_is_away_is_a_trouble_with_the_text_of_the_status_line(
    start: StartDaemon,
) -> None:
    ackd = start("journal_wait: 0.2\n", managed=True)
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"one\n")
        line = ackd.manager.wait_for("STATUS=the journal can't be reached, payloads wait")
        (trouble,) = status_of(ackd).troubles
        assert trouble == line.removeprefix("STATUS=").partition(";")[0]
        peer.expect(b"not received: the journal can't be reached\n")
        status = status_of(ackd)
    assert not status.journal.reachable
    assert status.journal.why
    assert status.payloads.refused_for == (Counted("the journal can't be reached", 1),)
    assert status.journal.waits.recent == 1


def test_waits_for_the_journal_are_counted_and_unconfirmed_records(start: StartDaemon) -> None:
    ackd = start()
    with ackd.peer() as peer:
        ackd.journal.hold()
        peer.send_until_stuck(b"x" * 4000 + b"\n")
        status = status_of(ackd)
        assert status.journal.waiting == 1
        assert status.journal.unconfirmed > 0
        assert status.log.appended - status.log.read == status.journal.unconfirmed
        ackd.journal.go_on()
        peer.half_close()
        assert peer.read_to_loss().startswith(ACK)
        waits = status_of(ackd).journal.waits
    assert waits.recent == waits.count > 0
    assert waits.p50 is not None
    assert waits.p95 is not None
    assert waits.longest is not None
    assert 0 <= waits.p50 <= waits.p95 <= waits.longest <= waits.sum * 1.07
    assert waits.longest > 0.1  # the queue was stuck for longer


def test_commits_of_the_log_on_the_disk_are_counted(start: StartDaemon, tmp_path: Path) -> None:
    (tmp_path / "log").mkdir()
    ackd = start(f"durability: disk\nwal_directory: {tmp_path}/log\n")
    exchange(ackd, b"one")
    status = status_of(ackd)
    assert status.log.durable
    assert status.log.place == f"{tmp_path}/log"
    assert status.log.appended >= status.log.synced > 0
    assert status.commits.count > 0
    assert status.commits.p99 is not None


@needs_openssl
def test_certificates_are_named_with_their_dates(start: StartDaemon, authority: Authority) -> None:
    soon = strftime("%Y%m%d%H%M%SZ", gmtime(time() + 86400))
    own = authority.issue("ackd-status", names="DNS:ackd.example.org", end=soon)
    ackd = start(f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n")
    status = status_of(ackd)
    (certificate,) = status.certificates
    assert certificate.begin <= status.time < certificate.end
    assert certificate.name == f"tls_certificate: {own.certificate}"
    assert "renew it" in status.troubles[0]


# Who gets it


@needs_root
def test_another_user_gets_no_answer(start: StartDaemon) -> None:
    ackd = start()
    os.seteuid(OTHER_USER)
    try:
        with pytest.raises(AskError) as caught:
            status_of(ackd)
    finally:
        os.seteuid(0)
    assert caught.value.status is Status.USAGE
    assert "only root and the user of process" in str(caught.value)


@pytest.fixture
def runtime_directory(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Return a directory that ackd has for its runtime directory, and only its user can reach."""
    with tempfile.TemporaryDirectory() as directory:
        monkeypatch.setenv("RUNTIME_DIRECTORY", directory)
        yield Path(directory)


def test_in_its_own_directory_ackd_answers_whoever_gets_there(
    start: StartDaemon, runtime_directory: Path
) -> None:
    ackd = start()
    assert from_json(answer_at(runtime_directory / "status")).pid == ackd.process.pid
    assert (runtime_directory / "status").stat().st_mode & 0o777 == 0o666
    ackd.process.terminate()
    ackd.wait()
    assert not (runtime_directory / "status").exists()


def test_the_socket_of_a_process_that_was_killed_is_replaced(
    start: StartDaemon, runtime_directory: Path
) -> None:
    start().process.kill()
    ackd = start()
    assert from_json(answer_at(runtime_directory / "status")).pid == ackd.process.pid


def test_a_directory_that_others_can_reach_does_not_get_the_socket(
    start: StartDaemon, runtime_directory: Path
) -> None:
    runtime_directory.chmod(0o755)
    ackd = start()
    assert status_of(ackd).pid == ackd.process.pid
    assert not (runtime_directory / "status").exists()


# What it costs others


def test_those_who_ask_and_never_read_cost_nobody_anything(start: StartDaemon) -> None:
    ackd = start()
    with ExitStack() as askers:
        for _ in range(200):
            asker = askers.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            asker.setblocking(False)
            with suppress(BlockingIOError):  # no room in the backlog
                asker.connect(abstract_name(ackd.process.pid))
        for number in range(20):
            exchange(ackd, b"%d" % number)
        assert status_of(ackd).payloads.acknowledged == 20
        assert ackd.journal.payloads(20) == [b"%d" % number for number in range(20)]


def test_those_who_leave_before_the_answer_harm_nobody(start: StartDaemon) -> None:
    ackd = start()
    for _ in range(20):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asker:
            asker.connect(abstract_name(ackd.process.pid))
    exchange(ackd, b"hello")
    assert status_of(ackd).payloads.acknowledged == 1


def test_a_report_that_fails_harms_nobody(start: StartDaemon, tmp_path: Path) -> None:
    """As after an upgrade that has replaced the modules, before the restart."""
    code = tmp_path / "code"
    shutil.copytree(Path(ackd.__file__).parent, code / "ackd")
    old = start(command=("env", f"--chdir={code}", *COMMAND))
    (code / "ackd" / "status.py").write_text("raise ImportError('of another version')\n")
    with pytest.raises(AskError):
        status_of(old)
    exchange(old, b"hello")
    log = old.journal.next(Kind.LOG)
    assert log["MESSAGE"].startswith(b"can't report a status")
