"""Measure ackd beside other servers; write RESULTS.md and RESULTS.svg. README.md is the method."""

import argparse
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

from .checkout import Checkout
from .load import LoadError
from .places import Booted, Place, booted, loopback
from .programs import HERE, build
from .progress import Step, progress
from .report import Conditions, comparison, text
from .results import Results
from .servers import ACKD, Server, before
from .workloads import GROWTH, MAIN, Workload, run_once

_PROGRAMS = Path("build/bench")


@dataclass(frozen=True)
class Plan:
    """How much is measured: rounds of each workload, seconds of each run, and starts."""

    main: int
    growth: int
    seconds: float
    starts: int
    before: Checkout | None = None
    only_ackd: bool = False

    @property
    def rounds(self) -> list[tuple[Workload, int]]:
        """Each workload, with the number of its rounds."""
        rounds = [(workload, self.main) for workload in MAIN]
        return rounds + [(workload, self.growth) for workload in GROWTH if self.growth]

    def servers(self, workload: Workload) -> list[Server]:
        """The servers of a workload; each ackd is followed by that of the other checkout."""
        servers = [s for s in workload.servers if s.ackd or not self.only_ackd]
        pairs = ((s, before(s)) if s.ackd and self.before else (s,) for s in servers)
        return [server for pair in pairs for server in pair]

    @property
    def steps(self) -> int:
        """The number of runs, and one step for the starts."""
        return 1 + sum(len(self.servers(workload)) * count for workload, count in self.rounds)


FULL = Plan(main=3, growth=1, seconds=1.0, starts=21)
QUICK = Plan(main=1, growth=0, seconds=0.8, starts=5)


def main() -> int:
    """Measure; return 1 where this host can't do it."""
    options = _options()
    plan = QUICK if options.quick else FULL
    plan = replace(
        plan,
        main=options.rounds or plan.main,
        before=options.before,
        only_ackd=options.only_ackd,
    )
    if os.geteuid() != 0 or (os.cpu_count() or 1) < 2:
        print("bench: needs root, to boot a Debian system, and two CPUs", file=sys.stderr)
        return 1
    results, conditions = measure(plan)
    if not plan.only_ackd:
        _report(results, conditions, options.quick)
    if plan.before:
        print(comparison(results, conditions))
    return 0


def _report(results: Results, conditions: Conditions, quick: bool) -> None:
    if quick:
        print(text(results, conditions))
    else:
        _write(results, conditions)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="take two minutes, and only print")
    parser.add_argument("--rounds", type=int, help="rounds of the main workloads")
    parser.add_argument(
        "--before",
        type=_checkout,
        default=os.environ.get("ACKD_BEFORE"),
        metavar="DIR",
        help="measure the ackd of another checkout too, and print the ratios new / before"
        " (default: $ACKD_BEFORE)",
    )
    parser.add_argument(
        "--only-ackd",
        action="store_true",
        help="with --before: leave out the other servers, and only print the ratios",
    )
    options = parser.parse_args()
    if options.only_ackd and not options.before:
        parser.error("--only-ackd needs --before")
    return options


def _checkout(directory: str) -> Checkout:
    checkout = Checkout(Path(directory).resolve())
    if not checkout.package.is_dir():
        raise argparse.ArgumentTypeError(f"{directory} is not a checkout of ackd")
    return checkout


def measure(plan: Plan) -> tuple[Results, Conditions]:
    """Return the figures, and how they were measured."""
    results = Results()
    programs = build(_PROGRAMS)
    with ExitStack() as stack:
        step = stack.enter_context(progress(plan.steps))
        machine = stack.enter_context(booted(programs, plan.before))
        host = stack.enter_context(loopback(programs, plan.before))
        step("starts")
        _measure_starts(machine, plan, results)
        for workload, rounds in plan.rounds:
            place = machine if workload.recording else host
            _run_rounds(place, workload, rounds, plan, results, step)
        return results, _conditions(plan, machine)


def _measure_starts(machine: Booted, plan: Plan, results: Results) -> None:
    servers = (ACKD, before(ACKD)) if plan.before else (ACKD,)
    for server in servers * plan.starts:
        results.starts.setdefault(server.name, []).append(machine.start(server))
    with machine.listening(ACKD):
        for server in servers * plan.starts:
            results.sends.setdefault(server.name, []).append(machine.send(server))


def _run_rounds(
    place: Place, workload: Workload, rounds: int, plan: Plan, results: Results, step: Step
) -> None:
    servers = plan.servers(workload)
    known = {server.name: not server.ackd or place.accepts(server) for server in servers}
    for number in range(1, rounds + 1):
        for server in servers if number % 2 else reversed(servers):
            step(f"{workload.name}: {server.name}, round {number}")
            if not known[server.name]:
                results.add(workload, server.name, "not available")
                continue
            try:
                outcome = run_once(place, server, workload.load, plan.seconds)
            except LoadError as error:
                results.add(workload, server.name, f"failed: {error}")
            else:
                results.add(workload, server.name, outcome)


def _conditions(plan: Plan, machine: Booted) -> Conditions:
    return Conditions(
        machine=(*_host(), f"Recording: {machine.versions()}", f"Durable: {machine.disk()}"),
        rounds=plan.main,
        growth_rounds=plan.growth,
        seconds=plan.seconds,
        starts=plan.starts,
    )


def _host() -> Iterator[str]:
    yield f"{os.cpu_count()} CPUs ({_processor()}), Linux {platform.release()}"
    compiler = subprocess.run(["gcc", "-dumpfullversion"], stdout=subprocess.PIPE, text=True)
    yield f"gcc {compiler.stdout.strip()}, Python {platform.python_version()}"
    yield ", ".join(f"{name} {version(name)}" for name in ("uvloop", "twisted", "gevent"))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _write(results: Results, conditions: Conditions) -> None:
    from .chart import draw  # slow to import, and a quick run draws nothing

    (HERE / "RESULTS.md").write_text(text(results, conditions))
    draw(results, HERE / "RESULTS.svg")
    print(f"bench: written to {HERE / 'RESULTS.md'}")


if __name__ == "__main__":
    sys.exit(main())
