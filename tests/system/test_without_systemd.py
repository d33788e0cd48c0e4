"""ackd on a host without systemd, on each release."""

from .support.machine import Machine

# A root directory without systemd and without a journal.
_CHROOT = """
set -eu
mkdir -p /chroot
mount --bind / /chroot
mount -t tmpfs tmpfs /chroot/run
mount -t tmpfs tmpfs /chroot/dev
mknod /chroot/dev/null c 1 3
mount -t proc proc /chroot/proc
exec chroot /chroot sh -c "$1"
"""
_SYSLOG = """
import os, socket
log = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
log.bind("/dev/log")
log.settimeout(20)
assert os.system("ackd --detach --pidfile /run/ackd.pid") == 0
assert os.system("ackd --detach --pidfile /run/ackd.pid --port 10012") != 0
assert os.system("ackctl send 'hello \\x1b[31m'") == 0
line = ""
while "Buffer: " not in line:
    line = log.recv(65536).decode()
print(line)
pid = int(open("/run/ackd.pid").read())
os.kill(pid, 15)
while "stopped" not in line:
    line = log.recv(65536).decode()
"""


def run_without_systemd(machine: Machine, command: str, *, check: bool = True) -> str:
    """Run a command in that root directory; return its output and errors."""
    done = machine.run(
        "unshare", "--mount", "--net", "sh", "-c", _CHROOT, "sh", command, check=check
    )
    return done.stdout + done.stderr


def test_without_systemd_ackd_detaches_and_records_in_syslog(installed: Machine) -> None:
    installed.put("/usr/local/lib/syslog-test.py", _SYSLOG)
    output = run_without_systemd(
        installed, "ip link set lo up; python3 /usr/local/lib/syslog-test.py"
    )
    assert "Buffer: hello \\x1b[31m" in output
    assert "runs already as process" in output


def test_without_a_syslog_daemon_ackd_refuses_to_detach(installed: Machine) -> None:
    output = run_without_systemd(installed, "ackd --detach; echo status $?")
    assert "start a syslog daemon" in output
    assert "status 1" in output
