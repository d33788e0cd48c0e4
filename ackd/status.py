"""What a running ackd reports about itself, and its form on the status socket: one line of JSON.

Another version may have written the report: unknown members are ignored, and each member that is
missing has its default.
"""

import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from functools import lru_cache
from math import isfinite
from typing import Any, get_args, get_type_hints

# Of the form. A higher number means that known members have another meaning.
FORM = 1


class StatusError(Exception):
    """Bytes that are no report, or one of a form that this version does not know."""


@dataclass(frozen=True, slots=True)
class Counted:
    """How often there was a reason. The set of all reasons is small and fixed."""

    reason: str = ""
    count: int = 0


@dataclass(frozen=True, slots=True)
class ClientStatus:
    """A client, an address or an IPv6 network of 64 bits, and its open connections.

    The payloads and bytes are those of these connections only.
    """

    client: str = ""
    connections: int = 0
    acknowledged: int = 0
    refused: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Clients:
    """Connections of clients.

    `most` is how many were connected at a time, `limit` how many can be. `arriving` are accepted
    and not greeted yet. `connections` and `turned_away` are counts since the start. The busiest
    clients come first: `by_connections`, and `by_payloads`, which are those acknowledged.
    """

    connected: int = 0
    most: int = 0
    limit: int = 0
    arriving: int = 0
    connections: int = 0
    turned_away: int = 0
    turned_away_for: tuple[Counted, ...] = ()
    by_connections: tuple[ClientStatus, ...] = ()
    by_payloads: tuple[ClientStatus, ...] = ()


@dataclass(frozen=True, slots=True)
class Payloads:
    """Counts of payloads since the start, and the bytes received from clients."""

    acknowledged: int = 0
    refused: int = 0
    refused_for: tuple[Counted, ...] = ()
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Rates:
    """Numbers a second, over the last `seconds`; 0 seconds mean that nothing is known yet."""

    seconds: float = 0.0
    acknowledged: float = 0.0
    refused: float = 0.0
    bytes: float = 0.0
    connections: float = 0.0


@dataclass(frozen=True, slots=True)
class Durations:
    """Durations in seconds: their number and sum since the start, and those of late.

    `recent` is the number of those in the last `window` seconds. The percentiles and `longest` are
    about these, and None if there are none. They may be too high by 7 %.
    """

    count: int = 0
    sum: float = 0.0
    window: float = 0.0
    recent: int = 0
    p50: float | None = None
    p95: float | None = None
    p99: float | None = None
    longest: float | None = None


@dataclass(frozen=True, slots=True)
class JournalStatus:
    """The sink: usually the journal.

    `journald` is the name of its journald, empty if unknown. `why` says why it is not `reachable`.
    `obstacle` says why it would not store payloads; both texts are empty if all is well.
    `unconfirmed` is the number of records that it may not have stored yet. `waiting` is the number
    of connections with payloads that wait for it, and `waits` is about those that have waited.
    """

    name: str = ""
    journald: str = ""
    reachable: bool = True
    why: str = ""
    obstacle: str = ""
    unconfirmed: int = 0
    waiting: int = 0
    waits: Durations = Durations()


@dataclass(frozen=True, slots=True)
class LogStatus:
    """The log: its cursors, see DESIGN.md, its bytes in use, and its bytes at most.

    `durable` is whether acks wait for commits of it, as with `durability: disk`.
    """

    place: str = ""
    durable: bool = False
    appended: int = 0
    synced: int = 0
    sent: int = 0
    read: int = 0
    safe: int = 0
    size: int = 0
    limit: int = 0


@dataclass(frozen=True, slots=True)
class CertificateStatus:
    """A certificate in use: its name, and the times in which it is valid, in seconds since 1970."""

    name: str = ""
    begin: float = 0.0
    end: float = 0.0


@dataclass(frozen=True, slots=True)
class DaemonStatus:
    """All of it. Times are in seconds since 1970.

    `unit` is empty if ackd is no service. `running` is the number of seconds since the start, by a
    clock that nobody sets. `troubles` says what is wrong, and `notes` what an administrator may
    wait for, both as in the status line of `systemctl status`. `commits` is about the commits of a
    `durable` log.
    """

    version: str = ""
    unit: str = ""
    pid: int = 0
    time: float = 0.0
    started: float = 0.0
    running: float = 0.0
    troubles: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    listeners: tuple[str, ...] = ()
    clients: Clients = Clients()
    payloads: Payloads = Payloads()
    rates: Rates = Rates()
    journal: JournalStatus = JournalStatus()
    log: LogStatus = LogStatus()
    commits: Durations = Durations()
    certificates: tuple[CertificateStatus, ...] = ()


def to_json(status: DaemonStatus) -> bytes:
    """Return the report as one line of JSON, with its end."""
    return json.dumps({"form": FORM, **asdict(status)}).encode() + b"\n"


def from_json(line: bytes) -> DaemonStatus:
    """Return the report in a line; raises StatusError."""
    if not line.endswith(b"\n"):
        raise StatusError("it is not whole")
    try:
        members = json.loads(line)
        form = members["form"]
        if not isinstance(form, int) or form > FORM:
            raise StatusError(f"its form is {form!r}, and this version knows {FORM}: upgrade")
        status: DaemonStatus = _built(DaemonStatus, members)
    except (ValueError, TypeError, KeyError, OverflowError, RecursionError) as error:
        raise StatusError("it is no report of an ackd") from error
    return status


def _built(kind: Any, members: Any) -> Any:
    """Return an object of a dataclass with these members. Raises TypeError for a wrong type."""
    if not isinstance(members, dict):
        raise TypeError(f"{members!r} is no object")
    known = {name: value for name, value in members.items() if name in _types(kind)}
    return kind(**{name: _value(_types(kind)[name], value) for name, value in known.items()})


@lru_cache
def _types(kind: type) -> dict[str, Any]:
    hints = get_type_hints(kind)
    return {field.name: hints[field.name] for field in fields(kind)}


def _value(kind: Any, value: Any) -> Any:
    if is_dataclass(kind) and isinstance(kind, type):
        return _built(kind, value)
    if kind == float | None and value is None:
        return None
    if kind in (float, float | None):
        kind, value = float, float(value) if type(value) is int else value
    if isinstance(value, list) and get_args(kind):
        item, _ = get_args(kind)
        return tuple(_value(item, each) for each in value)
    if type(value) is not kind or (kind is float and not isfinite(value)):
        raise TypeError(f"{value!r} is no {kind}")
    return value
