"""The base systems that machines boot from: built once by mmdebstrap, kept in the user's cache."""

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
    # What python3-matplotlib needs to draw, beside itself.
    "python3-contourpy",
    "python3-cycler",
    "python3-dateutil",
    "python3-kiwisolver",
    "python3-numpy",
    "python3-packaging",
    "python3-pil",
    "python3-pyparsing",
)
# Unpacked only: all that it depends on, a compiler and SciPy among it, would be up to a gigabyte.
_UNPACKED = """--customize-hook=cd "$1/root" &&
    APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get download python3-matplotlib python-matplotlib-data &&
    for deb in *.deb; do dpkg -x "$deb" "$1" && rm "$deb" || exit; done"""

_MIRROR = "/srv/mirror"
# What makes a Debian mirror of the packages that are named in $PACKAGES and their dependencies.
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

_CONTROL = PROJECT / "debian" / "control"
_MAKEFILE = PROJECT / "Makefile"

# A build that is killed takes all that it has started with it, and its mounts are its own.
_ALONE = ("unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")


class Release(enum.Enum):
    """A Debian release that ackd supports; the value is its code name."""

    BOOKWORM = "bookworm"
    TRIXIE = "trixie"


class BuildError(Exception):
    """mmdebstrap could not build a base system; the text ends with its last output."""


def build_packages() -> tuple[str, ...]:
    """Return the packages that make the Debian package, as debian/control names them."""
    field = re.search(r"^Build-Depends:(.*(?:\n .*)*)", _CONTROL.read_text(), re.M)
    assert field
    return ("build-essential", *re.findall(r"^ ([^\s,]+)", field[1], re.M))


def run_packages() -> tuple[str, ...]:
    """Return the packages that ackd runs on in a checkout, as the Makefile names them."""
    variable = re.search(r"^RUN_PACKAGES\s*:=(.*)$", _MAKEFILE.read_text(), re.M)
    assert variable
    return tuple(variable[1].split())


@contextlib.contextmanager
def base_root(release: Release, tools: tuple[str, ...] = ()) -> Iterator[Path]:
    """Yield the directory of a release's base system, to be read only.

    `tools` are packages that it has besides. The first call builds it, which needs root and a
    Debian mirror; later ones need neither. A new recipe makes a new one, and removes older ones
    that no other run of the tests has in use. Raises `BuildError`.
    """
    family = f"{release.value}+tools" if tools else release.value
    with _cached(family, _recipe(release, tools)) as root:
        yield root


@contextlib.contextmanager
def minimal_root(release: Release) -> Iterator[Path]:
    """Yield the directory of a system that has git, make and ca-certificates besides the minimum.

    Its only mirror is a directory in it, with the packages that README's commands install: they
    need no network. Otherwise this is like `base_root`.
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
def _cached(family: str, recipe: tuple[str, ...]) -> Iterator[Path]:
    digest = hashlib.sha256("\0".join(recipe).encode()).hexdigest()[:12]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ackd-tests"
    cache.mkdir(parents=True, exist_ok=True)
    root = cache / f"{family}-{digest}"
    with contextlib.ExitStack() as in_use:
        with locked(cache / f".{family}.lock", fcntl.LOCK_EX):
            if not root.exists():
                _remove_unused(cache.glob(f"{family}-*"))
                _build(recipe, root)
            in_use.enter_context(locked(root, fcntl.LOCK_SH))
        yield root


def _recipe(release: Release, tools: tuple[str, ...]) -> tuple[str, ...]:
    # mmdebstrap copies this host's name into the system; tests that read _HOSTNAME want one name.
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
        said = (error.stderr or b"").decode(errors="replace")
        raise BuildError(f"{error}; it needs a Debian mirror:\n{said[-4000:]}") from None
    partial.rename(root)


def _remove_unused(roots: Iterable[Path]) -> None:
    for root in roots:
        with contextlib.suppress(BlockingIOError), locked(root, fcntl.LOCK_EX | fcntl.LOCK_NB):
            shutil.rmtree(root)


@contextlib.contextmanager
def locked(path: Path, operation: int) -> Iterator[None]:
    """Hold a lock, as flock(2) names it, on a directory or on a file that it makes."""
    flags = os.O_RDONLY if path.is_dir() else os.O_RDONLY | os.O_CREAT
    descriptor = os.open(path, flags, 0o600)
    try:
        fcntl.flock(descriptor, operation)
        yield
    finally:
        os.close(descriptor)
