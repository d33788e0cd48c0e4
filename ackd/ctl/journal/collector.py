"""Reads payloads out of a collector's journals, as systemd-journal-remote(8) writes them.

Each node has its own files: `remote-CN=NAME.journal` after the certificate with which its journal
is uploaded, or `remote-ADDRESS.journal` where there are no certificates. A client of the collector
can write any entry, with any fields, but only into the files of its own certificate. So the files
say which node an entry is from. The files of each node are read apart from those of other nodes:
libsystemd takes an entry for one that it has already passed if another file has an entry of the
same boot with a later time, sd-journal.c. So a client could hide the entries of another node.
"""

import errno
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from heapq import merge
from itertools import islice
from operator import attrgetter
from pathlib import Path
from time import sleep
from typing import Any

from ackd.ctl.journal.belief import Belief
from ackd.ctl.journal.entries import PAYLOADS, RecordedPayload, payloads_in
from ackd.ctl.runs.options import allow_connections
from ackd.journal.reader import (
    MACHINE,
    TIME,
    NotReadableError,
    cursor_of,
    next_entry,
    not_readable,
    open_files,
)
from ackd.printable import printable

# What follows the name of a file that is archived, or that was damaged and put aside.
_ARCHIVED = re.compile(
    "@[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{16}[.]journal|@[0-9a-f]{16}-[0-9a-f]{16}[.]journal~"
)
_ENDS = (".journal", ".journal~")
_UPLOADED = "remote-"
# systemd-journal-remote escapes some characters of a certificate's name.
_ESCAPED = re.compile(rb"\\x([0-9a-f]{2})")
# The host name in the distinguished name of a certificate, RFC 4514.
_HOST = re.compile(rb"(?:\A|,)CN=((?:[^,\\]|\\.)+)", re.DOTALL)
_DAMAGES = {
    errno.EBADMSG: "it is damaged",
    errno.ENODATA: "it is empty or cut off, as a copy can be that was made while it was written",
    errno.EPROTONOSUPPORT: "a newer systemd has written it",
}
_BROKEN = "it is damaged, and not all of it can be read"
_TIME = attrgetter("microseconds")


@dataclass(slots=True)
class _File:
    """A journal file. `begin` is the time of its first entry, `done` says that all of it is read.

    `number` is its device and its inode: a file that grows gets another name when it is archived.
    """

    path: Path
    number: tuple[int, int]
    begin: int
    done: bool = False
    _reader: Any = None

    @property
    def grows(self) -> bool:
        """Whether more entries can come."""
        return not _ARCHIVED.search(self.path.name)

    def entries(self) -> Iterator[dict[str, Any]]:
        """Yield the entries that have not been yielded yet; raises OSError and _BrokenError."""
        last = ""
        while True:
            self._reader = self._reader or open_files([self.path], PAYLOADS)
            while entry := next_entry(self._reader):
                yield entry
            # libsystemd leaves out the rest of a damaged file, and reports nothing.
            read, before, last = cursor_of(self._reader), last, _last_cursor(self.path)
            if last in ("", read):
                break
            if last == before:
                raise _BrokenError
        if not self.grows:
            self.done, self._reader = True, None

    def skip(self) -> None:
        """Go to the end; raises OSError."""
        self._reader = open_files([self.path], PAYLOADS)
        self._reader.seek_tail()
        if not next_entry(self._reader, -1):
            self._reader.seek_head()

    def backwards(self) -> Iterator[dict[str, Any]]:
        """Yield the entries before the end to which `skip` has gone; raises OSError."""
        if not self._reader or not (last := cursor_of(self._reader)):
            return
        reader = open_files([self.path], PAYLOADS)
        reader.seek_cursor(last)
        entry = next_entry(reader)
        while entry:
            yield entry
            entry = next_entry(reader, -1)


class _BrokenError(Exception):
    """Some entries of a file can't be read."""


def _last_cursor(path: Path) -> str:
    """Return the cursor of the last entry of a file; "" if there is none."""
    reader = open_files([path], PAYLOADS)
    reader.seek_tail()
    return cursor_of(reader) if next_entry(reader, -1) else ""


