"""A process that uses a log until it is killed, and prints what must outlive it."""

import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from subprocess import PIPE, STDOUT, Popen

from ackd.log.disk import Directory
from ackd.log.files import FileStorage
from ackd.log.log import Log
from ackd.log.memory import MemoryStorage
from ackd.log.storage import LogError
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
        # Without this, a log that is full at the start would stay full.
        log.set_sent(log.synced)
        log.set_read(log.synced)
        log.set_safe(max(log.safe, log.synced - 1000))
        for _ in range(30):
            log.append(record_of(log.appended))  # has no room while the disk is slow
        if select.select([log], [], [], 0)[0]:
            assert log.collect() is None
            print(log.synced - 1, flush=True)
        log.commit()


def obey(log: Log) -> None:
    """Do what each line of the input says; print the result.

    A number: commit so many records; print the errno or 0, and `synced` and `appended`. "free": let
    the log need no record any more. "check": print whether the log has the right records.
    """
    for line in sys.stdin:
        if line == "free\n":
            log.set_sent(log.synced)
            log.set_read(log.synced)
            log.set_safe(log.synced)
            print("freed", flush=True)
        elif line == "check\n":
            numbers = range(log.safe, log.appended)
            right = list(log.records(log.safe, log.appended)) == [*map(record_of, numbers)]
            print(right, flush=True)
        else:
            for _ in range(int(line)):
                assert log.append(record_of(log.appended))
            log.commit()
            select.select([log], [], [])
            error = log.collect()
            print(error.errno if error else 0, log.synced, log.appended, flush=True)
    log.close(clean=True)


@contextmanager
def started(
    use: Callable[[Log], None],
    place: str | int,
    before: Sequence[str] = (),
    **environment: str,
) -> Iterator[Popen[str]]:
    """Start the process, with the arguments `before` before its own; it is killed at the end."""
    command = (*before, sys.executable, "-m", __name__, use.__name__, str(place))
    with Popen(
        command,
        stdin=PIPE,
        stdout=PIPE,
        stderr=STDOUT,
        text=True,
        pass_fds=[place] if isinstance(place, int) else [],
        cwd=PROJECT,
        env=os.environ | environment,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def main(use: str, place: str) -> None:
    if use == use_memory.__name__:
        use_memory(Log(MemoryStorage(int(place))))
    else:
        try:
            log = Log(FileStorage(Directory(place), SIZE))
        except LogError as error:
            sys.exit(str(error))
        (use_files if use == use_files.__name__ else obey)(log)


if __name__ == "__main__":
    main(*sys.argv[1:])
