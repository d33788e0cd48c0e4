"""python -m tests.bench [--quick]: measure, and write RESULTS.md and RESULTS.svg; or only print."""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from .load import LoadError
from .places import Booted, Place, booted, loopback
from .programs import HERE, build
from .progress import Step, progress
from .report import text
from .results import Results
from .works import GROWTH, MAIN, Work, run_once

_PROGRAMS = Path("build/bench")


@dataclass(frozen=True)
class Extent:
    """How much is measured: turns of each work, seconds of each run, and starts."""

    main: int
    growth: int
    seconds: float
    starts: int

    @property
    def plan(self) -> list[tuple[Work, int]]:
        """Each work, with its turns."""
        plan = [(work, self.main) for work in MAIN]
        return plan + [(work, self.growth) for work in GROWTH if self.growth]


FULL = Extent(main=3, growth=1, seconds=1.0, starts=21)
QUICK = Extent(main=1, growth=0, seconds=0.8, starts=5)


def main() -> int:
    """Measure; return 1 where this host can't do it."""
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="in a minute, and only print it")
    extent = QUICK if parser.parse_args().quick else FULL
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        print("bench: needs root, to boot a Debian system, and two CPUs", file=sys.stderr)
        return 1
    results, facts = measure(extent)
    if extent is QUICK:
        print(text(results, facts))
        return 0
    _write(results, facts)
    return 0


def measure(extent: Extent) -> tuple[Results, dict[str, str | int | float]]:
    """Return what was measured, and how."""
    results = Results()
    programs = build(_PROGRAMS)
    total = 1 + sum(len(work.servers) * turns for work, turns in extent.plan)
    with ExitStack() as stack:
        step = stack.enter_context(progress(total))
        machine = stack.enter_context(booted(programs))
        host = stack.enter_context(loopback(programs))
        step("starts")
        results.starts = machine.starts(extent.starts)
        results.sendings = machine.sendings(extent.starts)
        for work, turns in extent.plan:
            _run_in_turns(machine if work.recording else host, work, turns, extent, results, step)
        return results, _facts(extent, machine)


def _run_in_turns(
    place: Place, work: Work, turns: int, extent: Extent, results: Results, step: Step
) -> None:
    known = {server.name: not server.ackd or place.accepts(server) for server in work.servers}
    for turn in range(turns):
        for server in work.servers:
            step(f"{work.name}: {server.name}, turn {turn + 1}")
            if not known[server.name]:
                results.add(work, server.name, "not available")
                continue
            try:
                outcome = run_once(place, server, work.load, extent.seconds)
            except LoadError as error:
                results.add(work, server.name, f"failed: {error}")
            else:
                results.add(work, server.name, outcome)


def _facts(extent: Extent, machine: Booted) -> dict[str, str | int | float]:
    return {
        "machine": "; ".join((*_host(), machine.versions())),
        "times": extent.main
        if extent.main == extent.growth or not extent.growth
        else f"{extent.main} (growth: {extent.growth})",
        "seconds": extent.seconds,
        "starts": extent.starts,
    }


def _host() -> Iterator[str]:
    yield f"{os.cpu_count()} CPUs ({_processor()}), Linux {platform.release()}"
    compiler = subprocess.run(["gcc", "-dumpfullversion"], stdout=subprocess.PIPE, text=True)
    yield f"gcc {compiler.stdout.strip()}, Python {platform.python_version()}"
    yield ", ".join(f"{name} {version(name)}" for name in ("uvloop", "twisted", "gevent"))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _write(results: Results, facts: dict[str, str | int | float]) -> None:
    from .chart import draw  # slow, and not needed for a quick run

    (HERE / "RESULTS.md").write_text(text(results, facts))
    draw(results, HERE / "RESULTS.svg")
    print(f"bench: written to {HERE / 'RESULTS.md'}")


if __name__ == "__main__":
    sys.exit(main())
