"""The format in which one process leaves its connections to the next: JSON.

JSON, because the reader can be of another version than the writer. Bytes are written as ISO 8859-1
text, in which each byte is one character.

Each connection has a line of its own, so that both processes hold one of them at a time as text:
half lines of thousands of clients, as JSON, are far larger than as bytes. All lines together are
one JSON text, which is how earlier versions have read and written it.

The names of the members belong to the format: they stay when an attribute gets another name,
because the next version must read a state that the previous version has written. Members that came
later are optional.
"""

import json
import re
from collections.abc import Iterable, Iterator
from math import isfinite
from typing import BinaryIO, NamedTuple

from ackd.protocol import ProtocolState, Run
from ackd.records import LONGEST_FACT, Reason
from ackd.server.snapshot import Snapshot

VERSION = 1

_REASONS = {
    Reason.CLIENT: "CLIENT",
    Reason.LOST: "LOST",
    Reason.IDLE: "IDLE",
    Reason.UNFINISHED: "UNFINISHED",
    Reason.STOP: "STOP",
    Reason.NOT_TAKEN_OVER: "NOT_TAKEN_OVER",
    Reason.REJECTED: "TURNED_AWAY",
}
_REASON_NAMED = {name: reason for reason, name in _REASONS.items()}


# A field with any other name would be lost, or be another field: systemd.journal-fields(7).
_FACT = "ACKD_[A-Z_]{1,59}"  # which `re` compiles once it is needed


class HandoverError(Exception):
    """A state that this version can't read: `member` is its wrong part, `problem` says why."""

    def __init__(self, member: str, problem: str) -> None:
        super().__init__(f"{member} {problem}")
        self.member = member
        self.problem = problem


# A named tuple: the decorator `dataclass` would delay each start noticeably.
class State(NamedTuple):
    """All that one process leaves to the next.

    `notes` are records that wait for journald. Only versions without a log leave them here.
    """

    connections: tuple[Snapshot, ...] = ()
    notes: tuple[bytes, ...] = ()


# The lines before, between and behind those of connections and notes.
_BEGIN = b'{"version": %d, "connections": [\n' % VERSION
_NOTES = b'], "notes": [\n'
_END = b"]}\n"


def write(file: BinaryIO, connections: Iterable[Snapshot]) -> None:
    """Write a state into a file, one connection after the other.

    Its list of notes is empty: versions without a log need it.
    """
    file.write(_BEGIN)
    _write_lines(file, map(_dump_snapshot, connections))
    file.write(_NOTES + _END)


def read(file: BinaryIO) -> State:
    """Return the state in a file, which another process has written.

    A connection that can't be read is left out, and must then be closed: no ack is better than a
    wrong ack. Raises HandoverError if the state as a whole can't be read.
    """
    first = file.readline()
    if first != _BEGIN:
        return _load_whole(first + file.read())
    snapshots = map(_load_snapshot_if_possible, _read_lines(file, "connections", _NOTES))
    connections = tuple(filter(None, snapshots))
    return State(connections, tuple(note.data() for note in _read_lines(file, "notes", _END)))


def _write_lines(file: BinaryIO, values: Iterable[object]) -> None:
    between = b""
    for value in values:
        # Not escaped, a byte beyond ASCII has two bytes and not six.
        file.write(between + json.dumps(value, ensure_ascii=False).encode())
        between = b",\n"
    file.write(b"\n" if between else b"")


def _read_lines(file: BinaryIO, name: str, end: bytes) -> Iterator["_Value"]:
    while (line := file.readline()) != end:
        if not line:
            raise HandoverError("the state", "is not JSON: it is cut off")
        yield _Value(name, _json(line.removesuffix(b"\n").removesuffix(b",")))


def _json(text: bytes) -> object:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HandoverError("the state", f"is not JSON: {error}") from error


def _load_whole(text: bytes) -> State:
    """Return a state whose lines are not those that this version writes."""
    state = _Value("the state", _json(text))
    version = state["version"].count()
    if version != VERSION:
        raise HandoverError("the version", f"is {version}, not {VERSION}")
    snapshots = map(_load_snapshot_if_possible, state["connections"].items())
    return State(tuple(filter(None, snapshots)), state["notes"].lines())


def _dump_snapshot(snapshot: Snapshot) -> dict[str, object]:
    return {
        "cookie": snapshot.cookie,
        "peer": snapshot.peer,
        "peer_port": snapshot.peer_port,
        "listener": snapshot.listener,
        "connection": snapshot.connection,
        "started": snapshot.started,
        "heard": snapshot.has_sent,
        "introduced": snapshot.connect_recorded,
        "eof": snapshot.eof,
        "output": _dump_owed(snapshot.owed),
        "send_error": snapshot.send_error,
        "leaving": _REASONS[snapshot.leaving] if snapshot.leaving else None,
        "protocol": _dump_protocol(snapshot.protocol),
        "facts": snapshot.facts,
    }


def _load_snapshot(value: "_Value") -> Snapshot:
    return Snapshot(
        cookie=value["cookie"].count(),
        peer=value["peer"].text(),
        peer_port=value["peer_port"].count(),
        listener=value["listener"].text(),
        connection=value["connection"].text(),
        started=value["started"].time(),
        has_sent=value["heard"].flag(),
        connect_recorded=value["introduced"].flag(),
        eof=value["eof"].flag(),
        owed=_load_owed(value["output"]),
        send_error=value.get("send_error", 0).count(),
        leaving=_load_reason(value["leaving"]),
        protocol=_load_protocol(value["protocol"]),
        facts=tuple(map(_load_fact, value.get("facts", []).items())),
    )


