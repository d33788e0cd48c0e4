"""The log in files: segments in a directory, and a file `control` with the cursors."""

import errno
import os
import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from functools import partial
from zlib import crc32

from ackd.log.control import CONTROL_SIZE, MAGIC, ControlBlock
from ackd.log.disk import Disk, File
from ackd.log.format import CHECKSUM, HEADER_SIZE, Header, VersionError, new_salt, read_header
from ackd.log.storage import READ, SAFE, SENT, Found, LogError, Part, Segment
from ackd.log.worker import Worker, WorkerThread

_CONTROL = "control"
_NAME = re.compile(r"segment-([0-9]{6})")
# Records that may be sent or read before the cursors are written.
_MOVED = 1024
# Seconds that an end waits for a disk that hangs.
_END = 2.0


def this_boot(environ: Mapping[str, str] = os.environ) -> bytes:
    """Return the id of this boot of the machine, 16 bytes, random(4). Raises OSError.

    ackd's unit hides the kernel's file, and passes it as a credential.
    """
    credential = os.path.join(environ.get("CREDENTIALS_DIRECTORY", os.devnull), "boot-id")
    path = credential if os.path.exists(credential) else "/proc/sys/kernel/random/boot_id"
    with open(path, encoding="ascii") as file:
        return bytes.fromhex(file.read().strip().replace("-", ""))


