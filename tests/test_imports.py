"""Who may import whom is part of the design; these tests read the imports."""

import ast
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def reaches(path: Path, *packages: str) -> list[str]:
    return sorted(name for name in imported(path) for package in packages if f"{name}.".startswith(f"{package}."))


@pytest.mark.parametrize("path", sorted(ROOT.glob("variants/**/*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_variants_do_not_know_the_suite(path: Path) -> None:
    assert reaches(path, "suite") == []


def at_the_top(path: Path, files: dict[str, Path]) -> set[str]:
    """The files of ours that a file imports when it is itself imported."""
    found = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in files else str(node.module) for name in names}
    return found & files.keys()


def test_no_files_of_variants_import_each_other_in_a_circle() -> None:
    files = {
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
        for path in ROOT.glob("variants/**/*.py")
    }
    TopologicalSorter({name: at_the_top(path, files) - {name} for name, path in files.items()}).prepare()


RECORDS_ONLY = [ROOT / "suite" / f"{name}.py" for name in ("records", "store", "stats")]


@pytest.mark.parametrize(
    "path",
    [path for path in [*RECORDS_ONLY, *sorted(ROOT.glob("suite/report/*.py"))] if path.exists()],
    ids=lambda path: path.stem,
)
def test_records_and_report_need_neither_torch_nor_variants(path: Path) -> None:
    assert reaches(path, "torch", "variants") == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("suite/probes/*.py")), ids=lambda path: path.stem)
def test_probes_neither_store_nor_report(path: Path) -> None:
    assert reaches(path, "suite.store", "suite.report") == []


@pytest.mark.parametrize("package", ["variants", "suite"])
def test_importing_a_package_changes_nothing_in_the_process(package: str) -> None:
    program = f"""
import os, torch
def state():
    return (
        dict(os.environ), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.get_default_dtype(), torch.cuda.is_initialized(),
    )
before = state()
import {package}
assert state() == before
"""
    subprocess.run([sys.executable, "-c", program], check=True, cwd=ROOT)
