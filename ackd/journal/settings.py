"""The settings of journald that decide whether it stores a record, as journald reads them.

Sources: journald.conf(5), and config_parse in systemd's src/shared/conf-parser.c. Both apply to
systemd 252 and to 257, with one difference: 252 reads the main file in /etc only. Debian 12 ships
this file, and if it is there, 257 reads no other main file either.
"""

import os
import re
import stat
from collections.abc import Callable, Iterator
from enum import Enum
from itertools import chain
from math import inf
from typing import NamedTuple

# If several directories have a file of the same name, the first of them counts.
_DIRECTORIES = ("etc", "run", "usr/local/lib", "usr/lib")
_BLANK = " \t\n\r"
LEVELS = ("emerg", "alert", "crit", "err", "warning", "notice", "info", "debug")
_STORAGES = ("none", "auto", "volatile", "persistent")
# Strings, which `re` compiles once they are needed: most starts need none of them.
_LINE_END = r"\r\n|\n\r|[\n\r\0]"
_UNSIGNED = (
    r"\+?(?:0x(?P<hex>[0-9a-f]+)|0b(?P<bin>[01]+)|0o?(?P<oct>[0-7]+)|(?P<dec>0|[1-9][0-9]*))"
)
# int() raises ValueError for thousands of digits; no number below 2^32 needs so many.
_LONGEST_NUMBER = 64
_SPAN = r"(?P<count>[0-9]+(?:\.[0-9]+)?)\s*(?P<unit>[A-Za-zµμ]*)\s*"
_LONGEST_SPAN = 2**64 / 1e6  # systemd has microseconds in 64 bits
_UNITS = (
    (1e-6, ("usec", "us", "µs", "μs")),
    (1e-3, ("msec", "ms")),
    (1, ("", "seconds", "second", "sec", "s")),
    (60, ("minutes", "minute", "min", "m")),
    (3600, ("hours", "hour", "hr", "h")),
    (86400, ("days", "day", "d")),
    (604800, ("weeks", "week", "w")),
    (2629800, ("months", "month", "M")),
    (31557600, ("years", "year", "y")),
)
_SECONDS = {name: seconds for seconds, names in _UNITS for name in names}


class UnknownError(Exception):
    """The settings in force can't be known; the text says why."""


class Key(Enum):
    """A setting; the value is its name in journald.conf."""

    STORAGE = "Storage"
    LEVEL = "MaxLevelStore"
    INTERVAL = "RateLimitIntervalSec"
    BURST = "RateLimitBurst"


# A named tuple: the decorator `dataclass` would delay each start noticeably.
class Setting(NamedTuple):
    """One setting: its value as a number, and for messages its assignment and its place."""

    number: float
    text: str
    where: str

    def __str__(self) -> str:
        return f"{self.text} {self.where}"


Settings = dict[Key, Setting]

_DEFAULTS = {
    Key.STORAGE: (1, "auto"),
    Key.LEVEL: (7, "debug"),
    Key.INTERVAL: (30, "30s"),
    Key.BURST: (10000, "10000"),
}


def default_settings() -> Settings:
    """Return the settings that are in force if no file has any."""
    return {
        key: Setting(number, f"{key.value}={text}", "by default")
        for key, (number, text) in _DEFAULTS.items()
    }


def level(text: str) -> int | None:
    """Return a level by its name or number; None if journald would ignore the assignment."""
    if text in LEVELS:
        return LEVELS.index(text)
    number = unsigned(text)
    return number if number is not None and number < len(LEVELS) else None


def unsigned(text: str) -> int | None:
    """Return a number in C's notation, below 2^32; None if journald would ignore it."""
    if len(text) >= _LONGEST_NUMBER:
        return None
    match = re.fullmatch(_UNSIGNED, text.lstrip(_BLANK), re.IGNORECASE)
    if not match or not match.lastgroup:
        return None
    base = {"hex": 16, "bin": 2, "oct": 8, "dec": 10}[match.lastgroup]
    number = int(match[match.lastgroup], base)
    return number if number < 2**32 else None


def seconds(text: str) -> float | None:
    """Return a time span of systemd.time(7) in seconds; None if journald would ignore it."""
    text = text.strip(_BLANK)
    if text == "infinity":
        return inf
    spans = list(re.finditer(_SPAN, text))
    units = [_SECONDS.get(span["unit"]) for span in spans]
    if not spans or None in units or "".join(span[0] for span in spans) != text:
        return None
    total = sum(float(span["count"]) * (unit or 0) for span, unit in zip(spans, units, strict=True))
    return total if total < _LONGEST_SPAN else None


def _storage(text: str) -> int | None:
    return _STORAGES.index(text) if text in _STORAGES else None


