"""DESIGN.md is true: the packages, what each may use, and the tests that hold the promises."""

import ast
import re
from collections import Counter
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import ackd
from tests.support.project import PROJECT, defined_tests

ROOT = Path(ackd.__file__).parent
MODULES = {
    ".".join(path.relative_to(ROOT.parent).with_suffix("").parts).removesuffix(".__init__"): path
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"  # these only start a program
}
# A row of DESIGN.md's table: | `package` | `package` `package` |
ROW = re.compile(r"^\| `([a-z.]+)` \|((?: `[a-z.]+`)*) *\|", re.MULTILINE)
DESIGN = (PROJECT / "DESIGN.md").read_text()
ALLOWED = {package: set(re.findall(r"`([a-z.]+)`", used)) for package, used in ROW.findall(DESIGN)}


def package_of(module: str) -> str:
    """Return the package that a module belongs to."""
    return module if MODULES[module].name == "__init__.py" else module.rpartition(".")[0]


def imported(module: str) -> Iterator[str]:
    """Yield the modules of ackd that a module imports, at its top or within a function."""
    for node in ast.walk(ast.parse(MODULES[module].read_text())):
        assert not (isinstance(node, ast.ImportFrom) and node.level), "name modules in full"
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in names:
            if name.startswith("ackd."):
                yield name if name in MODULES else name.rpartition(".")[0]


def test_the_design_has_each_package() -> None:
    assert ALLOWED.keys() == {package_of(module) for module in MODULES}


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_module_imports_only_what_its_package_may_use(module: str) -> None:
    package = package_of(module)
    others = {package_of(other) for other in imported(module)} - {package}
    assert others <= ALLOWED[package]


def test_packages_use_only_packages_below() -> None:
    list(TopologicalSorter(ALLOWED).static_order())  # raises CycleError


def test_no_module_imports_itself_by_way_of_others() -> None:
    graph = {module: set(imported(module)) - {module} for module in MODULES}
    list(TopologicalSorter(graph).static_order())


def test_each_test_that_the_design_names_exists() -> None:
    named = set(re.findall(r"`(test_\w+)`", DESIGN))
    assert named
    assert named <= defined_tests()


@pytest.mark.parametrize("path", sorted(set(re.findall(r"`((?:ackd|tests)/[\w/.]+)`", DESIGN))))
def test_each_file_that_the_design_names_exists(path: str) -> None:
    # ackd's modules may be installed elsewhere than the tests.
    parent = ROOT.parent if path.startswith("ackd/") else PROJECT
    assert (parent / path).exists()


def test_no_two_classes_have_the_same_name() -> None:
    names = Counter(
        node.name
        for path in MODULES.values()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []
