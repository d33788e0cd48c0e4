"""The configuration file: YAML with flat keys; an error says in which line and column it is."""

import ipaddress
import os
import re
from collections.abc import Callable, Iterator
from enum import Enum
from reprlib import Repr
from typing import Any, NamedTuple, TypeVar

import yaml

from ackd import regular_file
from ackd.config_hints import Hints, is_quoted_typographically
from ackd.peers import Address, Network
from ackd.protocol import NOT_CONNECT, NOT_RECEIVED
from ackd.yaml_nodes import long_document

DEFAULT_PATH = "/etc/ackd.yaml"
DEFAULT_PORT = 10008
DEFAULT_BIND = ("127.0.0.1", "::1")
_MOST_PROBLEMS = 100
_LONGEST_LINE = 4096  # characters
_LONGEST_TIME = 1_000_000  # seconds; epoll_wait(2) can't wait longer than 2,147,483 s at once
_LONGEST_HANDSHAKE = 3600  # seconds
# Bytes of the log: a few of its segments at least, a terabyte at most.
_SMALLEST_WAL, _LARGEST_WAL = 1 << 24, 1 << 40

T = TypeVar("T")
EnumT = TypeVar("EnumT", bound=Enum)


class Recording(Enum):
    """Which payloads are recorded, and in how many records."""

    EACH = "each"
    BATCH = "batch"
    NONE = "none"


class Durability(Enum):
    """What an acknowledgement waits for: journald's socket, or ackd's own log on the disk."""

    JOURNAL = "journal"
    DISK = "disk"


class EmptyLines(Enum):
    """Whether a line without bytes is a payload."""

    RECORD = "record"
    IGNORE = "ignore"


# Named tuples, here and below: the decorator `dataclass` would delay each start noticeably.
class Place(NamedTuple):
    """A place in a file. `line` and `column` begin with 1."""

    file: str
    line: int
    column: int


class Places(dict[str, Place]):
    """The place of each key that a file sets. Configurations are equal wherever their keys are."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Places)


class Config(NamedTuple):
    """All settings; etc/ackd.yaml explains each. Times are in seconds, sizes in bytes."""

    bind: tuple[str, ...] = DEFAULT_BIND
    port: int = DEFAULT_PORT
    allow: tuple[Network, ...] = ()
    proxy_from: tuple[Network, ...] = ()
    greeting: str = "Connect"
    ack: str = "thank you client, you data is Received success"
    record: Recording = Recording.EACH
    durability: Durability = Durability.JOURNAL
    wal_size: int = 1 << 30
    wal_directory: str | None = None
    empty_lines: EmptyLines = EmptyLines.RECORD
    max_payload: int = 65536
    max_connections: int = 4096
    max_connections_per_client: int | None = 1024
    idle_timeout: float = 600
    journal_wait: float = 10
    tls_certificate: str | None = None
    tls_key: str | None = None
    tls_client_ca: str | None = None
    tls_allow: tuple[str, ...] = ()
    handshake_timeout: float = 10
    debug: bool = False
    # Not a setting: where the file sets the keys, for errors that are found later.
    places: Places = Places()

    def problem(self, key: str, text: str) -> "Problem":
        """Return an error of the value of a key that the file sets."""
        place = self.places[key]
        return Problem(place.file, place.line, place.column, f"{key}: {text}")


class Problem(NamedTuple):
    """One error and its place. `line` and `column` begin with 1; 0 means unknown."""

    file: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        place = f":{self.line}:{self.column}" if self.line else ""
        return f"{self.file}{place}: {self.text}"


class ConfigError(Exception):
    """A configuration that can't be used; `problems` has all its errors."""

    def __init__(self, *problems: Problem) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class BadValueError(ValueError):
    """A value that a key can't have."""


class BadItemsError(BadValueError):
    """A list with wrong items; `items` has the index of each, and what is wrong with it."""

    def __init__(self, items: list[tuple[int, str]]) -> None:
        super().__init__("; ".join(text for _, text in items))
        self.items = items


class ConfigFile:
    """A configuration file that can be loaded again and again.

    An `optional` file may be absent; then all keys have their defaults. A file that has been there
    must stay: without it, a reload would silently drop all limits.
    """

    def __init__(self, path: str, optional: bool = False) -> None:
        self._path = path
        self._optional = optional
        self._seen = False

    def load(self) -> Config:
        """Return the configuration in the file. Raises ConfigError."""
        try:
            text = regular_file.read(self._path)
        except FileNotFoundError as error:
            # A link that leads nowhere is not absent: its file may be on a disk that is not there.
            if self._optional and not self._seen and not os.path.islink(self._path):
                return Config()
            hint = "; an empty file stands for the defaults" if self._seen else ""
            raise ConfigError(Problem(self._path, 0, 0, f"{error.strerror}{hint}")) from error
        except OSError as error:
            raise ConfigError(Problem(self._path, 0, 0, f"{error.strerror}")) from error
        self._seen = True
        return parse(text, self._path)


def load(path: str, optional: bool = False) -> Config:
    """Return the configuration in a file; the defaults if an `optional` file does not exist.

    Raises ConfigError.
    """
    return ConfigFile(path, optional).load()


def parse(text: bytes, file: str) -> Config:
    """Return the configuration in a text; raises ConfigError, in which `file` names the text."""
    reader = _Reader(file)
    values = reader.read(text)
    if reader.problems:
        problems = sorted(reader.problems, key=lambda p: (p.line, p.column))
        further = len(problems) - _MOST_PROBLEMS
        if further > 0:
            problems[_MOST_PROBLEMS:] = [Problem(file, 0, 0, f"and further errors: {further}")]
        raise ConfigError(*problems)
    return Config(**values, places=reader.places)


def check(key: str, value: object) -> Any:
    """Return a key's value as `Config` has it; raises BadValueError if the key can't have it."""
    return _CHECKS[key](value)