_PARSERS: dict[str, tuple[Key, Callable[[str], float | None]]] = {
    "Storage": (Key.STORAGE, _storage),
    "MaxLevelStore": (Key.LEVEL, level),
    "RateLimitIntervalSec": (Key.INTERVAL, seconds),
    "RateLimitInterval": (Key.INTERVAL, seconds),  # the old name
    "RateLimitBurst": (Key.BURST, unsigned),
}


def read_settings(root: str, name: str, read_at: float) -> Settings:
    """Return the settings in the files of a journald; `name` is `journald.conf` or the like.

    `read_at` is the time when journald read the files, in seconds since 1970. Raises UnknownError
    if a file can't be read, or has changed after this time.
    """
    found = default_settings()
    for path in chain(_main_file(root, name), _drop_ins(root, f"{name}.d", read_at)):
        content = _read(path, read_at)
        shown = "/" + os.path.relpath(path, root)
        if content is None or not _parse(content, f"in {shown}", found):
            break  # journald reads no further either, and uses what it has read
    return found


def _main_file(root: str, name: str) -> Iterator[str]:
    paths = (os.path.join(root, directory, "systemd", name) for directory in _DIRECTORIES)
    path = next(filter(os.path.lexists, paths), "")
    if path:
        yield path


def _drop_ins(root: str, name: str, read_at: float) -> list[str]:
    """Return the paths of the drop-ins, in the order of their names."""
    paths: dict[str, str] = {}
    for parent in _DIRECTORIES:
        directory = os.path.join(root, parent, "systemd", name)
        try:
            entries = os.listdir(directory)
            changed = os.stat(directory).st_mtime
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UnknownError(f"{directory}: {error.strerror}") from error
        if changed > read_at:
            raise UnknownError(f"{directory} has changed since journald was started")
        for entry in entries:
            # journald reads no hidden files: hidden_or_backup_file, src/basic/path-util.c.
            if entry.endswith(".conf") and not entry.startswith("."):
                paths.setdefault(entry, os.path.join(directory, entry))
    return [paths[entry] for entry in sorted(paths, key=os.fsencode)]


def _read(path: str, read_at: float) -> bytes | None:
    """Return the content of a file; None for a directory, which journald can't read either."""
    try:
        link = os.lstat(path)
        with open(path, "rb", opener=_open_without_waiting) as file:
            status = os.fstat(file.fileno())
            if stat.S_ISCHR(status.st_mode):
                return b""  # /dev/null, which replaces a file of another directory
            if not stat.S_ISREG(status.st_mode):
                raise UnknownError(f"{path} is not a regular file")
            content = file.read()
    except FileNotFoundError:
        return b""
    except IsADirectoryError:
        return None
    except OSError as error:
        raise UnknownError(f"{path}: {error.strerror}") from error
    if max(link.st_ctime, status.st_ctime) > read_at:
        raise UnknownError(f"{path} has changed since journald was started")
    return content


def _open_without_waiting(path: str, flags: int) -> int:
    """Open even a FIFO that has no writer."""
    return os.open(path, flags | os.O_NONBLOCK)


def _parse(content: bytes, where: str, found: Settings) -> bool:
    """Add the settings of one file; return False if journald would read no further."""
    section = ""
    for line in _logical_lines(content.removeprefix(b"\xef\xbb\xbf")):
        if any("\udc80" <= character <= "\udcff" for character in line):  # not UTF-8, PEP 383
            return False
        if line.startswith("["):
            if not line.endswith("]"):
                return False
            section = line[1:-1]
        elif section == "Journal":
            name, _, text = (part.strip(_BLANK) for part in line.partition("="))
            assign(found, name, text, where)
    return True


def assign(found: Settings, name: str, text: str, where: str) -> None:
    """Add a setting, unless journald ignores this assignment."""
    if name not in _PARSERS:
        return
    key, parse = _PARSERS[name]
    number = parse(text)
    if number is not None:
        found[key] = Setting(number, f"{name}={text}", where)


def _logical_lines(content: bytes) -> Iterator[str]:
    """Yield all lines but empty ones and comments; a backslash at the end joins two lines."""
    begun = ""
    for line in re.split(_LINE_END, content.decode(errors="surrogateescape")):
        if line.lstrip(_BLANK).startswith(("#", ";")):
            continue
        begun += line
        backslashes = len(begun) - len(begun.rstrip("\\"))
        if backslashes % 2:
            begun = begun[:-1] + " "
        else:
            if stripped := begun.strip(_BLANK):
                yield stripped
            begun = ""
    if stripped := begun.strip(_BLANK):
        yield stripped


def assign_kernel_options(found: Settings, command_line: str) -> None:
    """Override settings by the kernel's command line; `-` and `_` are the same in a name."""
    for word in command_line.replace('"', "").split():
        name, _, text = word.partition("=")
        number = level(text)
        if name.replace("-", "_") == "systemd.journald.max_level_store" and number is not None:
            found[Key.LEVEL] = Setting(number, word, "on the kernel command line")
