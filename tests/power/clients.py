"""Clients of a virtual machine, and the comparison of their acks with its journal.

The clients run on this host, so they remember their acks when the machine loses its power.
"""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from tests.system.support.audit import (
    READ_PAYLOADS,
    Audit,
    Load,
    compare,
    load_from,
    parsed_payloads,
)
from tests.system.support.load_clients import ClientReport
from tests.system.support.machine import Host

from .machine import LOOPBACK, VirtualMachine


@contextmanager
def clients_of(
    machine: VirtualMachine, port: int, run: str, *, clients: int, depth: int, payloads: int = 0
) -> Iterator[Load]:
    """Start clients that send to a port of the machine: `load` of other machines."""
    host = Host(prefix=(), environment=dict(os.environ))
    numbers = map(str, (machine.ports[port], clients, depth, payloads))
    with load_from(host, run, LOOPBACK, *numbers) as load:
        yield load


def compare_runs(machine: VirtualMachine, reports: Mapping[str, ClientReport]) -> dict[str, Audit]:
    """Compare the clients' report of each run with the machine's journal."""
    machine.run("journalctl", "--sync")
    lines = machine.run("journalctl", *READ_PAYLOADS).stdout.splitlines()
    return {
        run: compare(run, report, [parsed_payloads(lines, run)]) for run, report in reports.items()
    }


def total(audits: Mapping[str, Audit]) -> Audit:
    """Return the sums of the counts, and the longest of the times."""

    def combined(name: str) -> Any:
        values = [getattr(audit, name) for audit in audits.values()]
        return max(values) if isinstance(values[0], float) else sum(values)

    return Audit(**{field.name: combined(field.name) for field in fields(Audit)})
