"""Connecting to a name with several addresses: real sockets, some of which never answer."""

import errno
import select
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from time import monotonic

import pytest

from ackd.client.addresses import (
    Destination,
    Order,
    SocketAddress,
    race,
    resolve,
    usable,
)
from ackd.client.errors import NotReachedError, Unreached
from ackd.client.opening import open_to
from ackd.client.waiting import Awaited, Steps, run
from tests.support.obstacle import needs_localhost

FOREVER = 86400.0  # seconds: a test that waits for that long does not end

pytestmark = pytest.mark.skipif(
    not socket.has_dualstack_ipv6(), reason="needs a host with IPv6 and IPv4"
)


class Addresses:
    """Addresses of the loopback that do what a test wants. All ports are different."""

    def __init__(self, cleanup: ExitStack) -> None:
        self._cleanup = cleanup

    def good(self, family: int) -> SocketAddress:
        """Return an address that accepts."""
        return address_of(self.listener(family, backlog=16))

    def silent(self, family: int) -> SocketAddress:
        """Return an address that does not answer: the queue of its listener is full, listen(2)."""
        listener = self.listener(family, backlog=0)
        queued = self._cleanup.enter_context(socket.socket(family))
        queued.connect(listener.getsockname())
        return address_of(listener)

    def refusing(self, family: int) -> SocketAddress:
        """Return an address on which nothing listens."""
        bound = self._cleanup.enter_context(socket.socket(family))
        bound.bind((loopback(family), 0))
        return address_of(bound)

    def listener(self, family: int, backlog: int) -> socket.socket:
        listener = self._cleanup.enter_context(socket.socket(family))
        listener.bind((loopback(family), 0))
        listener.listen(backlog)
        return listener


def loopback(family: int) -> str:
    return "::1" if family == socket.AF_INET6 else "127.0.0.1"


def address_of(sock: socket.socket) -> SocketAddress:
    return SocketAddress(sock.family, sock.getsockname())


@pytest.fixture
def addresses() -> Iterator[Addresses]:
    with ExitStack() as cleanup:
        yield Addresses(cleanup)


def wait_for(wait: Awaited) -> bool:
    """Wait as `run` does; return whether the descriptor was ready."""
    poll = select.poll()
    poll.register(wait.descriptor, select.POLLIN)
    return bool(poll.poll(max(0.0, wait.deadline - monotonic()) * 1000))


def unanswered(address: SocketAddress) -> bool:
    """Return whether an attempt to connect to this address has had no answer: TCP_SYN_SENT."""
    port = f":{address.address[1]:04X}"
    table = "tcp6" if address.family == socket.AF_INET6 else "tcp"
    with open(f"/proc/net/{table}") as rows:
        return any(row[2].endswith(port) and row[3] == "02" for row in map(str.split, rows))


def connected(steps: Steps[socket.socket]) -> SocketAddress:
    with run(steps) as sock:
        return SocketAddress(sock.family, sock.getpeername())


def test_ipv4_connects_while_ipv6_has_not_answered(addresses: Addresses) -> None:
    silent, good = addresses.silent(socket.AF_INET6), addresses.good(socket.AF_INET)
    steps = race([silent, good], FOREVER)
    assert not wait_for(next(steps))
    assert unanswered(silent)
    assert wait_for(next(steps))  # the attempt by IPv4 has begun
    assert unanswered(silent)
    with pytest.raises(StopIteration) as end:
        next(steps)
    with end.value.value as sock:
        assert sock.getpeername() == good.address
    assert not unanswered(silent)


def test_the_next_address_is_tried_at_once_where_one_refuses(addresses: Addresses) -> None:
    refusing, good = addresses.refusing(socket.AF_INET6), addresses.good(socket.AF_INET)
    steps = race([refusing, good], FOREVER)
    assert wait_for(next(steps))  # for the refusal, unless the kernel has it at once
    assert connected(steps) == good


def test_an_address_that_the_kernel_does_not_support_is_skipped(addresses: Addresses) -> None:
    unsupported = SocketAddress(socket.AF_INET + 1000, ("2001:db8::1", 1))
    good = addresses.good(socket.AF_INET)
    assert connected(race([unsupported, good], FOREVER)) == good
    with pytest.raises(OSError, match="not supported"):
        run(race([unsupported], FOREVER))


def test_the_families_take_turns(addresses: Addresses) -> None:
    silent = [addresses.silent(socket.AF_INET6) for _ in range(3)]
    good = addresses.good(socket.AF_INET)
    steps = race([*silent, good], FOREVER)
    assert not wait_for(next(steps))
    assert wait_for(next(steps))
    assert [unanswered(address) for address in silent] == [True, False, False]
    assert connected(steps) == good


