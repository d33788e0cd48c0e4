"""The service manager's descriptor store, which keeps sockets and state between two processes.

sd_notify(3) describes it, at FDSTORE=1.
"""

import os
import socket
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress

from ackd.journal.journald import JournaldConnection
from ackd.journal.watch import JournaldStream
from ackd.server.connection import cookie
from ackd.server.listener import ListenError, Listeners, take_over_listener
from ackd.server.snapshot import Snapshot
from ackd.service import handover, systemd
from ackd.service.handover import HandoverError, State

# Names in the store; a descriptor with any other name belongs to a socket unit. These names stay,
# because the next version must find descriptors that the previous version has stored.
_LISTENER, _CLIENT, _STATE = "listener-", "client", "state"
# journald's socket, and the stream, which journald has accepted or not. Versions that store neither
# take each name that they do not know for a socket unit's listener, and do not start then. But they
# ignore a descriptor whose name begins with "listener-" and that is no listener.
_SOCKET = "listener-journald"
_ACCEPTED, _AWAITED = "listener-journald-accepted", "listener-journald-awaited"
# A start has failed: see ackd/service/starting.py.
START_FAILED = "start-failed"
_TCP = socket.IPPROTO_TCP


class Stored:
    """The descriptors that the service manager has passed to this process at its start.

    `unit_listeners` belong to a socket unit; the previous process has stored the rest. `problem`
    says why its state can't be used, and is empty otherwise. `has_connections` says whether
    connections or a state are in the store; `start_failed` whether the start before this one has
    failed. `journald` is what leads to journald. `log_problem` says why the log can't be used that
    the process before has left; `log_outlives_ackd` is whether the next process finds the log in
    memory of this one.
    """

    def __init__(self) -> None:
        self.unit_listeners: Listeners = {}
        self.listeners: Listeners = {}
        self.clients: tuple[socket.socket, ...] = ()
        self.state = State()
        self.problem = ""
        self.has_connections = False
        self.start_failed = False
        self.journald: JournaldConnection | None = None
        self.log_problem = ""
        self.log_outlives_ackd = False


def load() -> Stored:
    """Return the descriptors that the service manager has passed to this process.

    The store keeps them all: a start that fails loses nothing. A stored descriptor that is not what
    its name says is closed. Raises ListenError for a socket unit's descriptor that is not a
    listener.
    """
    passed: dict[str, list[int]] = {}
    for name, descriptor in systemd.passed_descriptors():
        passed.setdefault(name, []).append(descriptor)
    clients, states = passed.pop(_CLIENT, []), passed.pop(_STATE, [])
    marks = passed.pop(START_FAILED, [])
    sockets = {name: passed.pop(name, []) for name in (_SOCKET, _ACCEPTED, _AWAITED)}
    for mark in marks:
        os.close(mark)
    stored = Stored()
    stored.state, stored.problem = _read_state(states)
    stored.unit_listeners, stored.listeners = _listeners(passed)
    stored.clients = tuple(map(_socket, _keep(clients, _is_connection)))
    stored.has_connections = bool(clients or states)
    stored.start_failed = bool(marks)
    stored.journald = _journald(sockets)
    return stored


def save_socket(sock: socket.socket) -> None:
    """Store journald's socket, instead of one before: it counts what journald has not read."""
    systemd.remove_descriptors(_SOCKET)
    systemd.store_descriptors(_SOCKET, [sock.fileno()], watched=False)


def save_stream(stream: JournaldStream) -> None:
    """Store this stream to journald instead of the one before.

    The manager does not watch it: a stream that has broken shows that journald has ended.
    """
    systemd.remove_descriptors(_ACCEPTED)
    systemd.remove_descriptors(_AWAITED)
    name = _ACCEPTED if stream.accepted else _AWAITED
    systemd.store_descriptors(name, [stream.socket.fileno()], watched=False)


def save_connections(clients: Iterable[tuple[int, Snapshot]]) -> None:
    """Store connections for the next process.

    This process must not use the connections again. `clients` has each connection's descriptor.
    """
    descriptors: list[int] = []

    def snapshots() -> Iterator[Snapshot]:
        for descriptor, snapshot in clients:
            descriptors.append(descriptor)
            yield snapshot

    memory = os.memfd_create("ackd-state")
    with open(memory, "wb", closefd=False) as file:
        handover.write(file, snapshots())
    if not descriptors:
        os.close(memory)
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
    stored.state, stored.clients = stored.state._replace(connections=()), ()
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


def _listeners(passed: dict[str, list[int]]) -> tuple[Listeners, Listeners]:
    """Return the listeners of a socket unit, and the stored ones."""
    unit_listeners: Listeners = {}
    listeners: Listeners = {}
    for name, descriptors in passed.items():
        for descriptor in descriptors:
            if not name.startswith(_LISTENER):
                listener = take_over_listener(descriptor)
                unit_listeners[_bound_to(listener)] = listener
                continue
            with suppress(ListenError):
                listener = take_over_listener(descriptor)
                listeners[_key(name, listener)] = listener
    return unit_listeners, listeners


def _journald(passed: dict[str, list[int]]) -> JournaldConnection | None:
    """Return what leads to journald. A stream alone shows nothing, so it is closed."""
    sockets, accepted, awaited = (
        list(map(_socket, _keep(passed[name], _is_unix_socket)))
        for name in (_SOCKET, _ACCEPTED, _AWAITED)
    )
    streams = [JournaldStream(stream, accepted=True) for stream in accepted]
    streams += [JournaldStream(stream, accepted=False) for stream in awaited]
    if len(sockets) == 1 and len(streams) <= 1:
        return JournaldConnection(sockets[0], next(iter(streams), None))
    for sock in (*sockets, *accepted, *awaited):
        sock.close()
    return None


def _socket(descriptor: int) -> socket.socket:
    return socket.socket(fileno=descriptor)


def _keep(descriptors: Iterable[int], is_right: Callable[[int], bool]) -> Iterator[int]:
    """Yield the descriptors that are what their name says, and close the others."""
    for descriptor in descriptors:
        if is_right(descriptor):
            yield descriptor
        else:
            os.close(descriptor)


def _is_unix_socket(descriptor: int) -> bool:
    return _is_socket(descriptor, socket.AF_UNIX)


def _is_socket(descriptor: int, *families: int) -> bool:
    if not stat.S_ISSOCK(os.fstat(descriptor).st_mode):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as sock:
        return sock.family in families


def _is_connection(descriptor: int) -> bool:
    """Return whether the descriptor is a TCP socket that does not listen."""
    if not _is_socket(descriptor, socket.AF_INET, socket.AF_INET6):
        return False
    with socket.socket(fileno=os.dup(descriptor)) as client:
        tcp = client.proto == _TCP
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
