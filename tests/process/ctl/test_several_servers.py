"""ackctl with several servers: when one has failed, it goes on with the next."""

import json
import signal
import socket
from contextlib import ExitStack

import pytest

from ackd.client import Client, NoServerError
from tests.conftest import StartDaemon
from tests.support.ackctl_process import Ackctl, Ended, ackctl, without_times
from tests.support.certificates import Authority, needs_openssl
from tests.support.daemon_process import Daemon
from tests.support.peer import ACK

THANKS = ACK.decode()
FIRST, SECOND, THIRD = "127.0.0.1", "127.0.0.2", "127.0.0.3"
HOSTS = ("--host", FIRST, "--host", SECOND)
SHORT = ("--timeout", "4")  # a server that hangs has its share of that
NOT_ALLOWED = "allow: 192.0.2.1\n"
STOPPED = "not connect: 127.0.0.1 is not allowed here"


def both(start: StartDaemon, first: str = "", second: str = "") -> tuple[Daemon, Daemon]:
    """Start two servers on the same port of two addresses, with these settings."""
    one = start(f"bind: {FIRST}\n{first}")
    return one, start(f"bind: {SECOND}\nport: {one.port}\n{second}")


def end(ackd: Daemon) -> None:
    ackd.process.kill()
    ackd.wait()


def send(port: int, *arguments: str) -> Ended:
    """Run `ackctl send` with both servers to its end."""
    return ackctl("send", "--port", str(port), *HOSTS, *arguments)


def server_of(out: str) -> str:
    """Return the server of the first reply in JSON."""
    return str(json.loads(out.splitlines()[0])["server"])


def await_line(run: Ackctl, part: str) -> None:
    """Read lines of the standard output until one has this part."""
    while part not in (line := run.read_line()):
        assert line, "the output has ended"


def test_the_first_host_is_preferred(start: StartDaemon) -> None:
    first, _ = both(start)
    status, out, complaint = send(first.port, "--json", "hello")
    assert (status, server_of(out), complaint) == (0, FIRST, "")
    assert first.journal.payloads(1) == [b"hello"]


def test_a_server_that_is_gone_is_passed_over(start: StartDaemon) -> None:
    first, second = both(start)
    end(first)
    status, out, complaint = send(first.port, "--json", "hello")
    assert (status, server_of(out), complaint) == (0, SECOND, "")
    assert second.journal.payloads(1) == [b"hello"]


def test_a_server_that_rejects_the_client_is_passed_over(start: StartDaemon) -> None:
    first, _ = both(start, NOT_ALLOWED)
    status, out, complaint = send(first.port, "--verbose", "hello")
    assert without_times(out).splitlines()[:4] == [
        f"TIME connecting to {FIRST} or {SECOND} port {first.port}",
        f"TIME passed over: {FIRST}: turned away: {STOPPED}",
        f"TIME connected to {SECOND}",
        "TIME buffer data: Connect",
    ]
    assert (status, complaint) == (0, "")


def test_a_server_that_can_not_record_is_passed_over(start: StartDaemon) -> None:
    first, second = both(start, "journal_wait: 0\n")
    with first.peer() as peer:
        first.journal.close()
        peer.send(b"in vain\n")
        peer.expect(b"not received: the journal can't be reached\n")
    assert send(first.port, "hello") == (0, THANKS, "")
    assert second.journal.payloads(1) == [b"hello"]


def test_a_server_that_hangs_has_only_its_share_of_the_time(start: StartDaemon) -> None:
    first, second = both(start)
    first.signal(signal.SIGSTOP)
    status, out, _ = send(first.port, *SHORT, "--verbose", "hello")
    hangs = f"passed over: {FIRST}: connected, but not greeted: no answer within 2 s"
    assert status == 0
    assert hangs in out
    assert second.journal.payloads(1) == [b"hello"]


def test_a_server_that_does_not_greet_is_checked_on_its_own(start: StartDaemon) -> None:
    first, second = both(start, second="greeting: ''\n")
    assert send(first.port, "--no-greeting", "hello") == (0, THANKS, "")
    assert second.journal.payloads(1) == [b"hello"]


def test_an_address_that_never_answers_delays_nobody(start: StartDaemon) -> None:
    ackd = start(f"bind: {SECOND}\n")
    with ExitStack() as cleanup:
        full = cleanup.enter_context(socket.socket())
        full.bind((FIRST, ackd.port))
        full.listen(0)  # with one in its queue, it answers no other: listen(2)
        cleanup.enter_context(socket.create_connection((FIRST, ackd.port)))
        assert send(ackd.port, "hello") == (0, THANKS, "")


@needs_openssl
def test_a_server_without_tls_is_passed_over(start: StartDaemon, authority: Authority) -> None:
    own = authority.issue("second", names=f"IP:{SECOND}")
    tls = f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n"
    first, second = both(start, second=tls)
    ended = send(first.port, "--ca", str(authority.certificate), "hello")
    assert ended == (0, THANKS, "")
    assert second.journal.payloads(1) == [b"hello"]


