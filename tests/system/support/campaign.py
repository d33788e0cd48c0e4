"""The length of the campaigns, and the table of their results.

`make test` runs short campaigns. `make campaign` sets ACKD_CAMPAIGN=1 and runs long ones, and
writes tests/system/RESULTS.md.
"""

import os
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import CompletedProcess
from typing import Protocol, TypeVar

from .audit import Audit

LONG = os.environ.get("ACKD_CAMPAIGN") == "1"
RESULTS = Path(__file__).parents[1] / "RESULTS.md"
T = TypeVar("T")

_HEAD = """\
# Results of the campaigns

Written by `make campaign`. Each row is one campaign in one booted Debian system:

{versions}

The system is a container, or a *virtual* machine of QEMU, whose power the campaign cuts. A *fleet*
is three containers, and its journal is that of the collector, see ackd-fleet(7).

The table compares the clients' counts with the journal.

- *unknown*: sent, without a reply: the connection was lost, or ackd was killed
- *reset*: connections that ended in a reset
- *missing*: acknowledged payloads that are not in the journal
- *duplicated*: payloads that are in the journal more than once, without ACKD_REPEATED=1
- *repeated*: payloads that are in the journal again, with ACKD_REPEATED=1
- *out of order*: payloads recorded after a later payload of their connection
- *foreign*: payloads in the journal that no client sent, or that ackd refused
- *longest pause*: the longest time between two acks of a client
- *p99*: the latency that 99 of 100 acks did not exceed

| campaign | Debian | sent | acknowledged | unknown | refused | reset | missing | duplicated \
| repeated | out of order | foreign | longest pause | p99 | notes |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|---|
"""


def long_or_short(long: T, short: T) -> T:
    """Return the value for the campaigns that run: long or short ones."""
    return long if LONG else short


class BootedSystem(Protocol):
    """A booted Debian system; `title` has its release."""

    @property
    def title(self) -> str: ...

    def run(self, *argv: str) -> CompletedProcess[str]: ...


@dataclass
class CampaignTable:
    """The rows of the table, and the versions of each Debian system."""

    rows: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)

    def add(self, system: BootedSystem, campaign: str, result: Audit, notes: str = "") -> None:
        """Add a row, and print it."""
        if system.title not in self.versions:
            self.versions[system.title] = _versions(system)
        counts = (
            result.sent,
            result.acknowledged,
            result.unknown,
            result.refused,
            result.reset,
            result.missing,
            result.duplicated,
            result.repeated,
            result.out_of_order,
            result.foreign,
        )
        times = (f"{result.longest_pause:.3f} s", f"{result.p99 * 1000:.1f} ms")
        cells = (campaign, system.title, *(f"{count:,}" for count in counts), *times, notes)
        self.rows.append(f"| {' | '.join(cells)} |")
        print(self.rows[-1])

    def write(self) -> None:
        """Write RESULTS.md."""
        versions = "\n".join(f"- {version}" for version in sorted(self.versions.values()))
        RESULTS.write_text(_HEAD.format(versions=versions) + "\n".join(sorted(self.rows)) + "\n")


def _versions(system: BootedSystem) -> str:
    def ask(command: str) -> str:
        return system.run("sh", "-c", command).stdout.strip()

    systemd = ask("systemctl --version | awk 'NR == 1 { print $2 }'")
    return (
        f"{system.title}: systemd {systemd}, {ask('python3 --version')},"
        f" Linux {ask('uname -r')}, {ask('nproc')} processors"
    )
