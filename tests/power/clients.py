"""Clients of a virtual machine, and the comparison of their acks with its journal.

The clients run on this host, so they remember their acks when the machine loses its power.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

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
    machine: VirtualMachine, port: int, run: str, clients: int, depth: int
) -> Iterator[Load]:
    """Start clients that send to a port of the machine, without an end."""
    host = Host(prefix=(), environment=dict(os.environ))
    arguments = (run, LOOPBACK, str(machine.ports[port]), str(clients), str(depth), "0")
    with load_from(host, *arguments) as load:
        yield load


def compare_runs(machine: VirtualMachine, reports: dict[str, ClientReport]) -> dict[str, Audit]:
    """Compare the report of each run with the machine's journal."""
    machine.run("journalctl", "--sync")
    lines = machine.run("journalctl", *READ_PAYLOADS).stdout.splitlines()
    return {
        run: compare(run, report, [parsed_payloads(lines, run)]) for run, report in reports.items()
    }


def total(audits: dict[str, Audit]) -> Audit:
    """Return the sums of the counts, and the longest times."""
    values = {
        field.name: [getattr(audit, field.name) for audit in audits.values()]
        for field in fields(Audit)
    }
    return Audit(
        **{name: max(v) if isinstance(v[0], float) else sum(v) for name, v in values.items()}
    )
