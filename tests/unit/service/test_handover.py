"""The state that one process leaves to the next."""

import json
import tempfile
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ackd.protocol import ProtocolState, ServerProtocol
from ackd.records import LONGEST_FACT, Reason
from ackd.server.snapshot import Snapshot
from ackd.service.handover import HandoverError, State, read, write
from tests.support.handover_bytes import dump, load
from tests.support.runs import in_bytes

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
        skipped=counts,
        skipped_ends=st.sampled_from([b"", b"\r", b"\0", b"\r\0"]),
    )


protocols = st.lists(st.binary()).flatmap(protocols_with)
facts = st.text(max_size=LONGEST_FACT // 4)
snapshots = st.builds(
    Snapshot,
    cookie=counts,
    peer=st.text(),
    peer_port=counts,
    listener=st.text(),
    connection=st.text(),
    started=st.floats(allow_nan=False, allow_infinity=False),
    has_sent=st.booleans(),
    connect_recorded=st.booleans(),
    eof=st.booleans(),
    owed=st.lists(st.tuples(st.binary(min_size=1), st.integers(1, 2**63))).map(tuple),
    send_error=st.integers(0, 200),
    leaving=st.none() | st.sampled_from(Reason),
    protocol=protocols,
    facts=st.lists(st.tuples(st.from_regex("ACKD_[A-Z_]{1,59}", fullmatch=True), facts)).map(tuple),
)
states = st.builds(State, connections=st.lists(snapshots).map(tuple), notes=st.just(()))


@settings(deadline=None)
@given(states)
def test_a_loaded_state_equals_the_dumped_one(state: State) -> None:
    assert load(dump(state)) == state


@settings(deadline=None)
@given(
    st.binary()
    | st.recursive(st.none() | st.integers() | st.text(), st.lists).map(repr).map(str.encode)
)
def test_anything_but_a_state_is_refused(text: bytes) -> None:
    with pytest.raises(HandoverError):
        load(text)


PROTOCOL = ProtocolState(b"half", False, (b"one",), ((0, b"no\n"),), 9, 3, 1)
SNAPSHOT = Snapshot(
    cookie=1,
    peer="::1",
    peer_port=9,
    listener="[::1]:8",
    connection="x-1",
    started=0.5,
    has_sent=True,
    connect_recorded=True,
    eof=False,
    owed=((b"ck\n", 1), (b"ack\n", 70_000)),
    send_error=0,
    leaving=None,
    protocol=PROTOCOL,
    facts=(("ACKD_PROXY", "[::1]:7"),),
)


def test_each_field_of_a_connection_is_dumped() -> None:
    (connection,) = json.loads(dump(State((SNAPSHOT,))))["connections"]
    assert len(connection) == len(Snapshot._fields)
    assert connection["protocol"].keys() == set(ProtocolState._fields)


@pytest.mark.parametrize("reason", Reason, ids=lambda reason: str(reason.name))
def test_each_reason_of_an_end_is_dumped(reason: Reason) -> None:
    state = State((SNAPSHOT._replace(leaving=reason),))
    assert load(dump(state)) == state


# An ackd has written this before the attributes got their present names.
WRITTEN_EARLIER = rb"""
{"version": 1, "connections": [
{"cookie": 4211, "peer": "192.168.150.2", "peer_port": 41234, "listener": "192.168.150.1:10008",
"connection": "6d797aa23985cdd8-1", "started": 1234.5, "heard": true, "introduced": true,
"eof": false, "output": "ok\n", "leaving": null, "protocol": {"partial": "ha\u00fflf",
"skipping": false, "payloads": ["one", "two\r"],
"refusals": [[1, "not received: longer than 10 bytes\n"]],
"received": 29, "acknowledged": 3, "refused": 1}},
{"cookie": 4212, "peer": "::1", "peer_port": 41235, "listener": "[::1]:10008",
"connection": "6d797aa23985cdd8-2", "started": 1235.25, "heard": true, "introduced": false,
"eof": true, "output": "", "leaving": "STOP", "protocol": {"partial": "",
"skipping": true, "payloads": [], "refusals": [], "received": 0, "acknowledged": 0, "refused": 1}},
{"cookie": 4213, "peer": "::1", "peer_port": 41236, "listener": "[::1]:10008",
"connection": "6d797aa23985cdd8-3", "started": 1236.0, "heard": false, "introduced": false,
"eof": false, "output": "", "leaving": "TURNED_AWAY", "protocol": {"partial": "",
"skipping": false, "payloads": [], "refusals": [], "received": 0, "acknowledged": 0,
"refused": 0}}], "notes": ["note\u00ff"]}"""


def test_a_state_that_an_earlier_ackd_has_written_is_loaded() -> None:
    sending = Snapshot(
        cookie=4211,
        peer="192.168.150.2",
        peer_port=41234,
        listener="192.168.150.1:10008",
        connection="6d797aa23985cdd8-1",
        started=1234.5,
        has_sent=True,
        connect_recorded=True,
        eof=False,
        owed=((b"ok\n", 1),),
        send_error=0,
        leaving=None,
        protocol=ProtocolState(
            partial=b"ha\xfflf",
            skipping=False,
            payloads=(b"one", b"two\r"),
            refusals=((1, b"not received: longer than 10 bytes\n"),),
            received=29,
            acknowledged=3,
            refused=1,
        ),
    )
    stopped = Snapshot(
        cookie=4212,
        peer="::1",
        peer_port=41235,
        listener="[::1]:10008",
        connection="6d797aa23985cdd8-2",
        started=1235.25,
        has_sent=True,
        connect_recorded=False,
        eof=True,
        owed=(),
        send_error=0,
        leaving=Reason.STOP,
        protocol=ProtocolState(b"", True, (), (), received=0, acknowledged=0, refused=1),
    )
    rejected = stopped._replace(
        cookie=4213,
        peer_port=41236,
        connection="6d797aa23985cdd8-3",
        started=1236.0,
        has_sent=False,
        eof=False,
        leaving=Reason.REJECTED,
        protocol=ProtocolState(b"", False, (), (), received=0, acknowledged=0, refused=0),
    )
    assert load(WRITTEN_EARLIER) == State((sending, stopped, rejected), (b"note\xff",))


def test_a_state_is_one_json_text_as_earlier_versions_read_it() -> None:
    state = State((SNAPSHOT, SNAPSHOT._replace(cookie=2)))
    whole = json.loads(dump(state))
    assert whole["notes"] == []
    assert load(json.dumps(whole).encode()) == state


def dump_with_notes(state: State) -> bytes:
    """Return a state as versions without a log have written it: each note has a line of its own."""
    notes = [json.dumps(note.decode("iso-8859-1"), ensure_ascii=False) for note in state.notes]
    text = dump(state).removesuffix(b"]}\n")
    return text + ",\n".join(notes).encode() + b"\n]}\n"


def test_notes_that_a_version_without_a_log_has_left_are_read() -> None:
    state = State((SNAPSHOT,), (b"note\xff", b"\x85\n"))
    assert load(dump_with_notes(state)) == state


def test_a_state_is_cut_off() -> None:
    text = dump_with_notes(State((SNAPSHOT, SNAPSHOT._replace(cookie=2)), (b"note",)))
    for end in range(len(text) - 3):
        with pytest.raises(HandoverError):
            load(text[:end])


def test_a_state_of_long_half_lines_is_written_and_read_in_little_memory() -> None:
    half = PROTOCOL._replace(partial=b"\xff" * 65536)
    with tempfile.TemporaryFile() as file:
        tracemalloc.start()
        write(file, (SNAPSHOT._replace(cookie=n, protocol=half) for n in range(200)))
        _, writing_peak = tracemalloc.get_traced_memory()
        file.seek(0)
        state = read(file)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    bytes_of_all = 200 * 65536
    assert writing_peak < bytes_of_all / 10
    assert peak < bytes_of_all * 1.1
    assert {snapshot.protocol.partial for snapshot in state.connections} == {half.partial}


def test_a_state_of_another_version_is_refused() -> None:
    text = dump(State()).replace(b'"version": 1', b'"version": 2')
    with pytest.raises(HandoverError, match="the version is 2, not 1"):
        load(text)


def with_wrong_member(member: str, value: object) -> bytes:
    """Return a state of two connections; the first one has this value in this member."""
    state = json.loads(dump(State((SNAPSHOT, SNAPSHOT._replace(cookie=2)))))
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
        ("output", 7),
        ("output", [["ack"]]),
        ("output", [["", 1]]),
        ("output", [["ack", 0]]),
        ("output", [["ack", -1]]),
        ("output", [[1, "ack"]]),
        ("send_error", -1),
        ("send_error", "reset"),
        ("skipped", None),
        ("skipped_ends", "\u20ac"),
        ("leaving", "FOR GOOD"),
        ("protocol", []),
        ("partial", None),
        ("skipping", True),
        ("payloads", 3),
        ("payloads", "one"),
        ("payloads", ["\u20ac"]),
        ("refusals", [[1]]),
        ("refusals", [[0, "no", 1]]),
        ("refusals", [1]),
        ("leaving", 1),
        ("refusals", [[-1, "no"]]),
        ("refusals", [[1, "no"], [0, "no"]]),
        ("refusals", [[2, "no"]]),
        ("acknowledged", 1.5),
        ("facts", None),
        ("facts", ["ACKD_PROXY"]),
        ("facts", [["ACKD_PROXY"]]),
        ("facts", [["ACKD_PROXY", 1]]),
        ("facts", [["_UID", "0"]]),
        ("facts", [["ACKD_X\nMESSAGE", "forged"]]),
        ("facts", [["ACKD_PROXY", "x" * (LONGEST_FACT + 1)]]),
    ],
)
def test_a_connection_with_a_wrong_member_is_left_out(member: str, value: object) -> None:
    state = load(with_wrong_member(member, value))
    assert [snapshot.cookie for snapshot in state.connections] == [2]


