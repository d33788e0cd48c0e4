"""The base systems and kernels of the machines.

mmdebstrap builds each once; the user's cache keeps them.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from tests.support.project import PROJECT

PACKAGES = (
    "systemd",
    "systemd-sysv",
    "dbus",
    "iproute2",
    "netcat-openbsd",
    "python3",
    "python3-systemd",
    "python3-daemon",
    "python3-yaml",
    "python3-rich",
    "python3-pytest",
    "python3-hypothesis",
    "python3-shtab",
    "libfaketime",
    # The packages that python3-matplotlib needs for drawing.
    "python3-contourpy",
    "python3-cycler",
    "python3-dateutil",
    "python3-kiwisolver",
    "python3-numpy",
    "python3-packaging",
    "python3-pil",
    "python3-pyparsing",
)
# Only unpacked: with all dependencies, such as a compiler and SciPy, they take up to a gigabyte.
_UNPACKED = """--customize-hook=cd "$1/root" &&
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download python3-matplotlib python-matplotlib-data &&
    for deb in *.deb; do dpkg -x "$deb" "$1" && rm "$deb" || exit; done"""

_MIRROR = "/srv/mirror"
# Creates a Debian mirror with the packages of $PACKAGES and their dependencies.
_FILL_MIRROR = f"""
mkdir "$1{_MIRROR}" && cd "$1{_MIRROR}"
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
apt-get --yes --no-install-recommends --download-only install $PACKAGES
mv "$1"/var/cache/apt/archives/*.deb .
for deb in *.deb; do
    dpkg-deb --field "$deb"
    echo "Filename: ./$deb"
    stat --format='Size: %s' "$deb"
    echo "SHA256: $(sha256sum "$deb" | cut -d ' ' -f 1)"
    echo
done >Packages
echo 'deb [trusted=yes] file:{_MIRROR} ./' >"$1/etc/apt/sources.list"
"""

# Unpacks the kernel for virtual machines, and not the packages that it depends on.
_UNPACK_KERNEL = """
cd "$1"
export APT_CONFIG=$MMDEBSTRAP_APT_CONFIG
kernel=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: //p')
apt-get download "$kernel"
dpkg -x *.deb .
rm *.deb
"""

_CONTROL = PROJECT / "debian" / "control"
_MAKEFILE = PROJECT / "Makefile"

# If a build is killed, the kernel kills all its processes, and its mounts vanish.
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Release(enum.Enum):
    """A Debian release that ackd supports; the value is its code name."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"


# Log daemons that the tests try: their packages conflict, so each is in the system of one release.
LOG_DAEMONS = {Release.TRIXIE: ("rsyslog",), Release.BOOKWORM: ("syslog-ng-core",)}
# The load balancer that the tests try, and what makes its certificates.
BALANCER = ("haproxy", "openssl")
# What ackd-fleet(7) installs, and what the reload of HAProxy needs: minimal systems lack procps.
FLEET = ("systemd-journal-remote", *BALANCER, "socat", "procps")

# What reads metrics from a file, for Prometheus.
EXPORTER = ("prometheus-node-exporter",)

# What an administrator makes certificates with.
CERTIFICATE_TOOLS = ("openssl",)


class BuildError(Exception):
    """mmdebstrap could not build a base system; the text ends with its last output."""


def build_packages() -> tuple[str, ...]:
    """Return the packages that debian/control needs to build the Debian packages."""
    field = re.search(r"^Build-Depends:(.*(?:\n .*)*)", _CONTROL.read_text(), re.M)
    assert field
    return ("build-essential", *re.findall(r"^ ([^\s,]+)", field[1], re.M))


def run_packages() -> tuple[str, ...]:
    """Return the packages that the Makefile installs for `make run`."""
    variable = re.search(r"^RUN_PACKAGES\s*:=(.*)$", _MAKEFILE.read_text(), re.M)
    assert variable
    return tuple(variable[1].split())


@contextlib.contextmanager
def base_root(release: Release, tools: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the directory of a release's base system; callers must not write to it.

    `tools` are additional packages; the first of them is part of the system's name. The first call
    builds the system, which needs root and a Debian mirror; later calls need neither. A changed
    recipe builds a new system, and removes older ones that no other run of the tests uses. Raises
    `BuildError`.
    """
    family = "+".join((release.value, *tools[:1]))
    with _cached(family, _recipe(release, tools)) as root:
        yield root


@contextlib.contextmanager
def minimal_root(release: Release) -> Iterator[Path]:
    """Yield the directory of a minimal system with git, make and ca-certificates.

    Its only mirror is a directory inside it, with the packages that README's commands install, so
    those commands need no network. Otherwise like `base_root`.
    """
    packages = " ".join((*run_packages(), *build_packages()))
    recipe = (
        "mmdebstrap",
        "--variant=minbase",
        "--include=git,make,ca-certificates",
        f"--customize-hook=set -e; PACKAGES='{packages}'; {_FILL_MIRROR}",
        release.value,
    )
    with _cached(f"minimal-{release.value}", recipe) as root:
        yield root


@contextlib.contextmanager
def kernel_root(release: Release) -> Iterator[Path]:
    """Yield the directory of a release's unpacked kernel; otherwise like `base_root`."""
    unpack = f"--customize-hook=set -e; {_UNPACK_KERNEL}"
    recipe = ("mmdebstrap", "--variant=custom", unpack, release.value)
    with _cached(f"kernel-{release.value}", recipe) as root:
        yield root


def cache_directory() -> Path:
    """Return the tests' directory in the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ackd-tests"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


@contextlib.contextmanager
def _cached(family: str, recipe: tuple[str, ...]) -> Iterator[Path]:
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    cache = cache_directory()
    root = cache / f"{family}-{digest}"
    with contextlib.ExitStack() as in_use:
        with locked(cache / f".{family}.lock", fcntl.LOCK_EX):
            if not root.exists():
                _remove_unused(cache.glob(f"{family}-*"))
                _build(recipe, root)
            in_use.enter_context(locked(root, fcntl.LOCK_SH))
        yield root


def _recipe(release: Release, tools: tuple[str, ...]) -> tuple[str, ...]:
    # mmdebstrap would copy this host's name; the tests expect the same _HOSTNAME everywhere.
    return (
        "mmdebstrap",
        "--variant=minbase",
        f"--include={','.join((*PACKAGES, *tools))}",
        '--customize-hook=echo machine >"$1/etc/hostname"',
        _UNPACKED,
        release.value,
    )


def _build(recipe: tuple[str, ...], root: Path) -> None:
    partial = root.with_name(f"{root.name}.partial")
    command = ["setpriv", "--pdeathsig", "KILL", "--", *_ALONE, *recipe, str(partial)]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=1800)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        output = (error.stderr or b"").decode(errors="replace")
        raise BuildError(f"{error}; a build needs a Debian mirror:\n{output[-4000:]}") from None
    partial.rename(root)


def _remove_unused(roots: Iterable[Path]) -> None:
    for root in roots:
        with contextlib.suppress(BlockingIOError), locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(root)


@contextlib.contextmanager
def locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock of flock(2) on a directory, or on a file that is created if needed."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDONLY | os.O_CREAT
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
