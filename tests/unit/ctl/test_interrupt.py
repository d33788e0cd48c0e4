"""Ctrl-C as the verbs meet it."""

import select
import signal
from collections.abc import Iterator

import pytest

from ackd.ctl.interrupt import Interrupt, UntilInterrupt


@pytest.fixture(autouse=True)
def _python_meets_ctrl_c_as_usual() -> Iterator[None]:
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, handler)


def test_ctrl_c_leaves_the_block_at_once() -> None:
    with UntilInterrupt() as block:
        signal.raise_signal(signal.SIGINT)
        pytest.fail("the block goes on")
    assert block.interrupted


def test_a_block_that_ends_by_itself_was_not_interrupted() -> None:
    with UntilInterrupt() as block:
        pass
    assert not block.interrupted


def test_other_exceptions_leave_the_block_as_usual() -> None:
    block = UntilInterrupt()
    with pytest.raises(OSError, match="full"), block:
        raise OSError("full")
    assert not block.interrupted


def test_ctrl_c_is_counted_while_the_work_continues() -> None:
    with Interrupt() as interrupt:
        assert select.select([interrupt], [], [], 0)[0] == []
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGINT)
        assert select.select([interrupt], [], [], 0)[0] == [interrupt]
        assert interrupt.read() == 2
        signal.raise_signal(signal.SIGINT)
        assert interrupt.read() == 3
    with UntilInterrupt() as block:
        signal.raise_signal(signal.SIGINT)
    assert block.interrupted
