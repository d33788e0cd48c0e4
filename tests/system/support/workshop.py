"""Builds the packages with `make deb`, in a clean Debian without a network, and not as root."""

import fcntl
import pickle
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.project import PROJECT

from .base_root import Release, build_packages, locked
from .machine import Machine, boot

TOOLS = ("git", "make", "lintian", "locales", *build_packages())
# The last commit with a single package: version 0.1.0, with its modules in /usr/share/ackd.
SINGLE_PACKAGE = "875dc98ca7c476c9f6db8794c715af37eb3c229c"
_UNTESTED = {"DEB_BUILD_OPTIONS": "nocheck"}
_AS_NOBODY = """
cd "$1" && umask "$2" && shift 2
HOME=/tmp exec setpriv --reuid=nobody --regid=nogroup --clear-groups -- "$@"
"""


@dataclass(frozen=True)
class Packages:
    """The packages of one version: the name and the content of each file, sorted."""

    files: tuple[tuple[str, bytes], ...]


@dataclass(frozen=True)
class Versions:
    """The packages to install, and those of an upgrade, which differ only in a higher version.

    `single` is the single package of version 0.1.0, None if this checkout has no history.
    """

    first: Packages
    next: Packages
    single: Packages | None


@dataclass(frozen=True)
class Workshop:
    """A booted system with the tools; `source` is an archive of this checkout at the boot."""

    machine: Machine
    source: bytes

    def make(
        self,
        name: str,
        *,
        source: bytes | None = None,
        suffix: str = "",
        umask: str = "022",
        env: Mapping[str, str] | None = None,
    ) -> tuple[str, Packages]:
        """Build the packages in a directory of this name; return their directory and the packages.

        `suffix` is added to their version; `source` is another archive than that of this checkout.
        """
        tree = f"/srv/{name}/checkout"
        self.machine.run("mkdir", "-p", tree)
        self.machine.run("tar", "-xC", tree, "--no-same-owner", input=source or self.source)
        self.machine.run("sed", "-i", rf"1s/)/{suffix})/", f"{tree}/debian/changelog")
        self.machine.run("chown", "-R", "nobody:nogroup", tree)
        self.run_as_nobody(tree, "git", "init", "--quiet")
        output = self.run_as_nobody(tree, "make", "deb", umask=umask, env=env)
        print(output[-6000:])
        return f"{tree}/dist", packages_in(self.machine, f"{tree}/dist")

    def run_as_nobody(
        self,
        directory: str,
        *command: str,
        umask: str = "022",
        env: Mapping[str, str] | None = None,
    ) -> str:
        """Run a command as the user nobody; return its output and its errors."""
        run = ("sh", "-c", _AS_NOBODY, "sh", directory, umask, *command)
        done = self.machine.run(*run, timeout=600, env=env)
        return done.stdout + done.stderr


@contextmanager
def open_workshop() -> Iterator[Workshop]:
    """Boot the newest release with the tools."""
    with boot(Release.TRIXIE, tools=TOOLS) as machine:
        yield Workshop(machine, source_archive())


def versions_in(directory: Path) -> Versions:
    """Return the packages from a directory; the first process builds them there.

    This build skips the tests, to save time.
    """
    kept = directory / "versions.pickle"
    with locked(directory / ".versions.lock", fcntl.LOCK_EX):
        if not kept.exists():
            kept.write_bytes(pickle.dumps(_make_versions()))
    versions: Versions = pickle.loads(kept.read_bytes())
    return versions


def _make_versions() -> Versions:
    single = _single_package_source()
    with open_workshop() as workshop:
        _, first = workshop.make("first", env=_UNTESTED)
        _, following = workshop.make("next", suffix="+next", env=_UNTESTED)
        before = workshop.make("single", source=single, env=_UNTESTED)[1] if single else None
    return Versions(first, following, before)


def packages_in(machine: Machine, dist: str) -> Packages:
    """Return the packages in a directory of a machine."""
    names = machine.run("sh", "-c", f"cd {dist} && ls *.deb").stdout.split()
    return Packages(tuple((name, _read(machine, f"{dist}/{name}")) for name in sorted(names)))


def _read(machine: Machine, path: str) -> bytes:
    return machine.run("cat", path).stdout.encode(errors="surrogateescape")


def _single_package_source() -> bytes | None:
    """Return the source of the single package; a shallow clone or an archive has no such commit."""
    archive = ("git", "archive", SINGLE_PACKAGE)
    done = subprocess.run(archive, cwd=PROJECT, capture_output=True)
    return done.stdout if done.returncode == 0 else None


def source_archive() -> bytes:
    """Return an archive of this checkout's files, committed or not, without ignored files."""
    files = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    listed = subprocess.run(files, cwd=PROJECT, stdout=subprocess.PIPE, check=True).stdout
    pack = ("tar", "-c", "--null", "--verbatim-files-from", "--files-from=-")
    return subprocess.run(
        pack, cwd=PROJECT, input=listed, stdout=subprocess.PIPE, check=True
    ).stdout
