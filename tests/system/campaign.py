"""How far the campaigns go, and the table of what they have found.

As a part of the tests each campaign is short. `make campaign` sets ACKD_CAMPAIGN=1: then each goes
the whole way, and tests/system/RESULTS.md is written anew.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from .accounts import Figures
from .machine import Machine

LONG = os.environ.get("ACKD_CAMPAIGN") == "1"
RESULTS = Path(__file__).with_name("RESULTS.md")
T = TypeVar("T")

_HEAD = """\
# What the campaigns found

Written by `make campaign`; run it to see for yourself. Each line is one campaign on one booted
Debian system:

{versions}

What clients have counted, beside what is in the journal afterwards. *Unknown* is what was sent and
has no reply, since the connection was lost or ackd killed. *Missing* are acknowledged payloads that
the journal does not have; *twice* those that it has more than once without saying so; *repeated*
those that are there again, marked with ACKD_REPEATED=1; *out of order* those before an earlier one
of their connection; *alien* what is recorded and was not sent so. Pauses are the longest that any
client waited for its next ack; *p99* is within what 99 of 100 acks came.

| campaign | Debian | sent | acknowledged | unknown | refused | reset | missing | twice | repeated \
| out of order | alien | longest pause | p99 | besides |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|
"""


def far(long: T, short: T) -> T:
    """Return what fits how far the campaigns go."""
    return long if LONG else short


@dataclass
class Results:
    """The lines of the table."""

    rows: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, machine: Machine, campaign: str, figures: Figures, besides: str = "") -> None:
        """Add a line, and show it."""
        release = machine.release.value
        if release not in self.versions:
            self.versions[release] = _versions(machine)
        f = figures
        counts = (
            *(f.sent, f.acknowledged, f.unknown, f.refused, f.reset, f.missing, f.twice),
            *(f.repeated, f.out_of_order, f.alien),
        )
        times = (f"{f.longest_pause:.3f} s", f"{f.p99 * 1000:.1f} ms")
        cells = (campaign, release, *(f"{count:,}" for count in counts), *times, besides)
        self.rows.append(f"| {' | '.join(cells)} |")
        print(self.rows[-1])

    def write(self) -> None:
        """Write the table."""
        versions = "\n".join(f"- {version}" for version in sorted(self.versions.values()))
        RESULTS.write_text(_HEAD.format(versions=versions) + "\n".join(sorted(self.rows)) + "\n")


def _versions(machine: Machine) -> str:
    def ask(command: str) -> str:
        return machine.run("sh", "-c", command).stdout.strip()

    systemd = ask("systemctl --version | awk 'NR == 1 { print $2 }'")
    return (
        f"{machine.release.value}: systemd {systemd}, {ask('python3 --version')},"
        f" Linux {ask('uname -r')}, {os.cpu_count()} processors"
    )