class _Reader:
    """Reads one file and collects its errors."""

    def __init__(self, file: str) -> None:
        self.problems: list[Problem] = []
        self._file = file
        self._lines: dict[str, int] = {}
        self._values_at: dict[str, yaml.Mark] = {}
        self._hints = Hints("")

    def read(self, text: bytes) -> dict[str, Any]:
        try:
            self._hints = Hints(text.decode())
            return self._load(text.decode())
        except UnicodeDecodeError as error:
            self._add_after(text[: error.start].decode(), "is not UTF-8 from here on")
        except yaml.reader.ReaderError as error:
            self._add_after(text.decode()[: error.position], error.reason)
        return {}

    def _load(self, text: str) -> dict[str, Any]:
        document = long_document(text)
        loader = yaml.SafeLoader(text)
        try:
            values = dict(self._entries(*(document or (loader, loader.get_single_node()))))
            self._check_together(values)
            return values
        except yaml.MarkedYAMLError as error:
            self._add_at(error.problem_mark or error.context_mark, _explanation(error))
        except RecursionError:
            self._add_at(None, "is nested too deeply")
        except (ValueError, OverflowError):  # PyYAML raises these for an escape like \UFFFFFFFF
            self._add_at(loader.get_mark(), "can't be read from here on")
        return {}

    def _entries(
        self, loader: yaml.SafeLoader, root: yaml.Node | None
    ) -> Iterator[tuple[str, Any]]:
        if root is None or root.tag == "tag:yaml.org,2002:null":
            return
        if not isinstance(root, yaml.MappingNode):
            self._add_at(root.start_mark, "must consist of lines like `port: 10008`")
            return
        for key_node, node in root.value:
            key = key_node.value
            if self._is_known(key, key_node.start_mark):
                yield from self._value(key, node, loader)

    def _is_known(self, key: object, mark: yaml.Mark) -> bool:
        if not isinstance(key, str):
            self._add_at(mark, "a key must be one word")
            return False
        if key not in _CHECKS:
            import difflib  # here, because it would delay every start

            near = difflib.get_close_matches(key, _CHECKS, n=1)
            hint = f"; did you mean {near[0]}?" if near else ""
            printable_key = key if key.isprintable() else _shortened(key)
            self._add_at(mark, f"{printable_key}: there is no such key{hint}")
            return False
        if key in self._lines:
            self._add_at(mark, f"{key}: has been set before, in line {self._lines[key]}")
            return False
        self._lines[key] = mark.line + 1
        return True

    def _value(
        self, key: str, node: yaml.Node, loader: yaml.SafeLoader
    ) -> Iterator[tuple[str, Any]]:
        try:
            value = check(key, loader.construct_object(node, deep=True))
            _check_spelling(node, value)
            _check_quotes(node)
            self._values_at[key] = node.start_mark
            yield key, value
        except yaml.MarkedYAMLError as error:
            self._add_at(error.problem_mark, f"{key}: {_explanation(error)}")
        except BadItemsError as error:
            for number, text in error.items:
                self._add_at(node.value[number].start_mark, f"{key}: {text}")
        except BadValueError as error:
            self._add_at(node.start_mark, f"{key}: {error}")
        except _UNREADABLE:
            kind = node.tag.rpartition(":")[2]
            self._add_at(node.start_mark, f"{key}: can't be read as {kind}")

    @property
    def places(self) -> Places:
        """Where the values of the keys are."""
        marks = self._values_at.items()
        return Places(
            (key, Place(self._file, mark.line + 1, mark.column + 1)) for key, mark in marks
        )

    def _check_together(self, values: dict[str, Any]) -> None:
        """Add problems for values that are good alone, and are not good together."""
        self._check_durability(values)
        for key, needed in _NEEDS:
            is_given = values.get(needed) if needed in values else needed in self._lines
            if values.get(key) and not is_given:
                self._add_at(self._values_at[key], f"{key}: needs {needed} as well")

    def _check_durability(self, values: dict[str, Any]) -> None:
        durability, record = values.get("durability"), values.get("record")
        if durability is Durability.DISK and record is Recording.NONE:
            text = "durability: disk needs a record of each payload, but line"
            line = self._lines["record"]
            self._add_at(self._values_at["durability"], f"{text} {line} says `record: none`")

    def _add_after(self, text: str, problem: str) -> None:
        """Add a problem with the character after `text`; PyYAML gives no line for it."""
        line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
        self.problems.append(Problem(self._file, line, column, problem))

    def _add_at(self, mark: yaml.Mark | None, text: str) -> None:
        line, column = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        hint = self._hints.about(mark.line, text) if mark else ""
        self.problems.append(Problem(self._file, line, column, text + hint))


# Keys of TLS, and the key that each of them needs.
_NEEDS = (
    ("tls_certificate", "tls_key"),
    ("tls_key", "tls_certificate"),
    ("tls_client_ca", "tls_certificate"),
    ("tls_allow", "tls_client_ca"),
)

# PyYAML raises these for a date like 2026-99-99, or for `!!int ""`, `!!bool x` and the like.
_UNREADABLE = (ValueError, LookupError, AttributeError, OverflowError)


def _explanation(error: yaml.MarkedYAMLError) -> str:
    return ", ".join(filter(None, (error.context, error.problem)))


# YAML 1.1 takes 022 for octal and 1:30 for minutes and seconds.
_DECIMAL = re.compile(r"[-+]?(0|[1-9][0-9_]*)?(\.[0-9_]*)?([eE][-+][0-9]+)?")


def _check_spelling(node: yaml.Node, value: object) -> None:
    """Raise BadValueError if a number has another value than a reader expects."""
    if type(value) not in (int, float) or not isinstance(node, yaml.ScalarNode):
        return
    if not _DECIMAL.fullmatch(node.value):
        raise BadValueError(f"{node.value} stands for {value}; write it as a decimal number")


def _check_quotes(node: yaml.Node) -> None:
    """Raise BadValueError for a value in typographic quotes; in true quotes it may have these."""
    plain = isinstance(node, yaml.ScalarNode) and not node.style
    if plain and is_quoted_typographically(node.value):
        raise BadValueError(f"{node.value} is in quotes that YAML takes for a part of the text")


