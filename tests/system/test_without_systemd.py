"""A life without systemd, on each release."""

from .support.machine import Machine

# A root directory in which no systemd runs and no journal is, but a syslog daemon listens.
_PLAIN_CHROOT = """
set -eu
mkdir -p /plain
mount --bind / /plain
mount -t tmpfs tmpfs /plain/run
mount -t tmpfs tmpfs /plain/dev
mknod /plain/dev/null c 1 3
mount -t proc proc /plain/proc
exec chroot /plain sh -c "$1"
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


def plain_chroot(machine: Machine, command: str, *, check: bool = True) -> str:
    """Run a command where no systemd is; return what it says, both ways."""
    done = machine.run(
        "unshare", "--mount", "--net", "sh", "-c", _PLAIN_CHROOT, "sh", command, check=check
    )
    return done.stdout + done.stderr


def test_without_systemd_it_detaches_and_records_to_syslog(installed: Machine) -> None:
    installed.put("/usr/local/lib/syslog-test.py", _SYSLOG)
    said = plain_chroot(installed, "ip link set lo up; python3 /usr/local/lib/syslog-test.py")
    assert "Buffer: hello \\x1b[31m" in said
    assert "runs already as process" in said


def test_without_any_log_daemon_it_refuses_to_detach(installed: Machine) -> None:
    said = plain_chroot(installed, "ackd --detach; echo status $?")
    assert "start a syslog daemon" in said
    assert "status 1" in said
