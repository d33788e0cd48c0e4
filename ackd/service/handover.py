"""What the next process must know of a connection, as bytes that cross an upgrade.

JSON, since the reader may be of another version than the writer. Bytes stand as ISO 8859-1 text,
in which every byte is a character.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from math import isfinite
from typing import Any, TypeVar

from ackd.protocol import ProtocolState
from ackd.records import Reason
from ackd.server.snapshot import Snapshot

VERSION = 1
T = TypeVar("T")


class HandoverError(Exception):
    """A state that this version can't read; the text says why."""


@dataclass(frozen=True, slots=True)
class State:
    """All that one process leaves to the next; `notes` are records not taken by the journal yet."""

    connections: tuple[Snapshot, ...] = ()
    notes: tuple[bytes, ...] = ()


def dump(state: State) -> bytes:
    """Return the state as a text."""
    connections = [
        {**asdict(snapshot), "protocol": snapshot.protocol._asdict()}
        for snapshot in state.connections
    ]
    members = {"version": VERSION, "connections": connections, "notes": state.notes}
    return json.dumps(members, default=_text).encode()


def load(text: bytes) -> State:
    """Return the state that another process has dumped.

    A connection that can't be read is left out, and is to be closed: better no ack than a wrong
    one. Raises HandoverError where the whole can't be read.
    """
    try:
        state = json.loads(text)
        if state["version"] != VERSION:
            raise HandoverError(f"it is of version {state['version']}, not {VERSION}")
        snapshots = filter(None, map(_snapshot, state["connections"]))
        return State(tuple(snapshots), _payloads(state["notes"]))
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError) as error:
        raise HandoverError(f"it can't be read: {error}") from error


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode("iso-8859-1")
    if isinstance(value, Reason):
        return value.name
    raise TypeError(f"{type(value)} has no place in a snapshot")


def _snapshot(values: object) -> Snapshot | None:
    try:
        return _read(Snapshot, values)
    except (ValueError, TypeError, LookupError, AttributeError):
        return None


def _read(kind: type[T], values: Any) -> T:
    """Return an instance of a class with fields; each value must be of exactly its field's type."""
    types = kind.__annotations__
    return kind(**{name: _READERS[types[name]](values[name]) for name in types})


def _exactly(kind: type[T]) -> Callable[[object], T]:
    def read(value: object) -> T:
        if type(value) is not kind:
            raise ValueError(f"{value!r} is not of type {kind}")
        return value

    return read


_list = _exactly(list)


def _count(value: object) -> int:
    if type(value) is not int or not 0 <= value < 2**64:
        raise ValueError(f"{value!r} is not a count")
    return value


def _time(value: object) -> float:
    if type(value) is not float or not isfinite(value):
        raise ValueError(f"{value!r} is not a time")
    return value


def _string(value: object) -> str:
    if type(value) is not str:
        raise ValueError(f"{value!r} is not a text")
    value.encode()  # JSON can have half a character, \ud800, that no record can
    return value


def _bytes(value: Any) -> bytes:
    encoded: bytes = value.encode("iso-8859-1")
    return encoded


def _payloads(values: object) -> tuple[bytes, ...]:
    return tuple(map(_bytes, _list(values)))


def _refusals(values: object) -> tuple[tuple[int, bytes], ...]:
    return tuple((_count(position), _bytes(reply)) for position, reply in _list(values))


def _protocol(values: object) -> ProtocolState:
    """Return a state whose replies come out in order, and never more acks than payloads."""
    state = _read(ProtocolState, values)
    positions = [position for position, _ in state.refusals]
    if positions != sorted(positions) or max(positions, default=0) > len(state.payloads):
        raise ValueError("a refusal has no place between the payloads")
    if state.skipping and state.partial:
        raise ValueError("a line can't be skipped and kept")
    return state


def _reason(value: Any) -> Reason | None:
    return None if value is None else Reason[value]


_READERS: dict[Any, Callable[[Any], Any]] = {
    int: _count,
    float: _time,
    bool: _exactly(bool),
    str: _string,
    bytes: _bytes,
    Reason | None: _reason,
    tuple[bytes, ...]: _payloads,
    tuple[tuple[int, bytes], ...]: _refusals,
    ProtocolState: _protocol,
}
