"""The service manager's descriptor store, which keeps sockets and state between two processes.

sd_notify(3) describes it, at FDSTORE=1.
"""

import os
import socket
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from ackd.server.connection import cookie
from ackd.server.listener import ListenError, Listeners, take_over_listener
from ackd.server.snapshot import Snapshot
from ackd.service import handover, systemd
from ackd.service.handover import HandoverError, State

# Names in the store; a descriptor with any other name belongs to a socket unit. These names stay,
# because the next version must find descriptors that the previous version has stored.
_LISTENER, _CLIENT, _STATE = "listener-", "client", "state"
# A start has failed: see ackd/service/starting.py.
START_FAILED = "start-failed"
_TCP = socket.IPPROTO_TCP


@dataclass(slots=True)
class Stored:
    """The descriptors that the service manager has passed to this process at its start.

    `unit_listeners` belong to a socket unit; the previous process has stored the rest. `problem`
    says why its state can't be used, and is empty otherwise. `has_connections` says whether
    connections or a state are in the store; `start_failed` whether the start before this one has
    failed.
    """

    unit_listeners: Listeners = field(default_factory=dict)
    listeners: Listeners = field(default_factory=dict)
    clients: tuple[socket.socket, ...] = ()
    state: State = field(default_factory=State)
    problem: str = ""
    has_connections: bool = False
    start_failed: bool = False


def load() -> Stored:
    """Return the descriptors that the service manager has passed to this process.

    The store keeps them all: a start that fails loses nothing. A stored descriptor that is not what
    its name says is closed. Raises ListenError for a socket unit's descriptor that is not a
    listener.
    """
    unit_listeners: Listeners = {}
    listeners: Listeners = {}
    clients, states = [], []
    has_connections = start_failed = False
    for name, descriptor in systemd.passed_descriptors():
        if name == _CLIENT:
            has_connections = True
            if _is_connection(descriptor):
                clients.append(socket.socket(fileno=descriptor))
            else:
                os.close(descriptor)
        elif name == _STATE:
            has_connections = True
            states.append(descriptor)
        elif name == START_FAILED:
            start_failed = True
            os.close(descriptor)
        elif name.startswith(_LISTENER):
            with suppress(ListenError):
                listener = take_over_listener(descriptor)
                listeners[_key(name, listener)] = listener
        else:
            listener = take_over_listener(descriptor)
            unit_listeners[_bound_to(listener)] = listener
    state, problem = _read_state(states)
    return Stored(
        unit_listeners,
        listeners,
        tuple(clients),
        state,
        problem,
        has_connections,
        start_failed,
    )


def save_connections(clients: Iterable[tuple[int, Snapshot]], notes: tuple[bytes, ...]) -> None:
    """Store connections and notes for the next process.

    This process must not use the connections again. `clients` has each connection's descriptor.
    """
    descriptors: list[int] = []

    def snapshots() -> Iterator[Snapshot]:
        for descriptor, snapshot in clients:
            descriptors.append(descriptor)
            yield snapshot

    memory = os.memfd_create("ackd-state")
    with open(memory, "wb", closefd=False) as file:
        handover.write(file, snapshots(), notes)
    if not (descriptors or notes):
        return
    systemd.store_descriptors(_STATE, [memory])
    systemd.store_descriptors(_CLIENT, descriptors)
    systemd.barrier()


def take_connections(stored: Stored) -> Iterator[tuple[socket.socket, Snapshot | None]]:
    """Remove the connections from the store; return each with its state, if it has one.

    `stored` keeps neither: the states can be large. If this process crashes from here on, the
    connections are closed. So no process continues from a state that is out of date.
    """
    if stored.has_connections:
        systemd.remove_descriptors(_CLIENT)
        systemd.remove_descriptors(_STATE)
        systemd.barrier()
    snapshots, clients = by_cookie(stored.state), stored.clients
    stored.state, stored.clients = replace(stored.state, connections=()), ()
    return ((client, snapshots.pop(cookie(client), None)) for client in clients)


def save_listeners(listeners: Listeners) -> None:
    """Store listeners, so that restarts and crashes refuse no client."""
    for key, listener in listeners.items():
        systemd.store_descriptors(_store_name(key), [listener.fileno()])


def remove_listeners(keys: Iterable[tuple[str, int]]) -> None:
    """Remove listeners from the store; to be called while they are open."""
    for key in keys:
        systemd.remove_descriptors(_store_name(key))


def by_cookie(state: State) -> dict[int, Snapshot]:
    """Return the connections' states by the cookies of their sockets."""
    return {snapshot.cookie: snapshot for snapshot in state.connections}


def _store_name(key: tuple[str, int]) -> str:
    # An IPv6 address has colons, which a name in the store can't have: sd_notify(3), FDNAME=.
    return _LISTENER + f"{key[0]} {key[1]}".encode().hex()


def _key(name: str, listener: socket.socket) -> tuple[str, int]:
    """Return the address and port that a stored listener was configured with.

    The listener's own address differs from them for port 0 and for an address like fe80::1%eth0.
    """
    try:
        address, _, port = bytes.fromhex(name.removeprefix(_LISTENER)).decode().rpartition(" ")
        return address, int(port)
    except ValueError:  # another version has given the name
        return _bound_to(listener)


def _bound_to(listener: socket.socket) -> tuple[str, int]:
    address, port = listener.getsockname()[:2]
    return address, port


def _is_connection(descriptor: int) -> bool:
    """Return whether the descriptor is a TCP socket that does not listen."""
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as client:
        tcp = client.family in (socket.AF_INET, socket.AF_INET6) and client.proto == _TCP
        return tcp and not client.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)


def _read_state(descriptors: Iterable[int]) -> tuple[State, str]:
    """Return the stored state; if it can't be used, an empty state and the reason."""
    state, problem = State(), ""
    for descriptor in descriptors:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            problem = "the descriptor of the state is not a file"
            continue
        with open(descriptor, "rb") as file:
            try:
                file.seek(0)
                state = handover.read(file)
            except HandoverError as error:
                problem = str(error)
            except OSError as error:
                problem = f"the state can't be read: {error.strerror}"
    return state, problem