@needs_openssl
def test_each_server_must_have_a_certificate_for_its_own_host(
    start: StartDaemon, authority: Authority
) -> None:
    own = authority.issue("second", names=f"IP:{SECOND}")
    tls = f"tls_certificate: {own.certificate}\ntls_key: {own.key}\n"
    first, second = both(start, tls, tls)
    ended = send(first.port, "--ca", str(authority.certificate), "hello")
    assert ended == (0, THANKS, "")
    assert second.journal.payloads(1) == [b"hello"]


def test_the_error_names_all_servers(start: StartDaemon) -> None:
    first, second = both(start, NOT_ALLOWED)
    end(second)
    status, out, complaint = send(first.port, "hello")
    assert (status, out) == (1, "")
    refused = f"{SECOND} port {first.port}: connection refused: nothing listens on that port,"
    assert complaint.startswith(f"ackctl: no server: {FIRST}: {STOPPED}; {refused}")
    end(first)
    status, _, complaint = send(first.port, "hello")
    assert status == 3
    assert complaint.startswith(f"ackctl: no server: {FIRST} port {first.port}: connection refused")
    assert refused in complaint


def test_a_name_that_can_not_be_resolved_is_passed_over(start: StartDaemon) -> None:
    ackd = start()
    hosts = ("--host", "no-such-host.invalid", "--host", FIRST)
    assert ackctl("send", "--port", str(ackd.port), *hosts, "hello") == (0, THANKS, "")


def test_a_server_that_can_not_record_is_tried_again(start: StartDaemon) -> None:
    ackd = start("journal_wait: 0\n")
    with ackd.peer() as peer:
        ackd.journal.close()
        peer.send(b"in vain\n")
        peer.expect(b"not received: the journal can't be reached\n")
    with Ackctl("send", "--port", str(ackd.port), "--retry", "9", "hello") as run:
        away = "ackctl: turned away: not connect: the journal can't be reached; once more in"
        assert run.read_error().startswith(away)
        ackd.journal.open()
        assert run.ended()[:2] == (0, THANKS)


# A server fails in the middle


def test_the_next_payloads_go_to_another_server_when_one_has_ended(start: StartDaemon) -> None:
    first, second = both(start)
    with Ackctl("send", "--port", str(first.port), *HOSTS, "--json", "--retry", "3", "-") as run:
        run.write(b"one\n")
        assert server_of(run.read_line()) == FIRST
        end(first)
        assert "tries again when the next line comes" in run.read_error()
        run.write(b"two\n")
        assert server_of(run.read_line()) == SECOND
        assert run.ended()[0] == 0
    assert second.journal.payloads(1) == [b"two"]


def test_payloads_without_a_reply_are_sent_to_another_server_only_with_retry(
    start: StartDaemon,
) -> None:
    first, second = both(start)
    for retry, status in (("0", 5), ("3", 0)):
        arguments = ("send", "--port", str(first.port), *HOSTS, "--verbose", "--retry", retry, "-")
        with Ackctl(*arguments) as run:
            run.write(b"one\n")
            await_line(run, "Response from server")
            first.signal(signal.SIGSTOP)
            run.write(b"two\n")
            await_line(run, "Sent to server: two")
            end(first)
            if retry != "0":
                assert "1 sent again, and perhaps recorded twice" in run.read_error()
                await_line(run, f"connected to {SECOND}")
            assert run.ended()[0] == status
        if retry == "0":
            first = start(f"bind: {FIRST}\nport: {first.port}\n")
    assert second.journal.payloads(1) == [b"two"]


def test_ping_shows_the_server_that_answers_after_a_failure_and_the_outage(
    start: StartDaemon,
) -> None:
    first, second = both(start)
    arguments = ("ping", "--port", str(first.port), *HOSTS, "--interval", "0.1")
    with Ackctl(*arguments) as run:
        assert f": {FIRST}, {SECOND} port {first.port}, a payload" in run.read_line()
        assert run.read_line().endswith(f" connected to {FIRST}\n")
        assert "#1 " in run.read_line()
        end(first)
        await_line(run, f" connected to {SECOND}")
        await_line(run, " ms")
        run.signal(signal.SIGINT)
        _, out, _ = run.ended()
    assert "connected again 1 time" in out
    assert "no ack from " in out
    assert second.journal.payloads(1)


def test_ping_says_in_json_which_server_has_answered(start: StartDaemon) -> None:
    first, _ = both(start)
    end(first)
    once = ("ping", "--port", str(first.port), *HOSTS, "--count", "1", "--json")
    status, out, _ = ackctl(*once)
    assert (status, server_of(out)) == (0, SECOND)


# The command line, and the library


@pytest.mark.parametrize(("verb", "status"), [("probe", 2), ("bench", 2), ("check", 3)])
def test_a_command_about_one_server_takes_no_second_one(verb: str, status: int) -> None:
    ended, out, complaint = ackctl(verb, *HOSTS)
    assert ended == status
    assert "--host can be given once" in out + complaint


def test_a_program_can_name_several_hosts(start: StartDaemon) -> None:
    first, second = both(start, NOT_ALLOWED)
    with Client([FIRST, SECOND], first.port) as client:
        assert client.server == SECOND
        client.send(b"hello")
    assert second.journal.payloads(1) == [b"hello"]
    end(second)
    with pytest.raises(NoServerError) as caught:
        Client([FIRST, SECOND], first.port)
    assert [name for name, _ in caught.value.failures] == [FIRST, SECOND]