# With aliases of aliases, a short file can have a value whose text would fill the memory.
_short = Repr()
_short.maxlevel, _short.maxstring = 2, 80


def _shortened(value: object) -> str:
    return _short.repr(value)


def _whole_number(low: int, high: int) -> Callable[[object], int]:
    def check_number(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadValueError(f"{_shortened(value)} is not a whole number")
        if not low <= value <= high:
            raise BadValueError(f"{value} is not between {low} and {high}")
        return value

    return check_number


def _or_none(check_value: Callable[[object], T]) -> Callable[[object], T | None]:
    return lambda value: None if value is None else check_value(value)


def _seconds(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadValueError(f"{_shortened(value)} is not a number of seconds")
    if not 0 <= value <= _LONGEST_TIME:
        raise BadValueError(f"{value} is not between 0 and {_LONGEST_TIME}")
    return value


def _handshake_seconds(value: object) -> float:
    seconds = _seconds(value)
    if not 1 <= seconds <= _LONGEST_HANDSHAKE:
        raise BadValueError(f"{value} is not between 1 and {_LONGEST_HANDSHAKE}")
    return seconds


def _boolean(value: object) -> bool:
    if not isinstance(value, bool):
        raise BadValueError(f"{_shortened(value)} is neither true nor false")
    return value


def _one_line(value: object) -> str:
    if not isinstance(value, str):
        raise BadValueError(f"{_shortened(value)} is not text; put it in quotes")
    if "\n" in value:
        raise BadValueError("holds a newline, but can only be one line")
    if len(value) > _LONGEST_LINE:
        raise BadValueError(f"is longer than {_LONGEST_LINE} characters")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadValueError(f"{_shortened(value)} has characters that UTF-8 can't encode") from None
    return value


def _absolute_path(value: object) -> str:
    path = _one_line(value)
    if not path.startswith("/"):
        raise BadValueError(f"{_shortened(value)} is not an absolute path, such as /srv/ackd")
    if "\0" in path:
        raise BadValueError(f"{_shortened(value)} holds a NUL, which no path can have")
    return path


def _file_or_credential(value: object) -> str:
    """Return an absolute path, or a name as LoadCredential= of systemd.exec(5) can have it."""
    text = _one_line(value)
    if text.startswith("/"):
        return _absolute_path(text)
    if not re.fullmatch(_CREDENTIAL, text):
        raise BadValueError(
            f"{_shortened(text)} is neither an absolute path nor the name of a credential,"
            " such as tls-key"
        )
    return text


# credential_name_valid() in systemd's src/shared/creds-util.c.
_CREDENTIAL = r"(?!\.{1,2}$)[!-.0-9;-~]{1,255}"


def _client_name(value: object) -> str:
    """Return a name of a client's certificate, or a pattern such as *.example.org."""
    name = _one_line(value)
    if not name or name != name.strip():
        raise BadValueError(f"{_shortened(value)} is not the name of a client")
    if "*" in name.removeprefix("*."):
        raise BadValueError(
            f"{_shortened(value)} has a * that stands for nothing; a pattern is like *.example.org"
        )
    return name


def _ack(value: object) -> str:
    text = _one_line(value)
    for refusal in (NOT_RECEIVED.decode(), NOT_CONNECT.decode()):
        if text.startswith(refusal):
            raise BadValueError(f"begins with `{refusal}`, which clients take for a refusal")
    return text


def _one_of(enum: type[EnumT]) -> Callable[[object], EnumT]:
    def check_value(value: object) -> EnumT:
        try:
            return enum(value)
        except ValueError:
            known = ", ".join(member.value for member in enum)
            raise BadValueError(f"{_shortened(value)} is none of these: {known}") from None

    return check_value


def _one_or_list(check_item: Callable[[object], T]) -> Callable[[object], tuple[T, ...]]:
    def check_list(value: object) -> tuple[T, ...]:
        if not isinstance(value, list):
            return (check_item(value),)
        items: dict[T, None] = {}
        wrong: list[tuple[int, str]] = []
        for number, item in enumerate(value):
            try:
                checked = check_item(item)
            except BadValueError as error:
                wrong.append((number, str(error)))
                continue
            if checked in items:
                wrong.append((number, f"{checked} is there twice"))
            items[checked] = None
        if wrong:
            raise BadItemsError(wrong)
        return tuple(items)

    return check_list


def _not_empty(check_list: Callable[[object], tuple[T, ...]]) -> Callable[[object], tuple[T, ...]]:
    def check_length(value: object) -> tuple[T, ...]:
        if value == []:
            raise BadValueError("needs one address at least")
        return check_list(value)

    return check_length


def _address(value: object) -> str:
    try:
        address = ipaddress.ip_address(value if isinstance(value, str) else "")
    except ValueError:
        text = f"{_shortened(value)} is not an IPv4 or IPv6 address, such as 192.168.150.1 or ::1"
        raise BadValueError(text) from None
    if reason := _unusable(address):
        raise BadValueError(f"{value} {reason}")
    return str(address)


def _unusable(address: Address) -> str:
    """Return why no client can ever connect to an address; nothing if one can."""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped:
            return f"stands for IPv4: write {address.ipv4_mapped}"
        if address.is_link_local and not address.scope_id:
            return f"needs its interface: write {address}%eth0, with the name of the interface"
    if address.is_multicast or address == _BROADCAST:
        return "stands for many hosts: TCP has no such connections"
    return ""


_BROADCAST = ipaddress.IPv4Address("255.255.255.255")


def _network(value: object) -> Network:
    if isinstance(value, str) and "%" in value:
        raise BadValueError(
            f"{_shortened(value)} names an interface, but only addresses are compared"
        )
    try:
        interface = ipaddress.ip_interface(value if isinstance(value, str) else "")
    except ValueError:
        text = (
            f"{_shortened(value)} is not a network or an address, such as 192.168.150.0/24 or ::1"
        )
        raise BadValueError(text) from None
    network = interface.network
    if interface.ip != network.network_address:
        text = f"{value} is an address in {network}: write {network} or {interface.ip}"
        raise BadValueError(text)
    _check_mapping(value, network)
    if network.prefixlen == network.max_prefixlen and interface.ip.is_unspecified:
        raise BadValueError(f"{value} is no client's address: write {interface.ip}/0 for all")
    return network


# A socket for both families shows IPv4 addresses in this network, RFC 4291, 2.5.5.2.
_MAPPED = ipaddress.IPv6Network("::ffff:0:0/96")


def _check_mapping(value: object, network: Network) -> None:
    """Raise BadValueError for IPv4 addresses in IPv6 form: `address_of` returns them as IPv4."""
    if isinstance(network, ipaddress.IPv6Network) and network.subnet_of(_MAPPED):
        first, length = network.network_address.ipv4_mapped, network.prefixlen - _MAPPED.prefixlen
        raise BadValueError(f"{value} stands for IPv4: write {first}/{length}")


_CHECKS: dict[str, Callable[[object], Any]] = {
    "bind": _not_empty(_one_or_list(_address)),
    "port": _whole_number(0, 65535),
    "allow": _one_or_list(_network),
    "proxy_from": _one_or_list(_network),
    "greeting": _one_line,
    "ack": _ack,
    "record": _one_of(Recording),
    "durability": _one_of(Durability),
    "wal_size": _whole_number(_SMALLEST_WAL, _LARGEST_WAL),
    "wal_directory": _or_none(_absolute_path),
    "empty_lines": _one_of(EmptyLines),
    "max_payload": _whole_number(1, 131072),
    "max_connections": _whole_number(1, 1_000_000),
    "max_connections_per_client": _or_none(_whole_number(1, 1_000_000)),
    "idle_timeout": _seconds,
    "journal_wait": _seconds,
    "tls_certificate": _or_none(_file_or_credential),
    "tls_key": _or_none(_file_or_credential),
    "tls_client_ca": _or_none(_file_or_credential),
    "tls_allow": _one_or_list(_client_name),
    "handshake_timeout": _handshake_seconds,
    "debug": _boolean,
}
