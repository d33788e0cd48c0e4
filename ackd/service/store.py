"""What a process finds when it starts: descriptors of a socket unit, and of its predecessor."""

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass, field

from ackd.server.listener import Listeners, adopt_listener
from ackd.server.snapshot import Snapshot
from ackd.service import systemd
from ackd.service.handover import HandoverError, State, dump, load

# Names in the service manager's store; any other name is of a socket unit.
_LISTENER, _CLIENT, _STATE = "listener-", "client", "state"


@dataclass(frozen=True, slots=True)
class Inheritance:
    """What was passed: listeners of a socket unit (`given`), and what a predecessor has left.

    `to_claim` says whether connections, or a state, are still in the store; `problem` why the
    state is of no use, if it is not.
    """

    given: Listeners = field(default_factory=dict)
    listeners: Listeners = field(default_factory=dict)
    clients: tuple[socket.socket, ...] = ()
    state: State = field(default_factory=State)
    problem: str = ""
    to_claim: bool = False


def inherit() -> Inheritance:
    """Return what was passed. Raises ListenError for a descriptor that is of no use.

    All of it stays in the store as well: a start that fails has lost nothing.
    """
    given: Listeners = {}
    listeners: Listeners = {}
    clients, states = [], []
    for kind, descriptor in systemd.passed():
        if kind == _CLIENT:
            clients.append(socket.socket(fileno=descriptor))
        elif kind == _STATE:
            states.append(descriptor)
        else:
            listener = adopt_listener(descriptor)
            if kind.startswith(_LISTENER):
                listeners[_key(kind, listener)] = listener
            else:
                given[_bound_to(listener)] = listener
    state, problem = _read(states)
    return Inheritance(given, listeners, tuple(clients), state, problem, bool(clients or states))


def claim() -> None:
    """Take connections out of the store; to be called before anything is done with them.

    If we crash from here on they are closed, and nobody goes on from a state that is not true any
    more.
    """
    systemd.remove(_CLIENT)
    systemd.remove(_STATE)
    systemd.barrier()


def bequeath(clients: Iterable[tuple[int, Snapshot]], notes: tuple[bytes, ...]) -> None:
    """Leave connections and notes to the next process. They must not be touched again."""
    descriptors, snapshots = [], []
    for descriptor, snapshot in clients:
        descriptors.append(descriptor)
        snapshots.append(snapshot)
    if not (descriptors or notes):
        return
    memory = os.memfd_create("ackd-state")
    with open(memory, "wb", closefd=False) as file:
        file.write(dump(State(tuple(snapshots), notes)))
    systemd.store(_STATE, [memory])
    systemd.store(_CLIENT, descriptors)
    systemd.barrier()


def keep(listeners: Listeners) -> None:
    """Have listeners kept over restarts and crashes, so that nobody is refused meanwhile."""
    for key, listener in listeners.items():
        systemd.store(_store_name(key), [listener.fileno()])


def drop(keys: Iterable[tuple[str, int]]) -> None:
    """Have listeners kept no longer; to be called while they are open."""
    for key in keys:
        systemd.remove(_store_name(key))


def by_cookie(state: State) -> dict[int, Snapshot]:
    """Return the connections' states by their sockets' cookies."""
    return {snapshot.cookie: snapshot for snapshot in state.connections}


def _store_name(key: tuple[str, int]) -> str:
    # An IPv6 address has colons, which a name in the store can't have: sd_notify(3), FDNAME=.
    return _LISTENER + f"{key[0]} {key[1]}".encode().hex()


def _key(stored_as: str, listener: socket.socket) -> tuple[str, int]:
    """Return what a listener was opened for; it can't tell itself port 0, or fe80::1%eth0."""
    try:
        address, _, port = bytes.fromhex(stored_as.removeprefix(_LISTENER)).decode().rpartition(" ")
        return address, int(port)
    except ValueError:  # a name that another version has given
        return _bound_to(listener)


def _bound_to(listener: socket.socket) -> tuple[str, int]:
    address, port = listener.getsockname()[:2]
    return address, port


def _read(descriptors: Iterable[int]) -> tuple[State, str]:
    """Return the state that a predecessor has left; an empty one, and why, if it is of no use."""
    state, problem = State(), ""
    for descriptor in descriptors:
        with open(descriptor, "rb") as file:
            file.seek(0)
            try:
                state = load(file.read())
            except HandoverError as error:
                problem = str(error)
    return state, problem
