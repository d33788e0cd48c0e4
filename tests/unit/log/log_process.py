"""A process that uses a log until it is killed, and prints what must outlive it."""

import select
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from subprocess import PIPE, Popen

from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from tests.support.project import PROJECT

SIZE = 64 * 1024 * 1024


def record_of(number: int) -> bytes:
    """Return the record that each test appends as this number: 1 to 3,000 bytes."""
    return b"%d." % number * (1 + number % 500)


def use_memory(log: Log) -> None:
    """Print each number that is appended; read and sent follow."""
    while True:
        number = log.appended
        assert log.append(record_of(number))
        log.set_sent(log.appended)
        print(number, flush=True)
        if log.sent - log.read > 200:
            log.set_read(log.sent - 100)


def use_files(log: Log) -> None:
    """Print the number of the last record of each commit; commits and appends overlap."""
    while True:
        for _ in range(30):
            assert log.append(record_of(log.appended))
        if select.select([log], [], [], 0)[0]:
            assert log.collect() is None
            print(log.synced - 1, flush=True)
            log.set_sent(log.synced)
            log.set_read(log.synced)
            log.set_safe(max(log.safe, log.synced - 1000))
        log.commit()


@contextmanager
def started(use: Callable[[Log], None], place: str | int) -> Iterator[Popen[str]]:
    """Start the process; it is killed at the end."""
    command = (sys.executable, "-m", __name__, use.__name__, str(place))
    descriptors = [place] if isinstance(place, int) else []
    with Popen(command, stdout=PIPE, text=True, pass_fds=descriptors, cwd=PROJECT) as process:
        try:
            yield process
        finally:
            process.kill()


def main(use: str, place: str) -> None:
    if use == use_memory.__name__:
        use_memory(Log(MemoryStorage(int(place))))
    else:
        use_files(Log(FileStorage(Directory(place), SIZE)))


if __name__ == "__main__":
    main(*sys.argv[1:])
