"""Messages to a service manager that hangs: the loop must go on."""

from collections.abc import Iterator
from math import inf
from pathlib import Path

import pytest

from ackd.loop import Loop
from ackd.service import systemd
from tests.support.manager_socket import ManagerSocket

ENVIRON = {"NOTIFY_SOCKET": "set", "WATCHDOG_USEC": "20000000"}


@pytest.fixture
def manager(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ManagerSocket]:
    manager = ManagerSocket(tmp_path / "manager")
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    yield manager
    manager.close()


def test_a_message_that_finds_no_room_is_not_sent(manager: ManagerSocket) -> None:
    assert systemd.notify("READY=1", timeout=0)
    manager.fill()
    assert not systemd.notify("READY=1", timeout=0)
    assert not systemd.notify("READY=1", timeout=0.01)


def test_the_watchdog_waits_for_no_room_and_tries_again_soon(manager: ManagerSocket) -> None:
    watchdog = systemd.Watchdog(ENVIRON)
    watchdog.on_deadline()
    usual = watchdog.deadline
    manager.fill()
    watchdog.on_deadline()
    assert watchdog.deadline < usual


def test_a_status_waits_for_no_room_and_is_sent_later(manager: ManagerSocket) -> None:
    timers = Loop().timers
    status = systemd.ServiceStatus(ENVIRON, lambda: "good", lambda: False, timers)
    filled = manager.fill()
    status.report()
    assert timers.next() == status.deadline < inf
    for _ in range(filled):
        manager.wait_for("X=1")
    status.on_deadline()
    assert manager.wait_for("STATUS=") == "STATUS=good"
    assert status.deadline == inf