def _load_fact(value: "_Value") -> tuple[str, str]:
    pair = value.items()
    if len(pair) != 2:
        raise HandoverError(value.name, "has an item that is not a pair")
    name, fact = (part.text() for part in pair)
    if not re.fullmatch(_FACT, name) or len(fact.encode()) > LONGEST_FACT:
        raise HandoverError(value.name, "has an item that is not a field of a record")
    return name, fact


def _load_snapshot_if_possible(value: "_Value") -> Snapshot | None:
    try:
        return _load_snapshot(value)
    except HandoverError:
        return None


def _dump_protocol(state: ProtocolState) -> dict[str, object]:
    return {
        "partial": _text(state.partial),
        "skipping": state.skipping,
        "payloads": list(map(_text, state.payloads)),
        "refusals": [[position, _text(reply)] for position, reply in state.refusals],
        "received": state.received,
        "acknowledged": state.acknowledged,
        "refused": state.refused,
        "skipped": state.skipped,
        "skipped_ends": _text(state.skipped_ends),
    }


def _load_protocol(value: "_Value") -> ProtocolState:
    """Return a state whose replies come out in order, and never more acks than payloads."""
    state = ProtocolState(
        partial=value["partial"].data(),
        skipping=value["skipping"].flag(),
        payloads=value["payloads"].lines(),
        refusals=tuple(map(_load_refusal, value["refusals"].items())),
        received=value["received"].count(),
        acknowledged=value["acknowledged"].count(),
        refused=value["refused"].count(),
        skipped=value.get("skipped", 0).count(),
        skipped_ends=value.get("skipped_ends", "").data(),
    )
    positions = [position for position, _ in state.refusals]
    if positions != sorted(positions) or max(positions, default=0) > len(state.payloads):
        raise HandoverError("refusals", "have no place between the payloads")
    if state.skipping and state.partial:
        raise HandoverError("partial", "must be empty while the rest of a line is skipped")
    return state


def _dump_owed(owed: tuple[Run, ...]) -> object:
    """Return runs as a list; "" for none, as versions that know no runs have written it.

    Such a version can't read the list, and closes the connection. It must not leave out replies:
    the client would take a later one for an earlier one.
    """
    return [[_text(line), count] for line, count in owed] or ""


def _load_owed(value: "_Value") -> tuple[Run, ...]:
    if isinstance(value.json, str):
        return ((value.data(), 1),) if value.json else ()
    return tuple(map(_load_run, value.items()))


def _load_run(value: "_Value") -> Run:
    pair = value.items()
    if len(pair) != 2 or not pair[0].data() or not pair[1].count():
        raise HandoverError(value.name, "has an item that is not a line and a number")
    return pair[0].data(), pair[1].count()


def _load_refusal(value: "_Value") -> tuple[int, bytes]:
    pair = value.items()
    if len(pair) != 2:
        raise HandoverError(value.name, "has an item that is not a pair")
    position, reply = pair
    return position.count(), reply.data()


def _load_reason(value: "_Value") -> Reason | None:
    if value.json is None:
        return None
    reason = _REASON_NAMED.get(value.text())
    if reason is None:
        raise HandoverError(value.name, "is not a reason that this version knows")
    return reason


def _text(data: bytes) -> str:
    return data.decode("iso-8859-1")


class _Value:
    """A value in the JSON text, and its name for errors.

    Each method returns the value as one type, and raises HandoverError if it is of another type.
    """

    __slots__ = ("json", "name")

    def __init__(self, name: str, json: object) -> None:
        self.name = name
        self.json = json

    def __getitem__(self, member: str) -> "_Value":
        if not isinstance(self.json, dict):
            raise HandoverError(self.name, "is not an object")
        if member not in self.json:
            raise HandoverError(self.name, f"has no member {member}")
        return _Value(member, self.json[member])

    def get(self, member: str, default: object) -> "_Value":
        """Return a member that may be missing."""
        if isinstance(self.json, dict) and member not in self.json:
            return _Value(member, default)
        return self[member]

    def items(self) -> list["_Value"]:
        """Return the items of a list; they have the list's name."""
        if not isinstance(self.json, list):
            raise HandoverError(self.name, "is not a list")
        return [_Value(self.name, item) for item in self.json]

    def lines(self) -> tuple[bytes, ...]:
        return tuple(item.data() for item in self.items())

    def count(self) -> int:
        if type(self.json) is not int or not 0 <= self.json < 2**64:  # a bool is an int as well
            raise HandoverError(self.name, "is not a whole number from 0 to 2^64 - 1")
        return self.json

    def time(self) -> float:
        if not isinstance(self.json, float) or not isfinite(self.json):
            raise HandoverError(self.name, "is not a time")
        return self.json

    def flag(self) -> bool:
        if not isinstance(self.json, bool):
            raise HandoverError(self.name, "is neither true nor false")
        return self.json

    def text(self) -> str:
        text = self._string()
        try:
            text.encode()
        except UnicodeEncodeError as error:  # JSON can have half a character, \ud800
            raise HandoverError(self.name, "is not Unicode text") from error
        return text

    def data(self) -> bytes:
        try:
            return self._string().encode("iso-8859-1")
        except UnicodeEncodeError as error:
            raise HandoverError(self.name, "has a character that is no byte") from error

    def _string(self) -> str:
        if not isinstance(self.json, str):
            raise HandoverError(self.name, "is not text")
        return self.json
