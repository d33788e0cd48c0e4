"""Fixtures: real ackd processes."""

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("tests.system.support.audit")

from tests.support.daemon_process import Daemon  # noqa: E402

# For `tmp_path`. On Debian 13 /tmp is in memory, and ackd has no log on the disk there.
os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", "/var/tmp")

StartDaemon = Callable[..., Daemon]

# A shell starts a background job with SIGINT ignored, and child processes inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[StartDaemon]:
    """Start daemons with the given settings; stop all after the test."""
    daemons: list[Daemon] = []

    def start_daemon(settings: str = "", **keywords: Any) -> Daemon:
        directory = tmp_path / str(len(daemons))
        directory.mkdir()
        daemons.append(Daemon(directory, settings, **keywords))
        return daemons[-1]

    yield start_daemon
    for daemon in daemons:
        daemon.stop()
