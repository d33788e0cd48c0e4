"""A fresh machine: a minimal Debian in a chroot, not booted, with the files of this checkout."""

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

from .base_root import Release, minimal_root
from .machine import ENVIRONMENT, Host, descendants
from .workshop import source_archive

CHECKOUT = "/srv/ackd"
_SCRIPT = Path(__file__).with_name("fresh.sh")
_YES = 'APT::Get::Assume-Yes "true";'
_ALONE = ("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child")


@contextlib.contextmanager
def fresh_machine(release: Release) -> Iterator[Host]:
    """Yield a host with this checkout's files in `CHECKOUT`, a git repository."""
    with minimal_root(release) as base:
        command = ["setpriv", "--pdeathsig", "KILL", "--", *_ALONE, "sh", str(_SCRIPT), str(base)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as process:
            assert process.stdout
            assert process.stdout.readline() == b"ready\n"
            init = next(descendants(process.pid))
            host = Host(
                prefix=("nsenter", f"--target={init}", "--all", "--root", "--wd", "--"),
                environment=ENVIRONMENT,
            )
            # The tests do not answer questions of apt.
            host.run("sh", "-c", f"echo '{_YES}' >/etc/apt/apt.conf.d/yes")
            host.run("mkdir", "-p", CHECKOUT)
            host.run("tar", "-xC", CHECKOUT, "--no-same-owner", input=source_archive())
            host.run("git", "init", "--quiet", CHECKOUT)
            yield host
