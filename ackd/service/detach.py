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

_READY = b"ready"
# python-daemon counts up to the hard limit, which is 1,073,741,816 in some containers.
_MOST_DESCRIPTORS = 65536


class PidfileError(Exception):
    """The pidfile can't be taken, mostly by another process's; the text says what to do."""


class Pidfile:
    """Taken before a daemon detaches and released by its end, however it comes.

    The lock belongs to the open file, flock(2): it passes to the detached process, and vanishes
    with it. A number alone could not tell a daemon that was killed from one that lives.
    """

    def __init__(self, path: str) -> None:
        """Take the lock; raises PidfileError."""
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
        """Remove the file, unless it is another one by now, and give up the lock."""
        if _is_at(self._descriptor, self._path):
            os.unlink(self._path)
        os.close(self._descriptor)


def _locked(path: str) -> int:
    """Open the file and lock it, again if its owner has removed it in between."""
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
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):  # it will be removed in the end
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
    """Call `serve` in a detached process, and return an exit status in this one.

    `serve` gets a function to call when clients can come; only then does this process go on, with
    0, or with 1 if the other one ended before. `preserve` are descriptors that it keeps.
    """
    ready, tell = os.pipe()
    if not os.fork():
        try:
            _run(serve, preserve, pidfile, _Parent(tell))
        finally:
            os._exit(0)  # whatever happened: this is not the process that was started
    os.close(tell)
    if _started(ready):
        return 0
    if pidfile:
        pidfile.release()
    return 1


def _started(ready: int) -> bool:
    """Wait until the detached process serves, or explain why it doesn't."""
    with open(ready, "rb") as pipe:
        outcome = pipe.read()
    if outcome != _READY:
        why = outcome.decode(errors="replace") or "it ended before it could serve"
        print(f"ackd: --detach: {why}", file=sys.stderr)
    return outcome == _READY


class _Parent:
    """The process that waits for the detached one to serve, told so through a pipe."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.waits = True

    def fileno(self) -> int:
        return self._descriptor

    def tell(self, outcome: bytes) -> None:
        """Say how the start came out, once."""
        with contextlib.suppress(BrokenPipeError):  # it has been killed, which is not for us
            os.write(self._descriptor, outcome)
        os.close(self._descriptor)
        self.waits = False


def _run(
    serve: Callable[[Callable[[], None]], None],
    preserve: Iterable[int],
    pidfile: Pidfile | None,
    parent: _Parent,
) -> None:
    try:
        with _context([parent, pidfile, *preserve], pidfile):
            serve(lambda: parent.tell(_READY))
    except Exception as error:
        if parent.waits:
            parent.tell(str(error).encode())
        else:
            log.exception("ended by a fault")


def _context(preserve: list[object], pidfile: Pidfile | None) -> AbstractContextManager[object]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = min(hard, _MOST_DESCRIPTORS)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, most), most))
    from daemon import DaemonContext  # it takes the limit as it is when it is imported

    # A standard stream is None where a shell has closed it; python-daemon needs one to redirect.
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
