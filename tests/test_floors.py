"""The floors of the house: imports run downward only."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import ackd

ROOT = Path(ackd.__file__).parent
# `ackd` itself, below all, is the version.
FLOORS = (
    "protocol config printable records counters datagram deadlines listener peers systemd control"
    " detach ctl.interrupt ctl.latency ctl.lines ctl.ranges ctl.run"
    " ctl.screen ctl.since ctl.status",
    "tail ctl.audit ctl.finding ctl.progress ctl.reading",
    "journal syslog terminal recorder handover client acceptor admission quota ctl.diagnosis"
    " ctl.figures ctl.report",
    "connection inheritance vigil ctl.contact ctl.entries ctl.failure ctl.link ctl.opening"
    " ctl.options ctl.plot ctl.probe_report ctl.retry",
    "turns ctl.log ctl.prober ctl.run_options ctl.send ctl.tally",
    "server ctl.hold ctl.load ctl.pinger ctl.sweep ctl.verify",
    "service ctl.bench_report ctl.ping_report ctl.probe",
    "daemon ctl.bench ctl.ping",
    "__main__ ctl",
    "ctl.__main__",
)
FLOOR = {name: floor for floor, names in enumerate(FLOORS) for name in names.split()}
MODULES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path != ROOT / "__init__.py"
}


def test_every_module_has_its_floor() -> None:
    assert FLOOR.keys() == MODULES.keys()


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_only_from_floors_below_its_own(name: str) -> None:
    below = {other for other, floor in FLOOR.items() if floor < FLOOR.get(name, 0)}
    assert set(imported(MODULES[name])) <= below


def imported(path: Path) -> Iterator[str]:
    """Return the modules of ours that a file imports, at its top or within a function."""
    for node in ast.walk(ast.parse(path.read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "name modules in full"
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            module = name.removeprefix("ackd.")
            if name.startswith("ackd.") and module != "__version__":
                yield module if module in MODULES else module.rpartition(".")[0]
