"""Going into the background, for hosts without systemd: daemon(7), SysV daemons."""

import contextlib
import fcntl
import logging
import os
import resource
import stat
import sys
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager

log = logging.getLogger("ackd")

_SERVES = b"serves"
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
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            _lock(descriptor, path)
        except BaseException:
            os.close(descriptor)
            raise
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)


def _lock(descriptor: int, path: str) -> None:
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # `release` removes the file
        raise PidfileError(f"{path}: is not a regular file; name another")
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        pid = os.read(descriptor, 20).decode(errors="replace").strip()
        text = f"{path}: ackd runs already as process {pid}; stop it first, or name another file"
        raise PidfileError(text) from None


def _is_at(descriptor: int, path: str) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
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