def test_each_address_is_tried_in_a_short_time_too(addresses: Addresses) -> None:
    silent = [addresses.silent(socket.AF_INET6) for _ in range(2)]
    good = addresses.good(socket.AF_INET6)
    assert connected(race([*silent, good], timeout=0.2)) == good


def test_an_address_that_answers_late_is_used_if_it_is_the_first_to_answer(
    addresses: Addresses,
) -> None:
    late = addresses.listener(socket.AF_INET6, backlog=0)
    with socket.create_connection(late.getsockname()[:2]):
        steps = race([address_of(late), addresses.silent(socket.AF_INET)], FOREVER)
        assert not wait_for(next(steps))
        late.accept()[0].close()  # makes room in the queue
        assert connected(steps) == address_of(late)


@pytest.mark.parametrize("order", [1, -1])
def test_a_refusal_says_more_than_silence(addresses: Addresses, order: int) -> None:
    both = [addresses.silent(socket.AF_INET6), addresses.refusing(socket.AF_INET)][::order]
    with pytest.raises(ConnectionRefusedError):
        run(race(both, timeout=0.2))


def test_no_answer_is_an_error_of_all_addresses(addresses: Addresses) -> None:
    both = [addresses.silent(socket.AF_INET6), addresses.silent(socket.AF_INET)]
    with pytest.raises(TimeoutError):
        run(race(both, timeout=0.2))
    assert not any(map(unanswered, both))


def test_an_abandoned_attempt_leaves_nothing_behind(addresses: Addresses) -> None:
    silent = addresses.silent(socket.AF_INET6)
    steps = race([silent], FOREVER)
    next(steps)
    assert unanswered(silent)
    steps.close()
    assert not unanswered(silent)


def test_the_error_has_the_facts(addresses: Addresses) -> None:
    refusing = addresses.refusing(socket.AF_INET)
    port = refusing.address[1]
    assert isinstance(port, int)
    destination = Destination("ackd.example", port, FOREVER)
    with pytest.raises(NotReachedError) as caught:
        run(open_to(destination, [refusing], Order()))
    error = caught.value
    assert (error.missing, error.host, error.port) == (Unreached.CONNECTION, "ackd.example", port)
    assert isinstance(error.cause, OSError)
    assert error.cause.errno == errno.ECONNREFUSED


@pytest.mark.parametrize("source", ["127.0.0.1", "::1"])
def test_only_addresses_of_the_family_of_the_source_are_tried(
    addresses: Addresses, source: str
) -> None:
    both = {family: addresses.good(family) for family in (socket.AF_INET, socket.AF_INET6)}
    family = socket.AF_INET6 if ":" in source else socket.AF_INET
    destination = Destination("ackd.example", 1, FOREVER, source)
    assert [each for each in both.values() if usable(each, destination)] == [both[family]]
    others = [each for each in both.values() if each.family != family]
    with pytest.raises(NotReachedError) as caught:
        run(open_to(destination, others, Order()))
    assert caught.value.missing is Unreached.FAMILY


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_only_addresses_of_the_wanted_family_are_tried(
    addresses: Addresses, family: socket.AddressFamily
) -> None:
    both = {each: addresses.good(each) for each in (socket.AF_INET, socket.AF_INET6)}
    destination = Destination("ackd.example", 1, FOREVER, family=family)
    assert [each for each in both.values() if usable(each, destination)] == [both[family]]
    others = [each for each in both.values() if each.family != family]
    with pytest.raises(NotReachedError) as caught:
        run(open_to(destination, others, Order()))
    assert caught.value.missing is Unreached.FAMILY


def test_addresses_that_have_failed_come_last() -> None:
    one, two, three = (SocketAddress(socket.AF_INET, (name, 7)) for name in ("a", "b", "c"))
    order = Order()
    assert order.of([one, two, three, two]) == [one, two, three]
    order.note_failure(one)
    order.note_failure(two)
    assert order.of([one, two, three]) == [three, one, two]
    order.note_failure(one)
    assert order.of([one, two]) == [two, one]


@needs_localhost
def test_a_name_is_resolved_to_the_wanted_family_only() -> None:
    found = run(resolve(Destination("localhost", 7, FOREVER, family=socket.AF_INET)))
    assert {address.family for address in found} == {socket.AF_INET}


def test_an_address_needs_no_name_servers() -> None:
    steps = resolve(Destination("::1", 7, FOREVER))
    with pytest.raises(StopIteration) as end:
        next(steps)
    assert [address.address[:2] for address in end.value.value] == [("::1", 7)]


@needs_localhost
def test_a_name_is_resolved() -> None:
    found = run(resolve(Destination("localhost", 7, FOREVER)))
    assert {address.address[0] for address in found} & {"127.0.0.1", "::1"}
