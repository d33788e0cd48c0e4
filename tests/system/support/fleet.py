"""Three machines and a client host on one network, and the commands of ackd-fleet(7) for them."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.support.project import PROJECT

from .base_root import FLEET, Release
from .machine import INTERFACE, Host, Machine, boot

ADDRESSES = {
    name: f"192.168.150.{number}" for number, name in enumerate(("one", "two", "three"), 1)
}
NAMES = tuple(ADDRESSES)
CLIENT_ADDRESS = "192.168.150.4"
_BRIDGE = "bridge"
_PAGE = (PROJECT / "man" / "ackd-fleet.7.scd").read_text()


@dataclass(frozen=True)
class Block:
    """Commands of the page, and the machines on which an administrator types them."""

    machines: tuple[str, ...]
    commands: str


def manual(title: str) -> list[Block]:
    """Return the commands in a section of ackd-fleet(7), in the page's order."""
    text = re.split(rf"^#+ {re.escape(title)}$", _PAGE, flags=re.MULTILINE)[1]
    text = re.split(r"^#+ [A-Z0-9]", text, maxsplit=1, flags=re.MULTILINE)[0]
    found = re.findall(r"^\*On (.+?):\*\n\n```\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert found, f"ackd-fleet(7) has no commands under {title}"
    return [Block(_machines(place), commands.replace("\\\\", "\\")) for place, commands in found]


def _machines(place: str) -> tuple[str, ...]:
    """Return the names of the machines in the words of the page, such as `all three machines`."""
    return NAMES if place == "all three machines" else tuple(place.split(" and "))


@dataclass
class Fleet:
    """The machines by their names, and a client host; made by `boot_fleet`."""

    release: Release
    client: Host
    directory: Path
    machines: dict[str, Machine] = field(default_factory=dict)
    _running: dict[str, ExitStack] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The name of the systems in tables of results."""
        return self.release.value

    def run(self, *argv: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the first machine."""
        return self.machines["one"].run(*argv)

    def start(self, name: str) -> Machine:
        """Boot a machine, with the files that it had when it was killed."""
        files = self.directory / name
        files.mkdir(exist_ok=True)
        self._running[name] = ExitStack()
        plug = partial(self._plug, name)
        self.machines[name] = self._running[name].enter_context(
            boot(self.release, tools=FLEET, files=files, start_network=plug)
        )
        return self.machines[name]

    def kill(self, name: str) -> None:
        """Cut the link of a machine, which so closes no connection, and kill all its processes."""
        self.client.run("ip", "link", "delete", name)
        self._running.pop(name).close()
        del self.machines[name]

    def stop(self) -> None:
        """Kill all machines."""
        for name in list(self.machines):
            self.kill(name)

    def follow(self, title: str) -> str:
        """Run the commands of a section of the page; return the output of the last block."""
        output = ""
        for block in manual(title):
            output = "".join(
                self.machines[name].run("sh", "-ec", block.commands).stdout
                for name in block.machines
            )
        return output

    def _plug(self, name: str, machine: Machine) -> None:
        """Connect a machine with the bridge, as soon as it has a network namespace."""
        peer = ("peer", "name", INTERFACE, "netns", str(machine.init))
        self.client.run("ip", "link", "add", name, "type", "veth", *peer)
        self.client.run("ip", "link", "set", name, "master", _BRIDGE, "up")
        machine.put("/etc/hostname", f"{name}\n")
        machine.run("hostname", name)
        machine.run("ip", "address", "add", f"{ADDRESSES[name]}/24", "dev", INTERFACE)
        machine.run("ip", "link", "set", INTERFACE, "up")


@contextlib.contextmanager
def boot_fleet(release: Release, directory: Path) -> Iterator[Fleet]:
    """Yield three booted machines; their files are in a directory of this host until the end."""
    with _client_host() as client, ExitStack() as stack:
        fleet = Fleet(release, client, directory)
        stack.callback(shutil.rmtree, directory)
        stack.callback(fleet.stop)
        for name in NAMES:
            fleet.start(name)
        yield fleet


@contextlib.contextmanager
def _client_host() -> Iterator[Host]:
    """Yield a host whose network is the machines' bridge; it ends with the tests."""
    pipe = subprocess.PIPE
    alone = ("setpriv", "--pdeathsig", "KILL", "--", "unshare", "--net", "--")
    with subprocess.Popen([*alone, "sh", "-c", "echo ready; cat"], stdin=pipe, stdout=pipe) as it:
        assert it.stdout
        assert it.stdout.readline() == b"ready\n"
        enter = ("setpriv", "--pdeathsig", "KILL", "--", "nsenter", f"--net=/proc/{it.pid}/ns/net")
        client = Host(prefix=(*enter, "--"), environment=dict(os.environ))
        client.run("ip", "link", "add", _BRIDGE, "type", "bridge")
        client.run("ip", "address", "add", f"{CLIENT_ADDRESS}/24", "dev", _BRIDGE)
        client.run("ip", "link", "set", _BRIDGE, "up")
        try:
            yield client
        finally:
            for process in client.started:
                with process:
                    pass
            it.kill()
