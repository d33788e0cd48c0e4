"""A real ackd process for tests, on a free port, with its own journal socket."""

import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic

from ackd.records import Kind
from tests.support.journal_socket import DEADLINE, JournalSocket
from tests.support.manager_socket import ManagerSocket
from tests.support.peer import GREETING, Peer

COMMAND = (sys.executable, "-m", "ackd")


class Daemon:
    """A running ackd; `settings` is the text of its configuration.

    `port` is the port of its first listener.
    """

    def __init__(
        self,
        directory: Path,
        settings: str = "",
        options: tuple[str, ...] = (),
        prepare: Callable[[], None] | None = None,
        managed: bool = False,
        watchdog: bool = True,
        command: tuple[str, ...] = COMMAND,
    ) -> None:
        self.config = directory / "ackd.yaml"
        self.journal = JournalSocket(directory / "journal")
        self.manager = ManagerSocket(directory / "manager")
        manager = {"NOTIFY_SOCKET": str(self.manager.path)}
        manager |= {"WATCHDOG_USEC": "2000000"} if watchdog else {}
        self.configure(settings)
        where = ("--config", str(self.config), "--journal", str(self.journal.path))
        self.process = subprocess.Popen(
            [*command, *where, *options],
            stderr=subprocess.PIPE,
            preexec_fn=prepare,
            env={**os.environ, **(manager if managed else {})},
        )
        self.port = self.await_listening()

    def configure(self, settings: str) -> None:
        """Write the configuration; the default is a free port on loopback."""
        defaults = "" if "bind:" in settings else "bind: 127.0.0.1\n"
        defaults += "" if "port:" in settings else "port: 0\n"
        self.config.write_text(defaults + settings)

    def await_listening(self) -> int:
        """Wait until ackd logs its listeners; return the port of the first one."""
        listening = Kind.LISTENING.value.encode()
        # Not one that a process before had sent, and that this process has recorded again.
        message = self.journal.wait_for(
            lambda entry: entry["MESSAGE_ID"] == listening and "ACKD_REPEATED" not in entry
        )["MESSAGE"].decode()
        match = re.search(r":(\d+)( and | \(|$)", message)
        assert match, message
        return int(match[1])

    def peer(self) -> Peer:
        """Return a client that has read the greeting."""
        peer = Peer(self.port)
        peer.expect(GREETING)
        return peer

    def await_closed(self) -> None:
        """Wait until ackd accepts no more connections."""
        end = monotonic() + DEADLINE
        with contextlib.suppress(ConnectionError):
            while monotonic() < end:
                Peer(self.port).socket.close()
            raise AssertionError("ackd still accepts connections")

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for the end of the process; return the exit status."""
        return self.process.wait(DEADLINE)

    def stop(self) -> None:
        """Kill the process if it still runs, and close the sockets."""
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()
        self.journal.close()
        self.manager.close()
