"""The disk's content of a virtual machine: a Debian with ackd from its packages."""

from pathlib import Path

from tests.system.support.base_root import Release
from tests.system.support.install import put_packages
from tests.system.support.machine import Machine, boot
from tests.system.support.workshop import Packages

from .machine import SHELL_PORT

# The ports of two services: ackd@disk has `durability: disk`, ackd@journal has the default.
DISK_PORT, JOURNAL_PORT = 10008, 10009
_SIZE = "4G"  # the image is sparse
# Room for all records of a test: records that journald deletes would seem lost.
_ROOM = "[Journal]\nStorage=persistent\nSystemMaxUse=2G\nSystemKeepFree=1M\n"
_UNITS = "/etc/systemd/system"
_SHELL_SOCKET = f"""\
[Socket]
ListenStream={SHELL_PORT}
Accept=yes

[Install]
WantedBy=sockets.target
"""
_SHELL_SERVICE = """\
[Service]
ExecStart=/bin/sh -s
StandardInput=socket
StandardOutput=socket
StandardError=socket
"""


def make_image(release: Release, packages: Packages, image: Path) -> None:
    """Write an image of a system with both services enabled."""
    with boot(release) as machine:
        machine.put("/etc/systemd/journald.conf.d/room.conf", _ROOM)
        _install_shell(machine)
        put_packages(machine, packages)
        machine.run("systemctl", "disable", "--now", "ackd")
        machine.put("/etc/ackd/journal.yaml", f"bind: 0.0.0.0\nport: {JOURNAL_PORT}\n")
        machine.run("systemctl", "enable", "ackd@journal")
        # The virtual machine begins a journal of its own.
        machine.run("sh", "-c", "rm -r /var/log/journal/*")
        machine.save_disk(image, _SIZE)


def _install_shell(machine: Machine) -> None:
    """Install a shell that runs what comes over a connection."""
    machine.put(f"{_UNITS}/power-shell.socket", _SHELL_SOCKET)
    machine.put(f"{_UNITS}/power-shell@.service", _SHELL_SERVICE)
    machine.run("systemctl", "enable", "power-shell.socket")