@pytest.mark.parametrize("member", ["cookie", "protocol", "leaving"])
def test_a_connection_without_a_member_is_left_out(member: str) -> None:
    state = json.loads(dump(State((SNAPSHOT, SNAPSHOT._replace(cookie=2)))))
    del state["connections"][0][member]
    loaded = load(json.dumps(state).encode())
    assert [snapshot.cookie for snapshot in loaded.connections] == [2]


WRONG_AS_A_WHOLE = {
    "no JSON": (b"{", "the state", "is not JSON: "),
    "not UTF-8": (b"\xff", "the state", "is not JSON: "),
    "nested too deeply": (b"[" * 100_000, "the state", "is not JSON: "),
    "a list": (b"[]", "the state", "is not an object"),
    "without a version": (b"{}", "the state", "has no member version"),
    "without connections": (b'{"version": 1}', "the state", "has no member connections"),
    "a version that is text": (b'{"version": "1"}', "version", "is not a whole number"),
    "a number of connections": (
        b'{"version": 1, "connections": 2}',
        "connections",
        "is not a list",
    ),
    "a note that is no text": (
        b'{"version": 1, "connections": [], "notes": [null]}',
        "notes",
        "is not text",
    ),
}


@pytest.mark.parametrize(
    ("text", "member", "problem"), WRONG_AS_A_WHOLE.values(), ids=WRONG_AS_A_WHOLE.keys()
)
def test_the_error_has_the_member_and_the_problem(text: bytes, member: str, problem: str) -> None:
    with pytest.raises(HandoverError) as caught:
        load(text)
    assert caught.value.member == member
    assert caught.value.problem.startswith(problem)
    assert str(caught.value) == f"{caught.value.member} {caught.value.problem}"


def test_a_mistake_of_the_program_is_not_taken_for_a_wrong_state() -> None:
    with pytest.raises(TypeError):
        load(None)  # type: ignore[arg-type]


@settings(deadline=None)
@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(0, 5))
def test_a_restored_protocol_answers_as_the_first_would_have(
    before: bytes, after: bytes, taken: int
) -> None:
    alone, first, second = (ServerProtocol(8, b"ok\n") for _ in range(3))
    replies = []
    for protocol in (alone, first):
        protocol.receive_data(before)
        count = min(taken, len(protocol.payloads))
        replies.append(in_bytes(protocol.acknowledge(count)))
    second.restore(first.state())
    for protocol in (alone, second):
        protocol.receive_data(after)
        owed = protocol.acknowledge(len(protocol.receive_eof()))
        while protocol.waiting:
            owed += protocol.acknowledge(len(protocol.split(-1)))
        replies.append(in_bytes(owed))
    assert replies[0] == replies[1]
    assert replies[2] == replies[3]
    assert alone.state() == second.state()
