"""The thread of the log: it never ends by an error, and never keeps ackd from ending."""

import errno
import select
import threading
from collections.abc import Iterator

import pytest

from ackd.log.worker import WorkerThread


@pytest.fixture
def no_thread() -> Iterator[None]:
    """Let no thread start: there is not so much address space for its stack."""
    before = threading.stack_size(1 << 50)
    yield
    threading.stack_size(before)


def wait_for(event: threading.Event) -> None:
    event.wait()


def test_jobs_are_done_in_order_from_the_start_on() -> None:
    worker = WorkerThread()
    done: list[int] = []
    worker.do(lambda: done.append(1))
    worker.do(worker.report)
    assert not select.select([worker], [], [], 0)[0]
    worker.start()
    worker.start()
    worker.do(lambda: done.append(2))
    select.select([worker], [], [])
    worker.acknowledge()
    assert not select.select([worker], [], [], 0)[0]
    assert worker.stop(10)
    assert done == [1, 2]


def test_a_stop_does_not_wait_longer_than_allowed_for_a_job_that_hangs() -> None:
    worker, go_on = WorkerThread(), threading.Event()
    worker.start()
    worker.do(lambda: wait_for(go_on))
    assert not worker.stop(0.01)
    go_on.set()
    assert worker.stop(10)


@pytest.mark.usefixtures("no_thread")
def test_a_thread_that_can_not_start_is_an_error_of_the_system() -> None:
    worker = WorkerThread()
    with pytest.raises(OSError, match="thread") as raised:
        worker.start()
    assert raised.value.errno == errno.EAGAIN
    assert worker.stop(0)