class FileStorage:
    """Segments in files that are written over zeros and used again: at most `size` bytes.

    A worker does all that can wait for the disk, but for reading. A commit writes and syncs the
    segment's file. When a segment begins, the worker prepares a spare file for the next one. A file
    that was used before gets the header of a segment without records, and is synced: a power cut
    must not leave the old header with some of the new records.
    """

    durable = True
    segment_size = 4 * 1024 * 1024

    def __init__(
        self, disk: Disk, size: int, worker: Worker | None = None, boot: bytes = b""
    ) -> None:
        """Use the files in a directory; `boot` is the id of this boot. Raises LogError."""
        self.limit = max(2, size // self.segment_size)
        self.place = disk.place
        self._disk = disk
        self._error: OSError | None = None
        # Only the worker uses these: an error of a job that is no commit, the slots that have a
        # file, those that are free, those that are free and prepared, and the file that was written
        # last.
        self._broken: Exception | None = None
        self._slots: set[int] = set()
        self._free: deque[int] = deque()
        self._spare: deque[int] = deque()
        self._file: tuple[int, File] | None = None
        try:
            self._open(boot or this_boot())
        except OSError as error:
            disk.close()
            raise LogError(disk.place, f"{error.strerror}", error.errno) from error
        except VersionError as error:
            disk.close()
            raise LogError(disk.place, str(error)) from error
        self._worker = worker or WorkerThread()
        self._do(self._prepare_spare)

    def stored(self) -> Iterator[Segment]:
        """Yield the segments of the process before, in any order."""
        for slot, header in self._headers.items():
            yield Segment(header, None, header.first, HEADER_SIZE, slot=slot)

    def begin(self, header: Header) -> Segment:
        """Return a new segment; its first commit gives it a file."""
        view = memoryview(bytearray(self.segment_size))
        view[:HEADER_SIZE] = header.pack()
        return Segment(header, view, header.first, HEADER_SIZE)

    def load(self, segment: Segment) -> memoryview:
        """Return a segment's bytes. Raises OSError."""
        file = self._disk.open(_name(segment.slot))
        try:
            return memoryview(file.read(self.segment_size, 0))
        finally:
            file.close()

    def free(self, segment: Segment) -> None:
        """Let another segment use the file, or remove it if a commit to it has failed."""
        self._do(partial(self._recycle, segment))

    def commit(self, parts: list[Part]) -> None:
        """Begin to write the parts; from time to time also write the cursors."""
        try:
            self._worker.start()
        except OSError as error:
            if parts:
                self._error = error
                self._worker.report()
            return
        if parts:
            self._do(partial(self._commit, parts))
        if self._cursors_are_due(idle=not parts):
            self._do(self._save_cursors)
            self._saved = self.cursors.tolist()

    @property
    def descriptors(self) -> list[int]:
        """All open descriptors, but for a file that the worker has opened."""
        return [self._worker.fileno(), self._disk.fileno(), self._control_file.fileno()]

    def fileno(self) -> int:
        """Return the descriptor that becomes readable when a commit has ended."""
        return self._worker.fileno()

    def collect(self) -> OSError | None:
        """Return the error of the commit that has ended."""
        self._worker.acknowledge()
        return self._error

    def set_recovered(self) -> None:
        """Note this boot, and that a clean end is one."""
        self._recovered = True
        self._control.mark(clean=False, boot=self._boot)
        self._do(self._save_cursors)

    def close(self, clean: bool) -> None:
        """Wait for the worker, and close everything.

        If the disk hangs, the end is not a clean one, and the end of the process closes the files.
        """
        if not self._worker.stop(_END):
            return
        self._close_file()
        self._control.mark(clean and self._recovered, self._control.boot)
        self._save_cursors()
        self._control_file.close()
        self._disk.close()

    # At the start

    def _open(self, boot: bytes) -> None:
        """Find which files are there, and whether the directory can be written."""
        self._control_file = self._disk.open(_CONTROL, create=True)
        data = self._control_file.read(CONTROL_SIZE + CHECKSUM.size, 0)
        block, checksum = data[:CONTROL_SIZE], data[CONTROL_SIZE:]
        good = checksum == CHECKSUM.pack(crc32(block))
        self._control = ControlBlock(memoryview(bytearray(block if good else CONTROL_SIZE)))
        self.cursors = self._control.cursors
        same_boot = self._control.valid and self._control.boot == boot
        # After a crash of the process, the kernel can have records that the disk does not have yet.
        # The control block has an earlier boot's id until the records of that boot are recovered.
        self._headers = self._read_headers(sync=not (same_boot and self._control.clean))
        self._remove_headless(data)
        if same_boot:
            self.found = Found.CLEAN if self._control.clean else Found.SAME_BOOT
        else:
            self.found = Found.OTHER_BOOT if self._control.valid or self._headers else Found.NEW
        self._boot = boot
        self._saved = self.cursors.tolist()
        self._recovered = self.found in (Found.NEW, Found.CLEAN)
        known = self._control.boot if self.found is Found.OTHER_BOOT else boot
        self._control.mark(clean=False, boot=known)
        self._control_file.write(self._control_bytes(), 0)
        self._control_file.sync()
        self._disk.sync()

    def _read_headers(self, sync: bool) -> dict[int, Header]:
        """Return the header of each segment's file; `_headless` are the files without one."""
        headers = {}
        self._headless: dict[str, bytes] = {}
        for name in sorted(filter(_NAME.fullmatch, self._disk.names())):
            file = self._disk.open(name)
            data = file.read(HEADER_SIZE, 0)
            header = read_header(data)
            whole = len(file.read(2, self.segment_size - 1)) == 1
            if sync:
                file.sync()
            file.close()
            if header and whole:
                headers[int(name[-6:])] = header
            else:
                self._headless[name] = data
        self._slots.update(headers)
        return headers

    def _remove_headless(self, control: bytes) -> None:
        """Remove the segments' files that have no header: a power cut can leave them.

        If nothing shows that an ackd was here before, a file with content is not ackd's, and stays.
        """
        ours = self._headers or control.startswith(MAGIC)
        for name, data in {_CONTROL: control, **self._headless}.items():
            if any(data) and not ours:
                text = f"the file {name} has content that is not ackd's"
                raise FileExistsError(errno.EEXIST, text)
        for name in self._headless:
            self._disk.remove(name)

    # The cursors

    def _control_bytes(self) -> bytes:
        block = bytes(self._control.view)
        return block + CHECKSUM.pack(crc32(block))

    def _cursors_are_due(self, idle: bool) -> bool:
        """Return whether to write the cursors; `idle` is whether there is nothing to commit.

        They are written when they have moved far, and when journald has read all that was sent.
        """
        sent, read, _ = now = self.cursors.tolist()
        moved = max(sent - self._saved[SENT], read - self._saved[READ])
        return moved >= _MOVED or (idle and sent == read and now != self._saved)

    def _save_cursors(self) -> None:
        """Write the cursors; without a sync they outlive the process, but not always the power."""
        with suppress(OSError):  # without them, ackd only records more again
            self._control_file.write(self._control_bytes(), 0)

    # In the worker

    def _do(self, job: Callable[[], None]) -> None:
        """Have the worker do a job."""
        self._worker.do(partial(self._try, job))

    def _try(self, job: Callable[[], None]) -> None:
        """Do a job. An error that the job does not expect lets the next commit fail."""
        try:
            job()
        except Exception as error:  # noqa: BLE001 - it is kept for the next commit
            self._broken = error

    def _commit(self, parts: list[Part]) -> None:
        self._error = None
        try:
            self._raise_broken()
            for part in parts:
                self._write(part)
        except Exception as error:  # noqa: BLE001 - whatever fails a commit is reported
            # After a failed fdatasync the kernel takes the pages for written: another one proves
            # nothing. https://www.usenix.org/conference/atc20/presentation/rebello
            self._close_file()
            self._erase(parts)
            self._error = _failure(error)
        self._worker.report()
        if any(not part.start for part in parts):  # a segment has begun
            self._prepare_spare()

    def _write(self, part: Part) -> None:
        segment = part.segment
        if segment.slot < 0:
            segment.slot = self._spare.popleft() if self._spare else self._prepared()
        if not self._file or self._file[0] != segment.slot:
            self._close_file()
            self._file = segment.slot, self._disk.open(_name(segment.slot))
        file = self._file[1]
        file.write(part.data, part.start)
        file.sync()

    def _erase(self, parts: list[Part]) -> None:
        """Erase the records of a failed commit: clients read that they are not received.

        Otherwise the next process could find them, if no later segment cuts them off.
        """
        for segment, start, data in parts:
            if segment.slot >= 0:
                with suppress(Exception):  # the commit has failed in any case
                    file = self._disk.open(_name(segment.slot))
                    with closing(file):
                        file.write(bytes(len(data)), start)

    def _raise_broken(self) -> None:
        broken, self._broken = self._broken, None
        if broken:
            raise broken

    def _close_file(self) -> None:
        """Close the file that was written last: what it has is synced or given up."""
        before, self._file = self._file, None
        if before:
            with suppress(OSError):
                before[1].close()

    def _recycle(self, segment: Segment) -> None:
        if segment.slot < 0:  # the segment's first commit has failed
            return
        if self._file and self._file[0] == segment.slot:
            self._close_file()
        if segment.spoiled or len(self._slots) > self.limit:
            self._remove(segment.slot)
        else:
            self._free.append(segment.slot)
        self._prepare_spare()

    def _prepare_spare(self) -> None:
        """Prepare a file for the next segment, if that is possible now."""
        if not self._spare and (self._free or len(self._slots) < self.limit):
            with suppress(OSError):  # the commit that needs the file reports the error
                self._spare.append(self._prepared())

    def _prepared(self) -> int:
        """Return the slot of a file for a new segment. Raises OSError."""
        # Files are used again in the order in which they were freed. So a segment with given-up
        # records never outlives the later segment that cuts these records off.
        new = not self._free
        slot = _lowest(self._slots) if new else self._free.popleft()
        self._slots.add(slot)
        unused = Header(new_salt(), 0, 0, self.cursors[SAFE], True)
        try:
            file = self._disk.open(_name(slot), create=new)
            try:
                if new:
                    file.fill(self.segment_size)
                file.write(unused.pack(), 0)
                file.sync()
            finally:
                file.close()
            if new:
                self._disk.sync()
        except Exception:
            self._remove(slot)
            raise
        return slot

    def _remove(self, slot: int) -> None:
        self._slots.discard(slot)
        with suppress(OSError):
            # The cursors show that the file's records are not missing after a power cut.
            self._control_file.write(self._control_bytes(), 0)
            self._control_file.sync()
            self._disk.remove(_name(slot))
            self._disk.sync()


def _failure(error: Exception) -> OSError:
    """Return the error of a commit; if the disk did not cause it, it has a `__cause__`."""
    if isinstance(error, OSError):
        return error
    failure = OSError(errno.EIO, f"an error in ackd, {type(error).__name__}")
    failure.__cause__ = error
    return failure


def _name(slot: int) -> str:
    return f"segment-{slot:06d}"


def _lowest(slots: set[int]) -> int:
    """Return the lowest number that is no slot yet."""
    return next(slot for slot in range(len(slots) + 1) if slot not in slots)
