"""Going into the background, for hosts without systemd: daemon(7), SysV daemons."""

import contextlib
import errno
import fcntl
import logging
import os
import re
import resource
import stat
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from pathlib import Path

log = logging.getLogger("ackd")

_SERVES = b"serves"
# What a pidfile has: nothing, or a process number. More bytes than that are not read.
_PID = re.compile(rb"(\d{1,10}\n?)?")
_LONGEST_CONTENT = 64
# python-daemon closes all numbers up to the hard limit, which is 1,073,741,816 in some containers.
_MOST_DESCRIPTORS = 65536


class PidfileError(Exception):
    """The pidfile can't be locked or written; the text says why and what to do."""


class Pidfile:
    """A locked file with the daemon's process number.

    It is locked before the daemon detaches and unlocked when the daemon ends, for whatever reason:
    the lock belongs to the open file, flock(2), which the detached process shares. The number alone
    would not show whether that process is alive, and still ackd.
    """

    def __init__(self, path: str) -> None:
        """Lock the file; raises PidfileError."""
        self._path = os.path.abspath(path)  # the detached process works in another directory
        try:
            self._descriptor = _locked(self._path)
        except OSError as error:
            raise PidfileError(f"{path}: {error.strerror}") from error

    def fileno(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._descriptor

    def __enter__(self) -> None:
        try:
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)
        except OSError as error:
            raise PidfileError(f"{self._path}: {error.strerror}") from error

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Remove the file, unless another file has replaced it, and unlock it."""
        if _is_at(self._descriptor, self._path):
            os.unlink(self._path)
        os.close(self._descriptor)


def _locked(path: str) -> int:
    """Open and lock the file; repeat that if its owner has removed it in between."""
    while True:
        descriptor = _open(path)
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _open(path: str) -> int:
    try:
        # Non-blocking, because a FIFO waits for its other end: open(2).
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK
        return os.open(path, flags, 0o644)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise PidfileError(f"{path}: is a symbolic link; name another") from error
        raise


def _lock(descriptor: int, path: str) -> None:
    """Lock the file if it is a pidfile that no living process owns: `release` removes it."""
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise PidfileError(f"{path}: is not a regular file; name another")
    content = os.pread(descriptor, _LONGEST_CONTENT, 0)
    if not _PID.fullmatch(content) or status.st_nlink > 1:
        raise PidfileError(f"{path}: is a file with other content; name another")
    pid = content.decode().strip()
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise PidfileError(f"{path}: {_locked_by(pid)}") from None
    if pid and _has_written(int(pid), status.st_mtime):
        text = f"{path}: belongs to process {pid}, which is not ackd; name another"
        raise PidfileError(text)


def _locked_by(pid: str) -> str:
    """Return whether the ackd that the file names has locked it, or another program."""
    if pid and b"ackd" in _command(int(pid)):
        return f"ackd runs already as process {pid}; stop it first, or name another file"
    return "another program has locked the file; name another"


def _command(pid: int) -> bytes:
    """Return the command line of a process; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _has_written(pid: int, written: float) -> bool:
    """Return whether a process is older than a file that was written at this time.

    Then it has probably written the file. A younger process only has the number of the process that
    has written it. An ackd that is alive holds the lock.
    """
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    # Fields 3 and 22, in ticks since the boot: proc(5). Field 2, a name, may have spaces.
    state, *fields = text.rpartition(")")[2].split()
    started = int(fields[18]) / os.sysconf("SC_CLK_TCK")
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - started
    return state != "Z" and time.time() - age < written  # Z: it has ended


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def detach(
    serve: Callable[[Callable[[], None]], None],
    preserve: Iterable[int],
    pidfile: Pidfile | None,
) -> int:
    """Call `serve` in a detached process; return the exit status of this process.

    `serve` gets a function and calls it once the daemon serves clients. Then this function returns
    0; if the detached process ends before, it prints why and returns 1. The detached process keeps
    the descriptors in `preserve`.
    """
    waiting, reporting = os.pipe()
    if not os.fork():
        try:
            _run(serve, preserve, pidfile, _Report(reporting))
        finally:
            os._exit(0)  # never return into the callers: they belong to the other process
    os.close(reporting)
    if _serves(waiting):
        return 0
    if pidfile:
        pidfile.release()
    return 1


def _serves(descriptor: int) -> bool:
    """Wait for the detached process's report; return whether it serves, or print why not."""
    with open(descriptor, "rb") as pipe:
        report = pipe.read()
    if report != _SERVES:
        why = report.decode(errors="replace") or "it ended before it could serve"
        print(f"ackd: --detach: {why}", file=sys.stderr)
    return report == _SERVES


class _Report:
    """The detached process's one report to the process that waits for it, sent through a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.is_sent = False

    def fileno(self) -> int:
        return self._descriptor

    def send(self, text: bytes) -> None:
        with contextlib.suppress(BrokenPipeError):  # the waiting process has been killed
            os.write(self._descriptor, text)
        os.close(self._descriptor)
        self.is_sent = True


def _run(
    serve: Callable[[Callable[[], None]], None],
    preserve: Iterable[int],
    pidfile: Pidfile | None,
    report: _Report,
) -> None:
    try:
        with _context([report, pidfile, *preserve], pidfile):
            serve(lambda: report.send(_SERVES))
    except Exception as error:
        if report.is_sent:
            log.exception("ackd has failed")
        else:
            report.send(str(error).encode())


def _context(preserve: list[object], pidfile: Pidfile | None) -> AbstractContextManager[object]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, _MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, most), most))
    from daemon import DaemonContext  # reads the limit when it is imported

    # If a shell has closed a standard stream, it is None here; python-daemon needs a file.
    for name in ("stdin", "stdout", "stderr"):
        setattr(sys, name, getattr(sys, name) or os.fdopen(os.open(os.devnull, os.O_RDWR), "w"))
    context: AbstractContextManager[object] = DaemonContext(
        detach_process=True,
        files_preserve=preserve,
        pidfile=pidfile,
        signal_map={},
        umask=0o077,
    )
    return context
