"""The programs in C: the reference server and the load generator."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
FLAGS = ("-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror")


@dataclass(frozen=True)
class Programs:
    """The paths of the compiled programs."""

    reference: Path
    load: Path


def build(directory: Path) -> Programs:
    """Compile both; needs gcc, libsystemd-dev and libssl-dev, and raises CalledProcessError."""
    directory.mkdir(parents=True, exist_ok=True)
    programs = Programs(directory / "reference", directory / "load")
    for program, libraries in (
        (programs.reference, ("-lsystemd",)),
        (programs.load, ("-lssl", "-lcrypto")),
    ):
        source = HERE / f"{program.name}.c"
        subprocess.run(["gcc", *FLAGS, "-o", program, source, *libraries], check=True)
    return programs
