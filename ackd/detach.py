"""Going into the background, for hosts without systemd: daemon(7), SysV daemons."""

import fcntl
import os
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from types import TracebackType

from daemon import DaemonContext


class RunningError(Exception):
    """Another process holds the file; the text says which and what to do."""


class Pidfile:
    """Taken before a daemon detaches and released by its end, however it comes.

    The lock belongs to the open file, flock(2): it passes to the detached process, and vanishes
    with it. A number alone could not tell a daemon that was killed from one that lives.
    """

    def __init__(self, path: str) -> None:
        """Take the lock; raises RunningError or OSError."""
        self._path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(self._descriptor, 20).decode(errors="replace").strip()
            os.close(self._descriptor)
            text = (
                f"{path}: ackd runs already as process {pid}; stop it first, or name another file"
            )
            raise RunningError(text) from None

    def fileno(self) -> int:
        """Return the descriptor that holds the lock."""
        return self._descriptor

    def __enter__(self) -> None:
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        os.unlink(self._path)
        os.close(self._descriptor)


def detach(
    serve: Callable[[Callable[[], None]], None],
    preserve: Iterable[int],
    pidfile: AbstractContextManager[None] | None,
) -> int:
    """Call `serve` in a detached process, and return an exit status in this one.

    `serve` gets a function to call when clients can come; only then does this process go on, with
    0, or with 1 if the other one ended before. `preserve` are descriptors that it keeps.
    """
    ready, tell = os.pipe()
    if os.fork():
        os.close(tell)
        return 0 if os.read(ready, 1) else 1
    context = DaemonContext(
        detach_process=True,
        files_preserve=[tell, *preserve],
        pidfile=pidfile,
        signal_map={},
        umask=0o077,
    )
    with context:
        serve(lambda: _tell(tell))
    os._exit(0)


def _tell(descriptor: int) -> None:
    os.write(descriptor, b"+")
    os.close(descriptor)