@dataclass(slots=True, eq=False)
class _Source:
    """The files that were uploaded with one certificate, or from one address.

    `node` is the name of the node, "" if the files do not say it. `machine` is the machine that all
    entries are of, b"" if there are several.
    """

    name: str
    belief: Belief
    warn: Callable[[Path, str], None]
    files: list[_File] = field(default_factory=list)
    node: str = ""
    machine: bytes = b""

    def payloads(self) -> Iterator[RecordedPayload]:
        """Yield the payloads that have not been yielded yet, in the order of the files."""
        for file in self._sorted():
            if not file.done:
                yield from self._payloads(file, file.entries())

    def skip(self) -> None:
        """Go to the end."""
        for file in self.files:
            try:
                file.skip()
            except OSError as error:
                self._leave_out(file, error)

    def backwards(self) -> Iterator[RecordedPayload]:
        """Yield the payloads before the end to which `skip` has gone, the last one first."""
        for file in reversed(self._sorted()):
            yield from self._payloads(file, file.backwards(), backwards=True)

    def _sorted(self) -> list[_File]:
        return sorted(self.files, key=attrgetter("begin"))

    def _payloads(
        self, file: _File, entries: Iterable[dict[str, Any]], backwards: bool = False
    ) -> Iterator[RecordedPayload]:
        try:
            for entry in entries:
                payloads = payloads_in(entry, self.belief, self.name, self.node)
                yield from reversed(payloads) if backwards else payloads
        except (_BrokenError, NotReadableError):
            self.warn(file.path, _BROKEN)
        except OSError as error:
            self._leave_out(file, error)

    def _leave_out(self, file: _File, error: OSError) -> None:
        # A file that is not there has another name now, and is found again.
        if not isinstance(error, FileNotFoundError):
            self.warn(file.path, _damage(error))


