"""The state that one process leaves to the next."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ackd.protocol import ProtocolState, ServerProtocol
from ackd.records import Reason
from ackd.server.snapshot import Snapshot
from ackd.service.handover import HandoverError, State, dump, load

counts = st.integers(0, 2**63)


def protocols_with(payloads: list[bytes]) -> st.SearchStrategy[ProtocolState]:
    """Return states in which each refusal has its place between these payloads."""
    refusals = st.lists(st.tuples(st.integers(0, len(payloads)), st.binary()))
    return st.builds(
        ProtocolState,
        partial=st.binary(),
        skipping=st.just(False),
        payloads=st.just(tuple(payloads)),
        refusals=refusals.map(sorted).map(tuple),
        received=counts,
        acknowledged=counts,
        refused=counts,
    )


protocols = st.lists(st.binary()).flatmap(protocols_with)
snapshots = st.builds(
    Snapshot,
    cookie=counts,
    peer=st.text(),
    peer_port=counts,
    listener=st.text(),
    connection=st.text(),
    started=st.floats(allow_nan=False, allow_infinity=False),
    heard=st.booleans(),
    introduced=st.booleans(),
    eof=st.booleans(),
    output=st.binary(),
    leaving=st.none() | st.sampled_from(Reason),
    protocol=protocols,
)
states = st.builds(
    State,
    connections=st.lists(snapshots).map(tuple),
    notes=st.lists(st.binary()).map(tuple),
)


@given(states)
def test_a_state_arrives_as_it_was_left(state: State) -> None:
    assert load(dump(state)) == state


@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_what_is_no_state_is_refused(text: bytes) -> None:
    with pytest.raises(HandoverError):
        load(text)


def test_a_state_of_another_version_is_refused() -> None:
    text = dump(State()).replace(b'"version": 1', b'"version": 2')
    with pytest.raises(HandoverError, match="it is of version 2, not 1"):
        load(text)


def spoilt(member: str, value: object) -> bytes:
    """Return a state of two connections, in the first of which one member is not right."""
    protocol = ProtocolState(b"half", False, (b"one",), ((0, b"no\n"),), 9, 3, 1)
    good = Snapshot(1, "::1", 9, "[::1]:8", "x-1", 0.5, True, True, False, b"ack\n", None, protocol)
    state = json.loads(dump(State((good, replace(good, cookie=2)))))
    first = state["connections"][0]
    if member in first["protocol"]:
        first["protocol"][member] = value
    else:
        first[member] = value
    return json.dumps(state).encode()


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("cookie", -1),
        ("cookie", True),
        ("cookie", 2**64),
        ("peer", 7),
        ("peer", "\ud800"),
        ("peer_port", "80"),
        ("started", "now"),
        ("heard", None),
        ("started", float("nan")),
        ("started", float("inf")),
        ("introduced", 1),
        ("eof", None),
        ("output", "\u20ac"),
        ("leaving", "FOR GOOD"),
        ("protocol", []),
        ("partial", None),
        ("skipping", True),
        ("payloads", 3),
        ("payloads", "one"),
        ("payloads", ["\u20ac"]),
        ("refusals", [[1]]),
        ("refusals", [[-1, "no"]]),
        ("refusals", [[1, "no"], [0, "no"]]),
        ("refusals", [[2, "no"]]),
        ("acknowledged", 1.5),
    ],
)
def test_a_connection_that_can_not_be_understood_is_left_out(member: str, value: object) -> None:
    assert [snapshot.cookie for snapshot in load(spoilt(member, value)).connections] == [2]


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 5))
def test_a_protocol_goes_on_where_another_one_has_left_off(
    before: bytes, after: bytes, taken: int
) -> None:
    alone, first, second = (ServerProtocol(8, b"ok\n") for _ in range(3))
    replies = []
    for protocol in (alone, first):
        protocol.receive_data(before)
        count = min(taken, len(protocol.payloads))
        replies.append(protocol.acknowledge(count))
    second.restore(first.state())
    for protocol in (alone, second):
        protocol.receive_data(after)
        protocol.receive_eof()
        count = len(protocol.payloads)
        replies.append(protocol.acknowledge(count))
    assert replies[0] == replies[1]
    assert replies[2] == replies[3]
    assert alone.state() == second.state()
