"""Makes the package by `make deb`, in a clean Debian system without a network, and not as root."""

import fcntl
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.project import PROJECT

from .base_root import Release, build_packages, locked
from .machine import Machine, boot

TOOLS = ("git", "make", "lintian", "locales", *build_packages())
_UNTESTED = {"DEB_BUILD_OPTIONS": "nocheck"}
_BY_NOBODY = """
cd "$1" && umask "$2" && shift 2
HOME=/tmp exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"
"""


@dataclass(frozen=True)
class Package:
    """What `make deb` has made: a directory of the workshop's, and the package itself."""

    dist: str
    deb: bytes


@dataclass(frozen=True)
class Packages:
    """What is installed, and what an upgrade brings: the same under a higher version."""

    first: bytes
    next: bytes


@dataclass(frozen=True)
class Workshop:
    """A booted system with the tools; `source` is this checkout's, as it was when it booted."""

    machine: Machine
    source: bytes

    def make(
        self,
        name: str,
        *,
        suffix: str = "",
        umask: str = "022",
        env: Mapping[str, str] | None = None,
    ) -> Package:
        """Make the package in a directory of that name; `suffix` is added to its version."""
        tree = f"/srv/{name}/checkout"
        self.machine.run("mkdir", "-p", tree)
        self.machine.run("tar", "-xC", tree, "--no-same-owner", input=self.source)
        self.machine.run("sed", "-i", rf"1s/)/{suffix})/", f"{tree}/debian/changelog")
        self.machine.run("chown", "-R", "nobody:nogroup", tree)
        self.by_nobody(tree, "git", "init", "--quiet")
        said = self.by_nobody(tree, "make", "deb", umask=umask, env=env)
        print(said[-6000:])
        deb = self.machine.run("sh", "-c", f"cat {tree}/dist/ackd_*_all.deb").stdout
        return Package(f"{tree}/dist", deb.encode(errors="surrogateescape"))

    def by_nobody(
        self,
        directory: str,
        *command: str,
        umask: str = "022",
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command without any rights; return what it says, both ways."""
        run = ("sh", "-c", _BY_NOBODY, "sh", directory, umask, *command)
        done = self.machine.run(*run, timeout=600, env=env)
        return done.stdout + done.stderr


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    """Boot the workshop, with the newest release's tools."""
    with boot(Release.TRIXIE, tools=TOOLS) as machine:
        yield Workshop(machine, source_archive())


def packages_in(directory: Path) -> Packages:
    """Return the packages from a directory, in which the first process to come makes them.

    The tests of their build are not run: nobody waits for those.
    """
    files = [directory / f"{name}.deb" for name in ("first", "next")]
    with locked(directory / ".packages.lock", fcntl.LOCK_EX):
        if not files[-1].exists():
            with open_workshop() as workshop:
                for file, suffix in zip(files, ("", "+next"), strict=True):
                    made = workshop.make(file.stem, suffix=suffix, env=_UNTESTED)
                    file.write_bytes(made.deb)
    return Packages(*(file.read_bytes() for file in files))


def source_archive() -> bytes:
    """Return this checkout's files, committed or not, and nothing else of it."""
    files = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(files, cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout
    pack = ("tar", "-c", "--null", "--verbatim-files-from", "--files-from=-")
    return subprocess.run(
        pack, cwd=PROJECT, input=listed, stdout=subprocess.PIPE, check=True
    ).stdout
