"""Installs ackd in a machine: from this checkout, or from the package."""

from tests.support.project import PROJECT

from .machine import MACHINE_ADDRESS, Machine
from .workshop import Packages

# A configuration that listens on the network of the client host.
BIND = f"bind: {MACHINE_ADDRESS}\n"
MODULES = "/usr/lib/python3/dist-packages/ackd"
UNITS = "/usr/lib/systemd/system"
_FILES = (
    ("packaging/sbin/ackd", "/usr/sbin/ackd", 0o755),
    ("packaging/bin/ackctl", "/usr/bin/ackctl", 0o755),
    ("packaging/seal", "/usr/share/ackd/seal", 0o755),
    ("packaging/sealed.conf", "/usr/share/ackd/sealed.conf", 0o644),
    ("packaging/own-journal", "/usr/share/ackd/own-journal", 0o755),
    ("packaging/own-journal.conf", "/usr/share/ackd/own-journal.conf", 0o644),
    ("packaging/durable", "/usr/share/ackd/durable", 0o755),
    ("packaging/durable.conf", "/usr/share/ackd/durable.conf", 0o644),
    ("packaging/tls", "/usr/share/ackd/tls", 0o755),
    ("packaging/switch.sh", "/usr/share/ackd/switch.sh", 0o644),
    ("packaging/rotate", "/usr/share/ackd/rotate", 0o755),
    ("packaging/ackd-rotate@.path", f"{UNITS}/ackd-rotate@.path", 0o644),
    ("packaging/ackd-rotate@.service", f"{UNITS}/ackd-rotate@.service", 0o644),
    ("packaging/ackd-metrics.service", f"{UNITS}/ackd-metrics.service", 0o644),
    ("packaging/ackd-metrics.timer", f"{UNITS}/ackd-metrics.timer", 0o644),
    ("packaging/ackd.service", f"{UNITS}/ackd.service", 0o644),
    ("packaging/ackd@.service", f"{UNITS}/ackd@.service", 0o644),
    ("packaging/ackd.socket", f"{UNITS}/ackd.socket", 0o644),
    ("packaging/ackd-status.socket", f"{UNITS}/ackd-status.socket", 0o644),
    ("packaging/ackd-status@.socket", f"{UNITS}/ackd-status@.socket", 0o644),
    ("packaging/ackd-status.service", f"{UNITS}/ackd-status.service", 0o644),
    ("packaging/ackd-status@.service", f"{UNITS}/ackd-status@.service", 0o644),
    ("packaging/ackd.catalog", "/usr/lib/systemd/catalog/ackd.catalog", 0o644),
    ("etc/ackd.yaml", "/etc/ackd.yaml", 0o644),
)
_TREES = (
    ("packaging/journald@ackd.conf.d", "/usr/lib/systemd/journald@ackd.conf.d"),
    *(
        (f"packaging/systemd-journald{unit}.d", f"{UNITS}/systemd-journald{unit}.d")
        for unit in ("@ackd.service", "-sync@ackd.service")
    ),
    ("examples", "/usr/share/doc/ackd/examples"),
    ("ackd", MODULES),
)


def install(machine: Machine) -> None:
    """Install this checkout's ackd at the paths of the package, and start nothing."""
    for source, target in _TREES:
        machine.copy_tree(PROJECT / source, target)
    for source, target, mode in _FILES:
        machine.put(target, (PROJECT / source).read_bytes(), mode)
    machine.run("python3", "-m", "compileall", "-q", MODULES)
    machine.run("journalctl", "--update-catalog")
    machine.run("systemctl", "daemon-reload")


def put_packages(machine: Machine, packages: Packages) -> str:
    """Install or upgrade the packages by apt, without a network; return the output of apt."""
    machine.run("rm", "-rf", "/root/dist")
    for name, content in packages.files:
        machine.put(f"/root/dist/{name}", content)
    # The administrator keeps an edited configuration; dpkg would ask.
    options = "--yes --no-install-recommends -o Dpkg::Options::=--force-confold"
    apt = f"apt-get install {options} /root/dist/*.deb"
    done = machine.run("sh", "-c", apt, env={"DEBIAN_FRONTEND": "noninteractive"})
    machine.run("apt-get", "check")
    return done.stdout + done.stderr