class CollectedEntries:
    """The payloads in the journals of a collector in a directory; each node's in their order.

    `unit` and `since` are those of Entries. `warn` is called for each file that can't be read, also
    in the midst of an iteration. Raises NotReadableError if the user may not read all files, or if
    no file can be read.
    """

    def __init__(
        self, directory: str, unit: str, since: float, warn: Callable[[str], None]
    ) -> None:
        allow_connections()  # at least one file of each node is open
        self._directory = Path(directory)
        self._unit = unit
        self._since = int(since * 1e6)
        self._report = warn
        self._damaged: set[Path] = set()
        self._sources: dict[str, _Source] = {}
        self._files: dict[tuple[int, int], _File] = {}
        self._speakers: dict[bytes, set[str]] = {}  # of each machine: the sources of only this one
        if not self._find_files():
            raise NotReadableError(self._nothing())

    def __iter__(self) -> Iterator[RecordedPayload]:
        """Yield the payloads that have not been yielded yet; raises NotReadableError."""
        found = True
        while found:
            payloads = [source.payloads() for source in self._sources.values()]
            yield from filter(self._is_late, merge(*payloads, key=_TIME))
            found = self._find_files()

    def last(self, count: int, wanted: Callable[[RecordedPayload], bool]) -> list[RecordedPayload]:
        """Return the last `count` wanted payloads; an iteration then begins after the last one."""
        for source in self._sources.values():
            source.skip()
        payloads = [source.backwards() for source in reversed(self._sources.values())]
        late = filter(self._is_late, merge(*payloads, key=_TIME, reverse=True))
        return list(islice(filter(wanted, late), count))[::-1]

    def wait(self, seconds: float = 1.0) -> None:
        """Wait until there may be more payloads, or for so many seconds."""
        sleep(seconds)
        self._find_files()

    def _is_late(self, recorded: RecordedPayload) -> bool:
        # The times go back where entries are uploaded again, so no place can be looked up.
        return recorded.microseconds >= self._since

    def _find_files(self) -> bool:
        """Look for files; return whether there are new ones. Raises NotReadableError."""
        there: dict[tuple[int, int], _File] = {}
        new = set()
        for path in self._paths():
            try:
                status = path.stat()
                file = self._file(path, (status.st_dev, status.st_ino))
            except FileNotFoundError:
                continue  # it has another name now
            except PermissionError:
                remedy = "be root, or join the group that may read it"
                raise NotReadableError(f"no right to read {path}: {remedy}") from None
            except OSError as error:
                self._warn(path, _damage(error))
                continue
            there[file.number] = file
            if file.number not in self._files or self._files[file.number] is not file:
                new.add(_source_of(path.name))
                self._source(_source_of(path.name)).files.append(file)
        self._files = there
        for source in self._sources.values():
            source.files = [file for file in source.files if there.get(file.number) is file]
        self._identify(new)
        return bool(new)

    def _file(self, path: Path, number: tuple[int, int]) -> _File:
        """Return the file at `path`; raises OSError if it can't be read."""
        file = self._files.get(number)
        # An archived file keeps its name: with another name, the number was given to a new file.
        if file and (file.path == path or file.grows):
            file.path = path
            return file
        reader = open_files([path], {})
        entry = next_entry(reader)
        return _File(path, number, entry[TIME] if entry else 0)

    def _paths(self) -> list[Path]:
        try:
            paths = sorted(self._directory.iterdir())
        except FileNotFoundError:
            raise NotReadableError(f"there is no directory {self._directory}") from None
        except NotADirectoryError:
            raise NotReadableError(
                f"{self._directory} is no directory: give the directory that it is in"
            ) from None
        except OSError as error:
            raise not_readable(error) from error
        return [path for path in paths if path.name.endswith(_ENDS)]

    def _source(self, name: str) -> _Source:
        if name not in self._sources:
            opener = partial(self._open_source, name)
            belief = Belief(opener, self._unit, partial(self._is_of_another, name))
            self._sources[name] = _Source(name, belief, self._warn)
        return self._sources[name]

    def _open_source(self, name: str) -> Any:
        """Return a Reader of all entries of a source."""
        while True:
            try:
                return open_files([file.path for file in self._sources[name].files], {})
            except FileNotFoundError:
                self._find_files()  # a file has another name now
            except OSError as error:
                raise not_readable(error) from error

    def _identify(self, names: Iterable[str]) -> None:
        """Name the nodes, and find the machines, of these sources."""
        for name in names:
            with self._open_source(name) as reader:
                machines = reader.query_unique(MACHINE)
            self._sources[name].machine = machines.pop() if len(machines) == 1 else b""
        self._speakers = {}
        for source in self._sources.values():
            if source.machine and source.name.startswith(_UPLOADED):
                self._speakers.setdefault(source.machine, set()).add(source.name)
        hosts = Counter(_host_of(name) for name in self._sources)
        for name, source in self._sources.items():
            host = _host_of(name)
            source.node = host if hosts[host] == 1 else _full_name(name)

    def _is_of_another(self, name: str, machine: bytes) -> bool:
        """Return whether other sources speak for this machine, and the source `name` does not."""
        speakers = self._speakers.get(machine)
        return speakers is not None and name not in speakers

    def _warn(self, path: Path, reason: str) -> None:
        if path not in self._damaged:
            self._damaged.add(path)
            self._report(f"{path} is left out: {reason}")

    def _nothing(self) -> str:
        if self._damaged:
            return f"no journal in {self._directory} can be read"
        other = self._directory / "remote"
        hint = f": is it {other}?" if other.is_dir() else ""
        return f"there is no journal in {self._directory}{hint}"


def _damage(error: OSError) -> str:
    return _DAMAGES.get(error.errno or 0, error.strerror or str(error))


def _source_of(file_name: str) -> str:
    """Return the part of a file's name that all files of one source share."""
    return _ARCHIVED.sub("", file_name).removesuffix(".journal")


def _full_name(source: str) -> str:
    """Return the name of the certificate, or the address, "" if the files do not say it."""
    return printable(_unescaped(source))


def _host_of(source: str) -> str:
    """Return the host name of the certificate, or the address, "" if the files do not say it."""
    host = _HOST.search(_unescaped(source))
    return printable(host[1]) if host else _full_name(source)


def _unescaped(source: str) -> bytes:
    if not source.startswith(_UPLOADED):
        return b""
    escaped = source.removeprefix(_UPLOADED).encode(errors="surrogateescape")
    return _ESCAPED.sub(lambda code: bytes.fromhex(code[1].decode()), escaped)
