"""The disk's content of a virtual machine: a Debian with ackd from its packages."""

from pathlib import Path

from tests.system.support.base_root import Release
from tests.system.support.install import put_packages
from tests.system.support.machine import Machine, boot
from tests.system.support.workshop import Packages

from .machine import SHELL_PORT

# The ports of two services: the acks of ackd wait for the disk, those of ackd@journal do not.
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
# A command may start a program in the background.
KillMode=process
"""
# Units that no test here needs. Without them the machine boots in half of the time.
_UNNEEDED = (
    *("dbus.service", "dbus.socket", "getty.target", "systemd-logind.service"),
    *("systemd-user-sessions.service", "systemd-sysusers.service", "systemd-random-seed.service"),
    *("systemd-update-utmp.service", "systemd-update-utmp-runlevel.service"),
    *("systemd-modules-load.service", "systemd-sysctl.service", "kmod-static-nodes.service"),
    *("systemd-tmpfiles-setup-dev.service", "systemd-tmpfiles-setup-dev-early.service"),
    *("dev-mqueue.mount", "dev-hugepages.mount", "run-lock.mount", "tmp.mount"),
    *("sys-kernel-debug.mount", "sys-kernel-tracing.mount", "sys-kernel-config.mount"),
    *("sys-fs-fuse-connections.mount", "proc-sys-fs-binfmt_misc.automount"),
    *("e2scrub_reap.service", "e2scrub_all.timer", "fstrim.timer"),
    *("apt-daily.timer", "apt-daily-upgrade.timer", "dpkg-db-backup.timer"),
)


def make_image(release: Release, packages: Packages, image: Path) -> None:
    """Write an image of a system that starts ackd, and has ackd@journal too."""
    with boot(release) as machine:
        machine.put("/etc/systemd/journald.conf.d/room.conf", _ROOM)
        _install_shell(machine)
        put_packages(machine, packages)
        machine.put("/etc/ackd/journal.yaml", f"bind: 0.0.0.0\nport: {JOURNAL_PORT}\n")
        machine.put("/etc/ackd.yaml", f"bind: 0.0.0.0\nport: {DISK_PORT}\n")
        machine.run("/usr/share/ackd/durable")
        machine.put("/etc/ackd.yaml", f"bind: 0.0.0.0\nport: {DISK_PORT}\ndurability: disk\n")
        machine.run("systemctl", "restart", "ackd")
        machine.run("systemctl", "stop", "ackd")
        machine.run("systemctl", "mask", *_UNNEEDED)
        # The virtual machine begins a journal of its own.
        machine.run("sh", "-c", "rm -r /var/log/journal/*")
        machine.save_disk(image, _SIZE)


def _install_shell(machine: Machine) -> None:
    """Install a shell that runs what comes over a connection."""
    machine.put(f"{_UNITS}/power-shell.socket", _SHELL_SOCKET)
    machine.put(f"{_UNITS}/power-shell@.service", _SHELL_SERVICE)
    machine.run("systemctl", "enable", "power-shell.socket")
