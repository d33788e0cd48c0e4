"""A host for tests: a network namespace with an interface."""

import ctypes
import os
import re
import subprocess

CLONE_NEWNET = 0x40000000


def run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


class NetworkHost:
    """A network namespace with one interface, eth0."""

    def __init__(self, name: str) -> None:
        self.name = f"ackd-test-{os.getpid()}-{name}"
        run("ip", "netns", "add", self.name)

    def remove(self) -> None:
        run("ip", "netns", "delete", self.name)

    def ip(self, *arguments: str) -> None:
        run("ip", "-netns", self.name, *arguments)

    def move_in(self) -> None:
        """Move the calling process into the namespace, setns(2)."""
        with open(f"/run/netns/{self.name}") as namespace:
            if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), CLONE_NEWNET):
                raise OSError(ctypes.get_errno(), "setns")

    def await_retransmission(self) -> None:
        """Wait until the host has retransmitted a TCP segment."""
        command = (*self.shell, "cat", "/proc/net/snmp")
        retransmitted = 0
        while not retransmitted:
            names, numbers = re.findall(
                "^Tcp: (.*)", subprocess.check_output(command, text=True), re.M
            )
            retransmitted = int(
                dict(zip(names.split(), numbers.split(), strict=True))["RetransSegs"]
            )

    @property
    def shell(self) -> tuple[str, ...]:
        """The prefix of a command that runs on this host."""
        return ("ip", "netns", "exec", self.name)
