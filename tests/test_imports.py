"""Who may import whom is part of the design; these tests read the imports."""

import ast
from functools import cache
from graphlib import TopologicalSorter
from itertools import pairwise
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[1]


@cache
def nodes(path: Path) -> list[ast.AST]:
    return list(ast.walk(ast.parse(path.read_text())))


def imported(path: Path) -> set[str]:
    names: set[str] = set()
    for node in nodes(path):
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


FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for package in ("suite", "variants")
    for path in ROOT.glob(f"{package}/**/*.py")
}


@cache
def imports_of(name: str) -> set[str]:
    """The files of ours that a file imports, wherever in it the import stands."""
    found = set()
    for node in nodes(FILES[name]):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= {name if name in FILES else str(node.module) for name in names}
    return (found & FILES.keys()) - {name}


def room(name: str) -> str:
    """A file beside the rooms is a room of its own; a package's own file is its door, and no room."""
    return ".".join(name.split(".")[:2])


def test_no_files_import_each_other_in_a_circle() -> None:
    TopologicalSorter({name: imports_of(name) for name in FILES}).prepare()


def test_no_rooms_import_each_other_in_a_circle() -> None:
    doors = {"suite", "variants"}
    rooms: dict[str, set[str]] = {}
    for name in FILES.keys() - doors:
        rooms.setdefault(room(name), set()).update({room(other) for other in imports_of(name) - doors} - {room(name)})
    TopologicalSorter(rooms).prepare()


def drawn() -> dict[str, set[str]]:
    """The arrows of the house's picture in `suite/README.md`: for each room, those that it may import."""
    below: dict[str, set[str]] = {}
    for line in (ROOT / "suite/README.md").read_text().partition("```mermaid")[2].partition("```")[0].splitlines():
        steps = [[name.strip() for name in step.split("&")] for step in line.split("-->")]
        for lower, upper in pairwise(steps):
            for name in upper:
                below.setdefault(name, set()).update(lower)
    return below


def test_the_picture_of_the_house_allows_every_import() -> None:
    below = drawn()
    assert below["selfcheck"] == {"bench"}

    def under(name: str) -> set[str]:
        return {name}.union(*map(under, below.get(name, ())))

    for name in FILES:
        here = "variants" if name.startswith("variants") else name.split(".")[1] if name != "suite" else "suite"
        if here in ("suite", "catalogue", "door"):
            continue  # doors: of the package, of what `list` prints, and of the program
        there = {other.split(".")[0] if other.startswith("variants") else room(other)[6:] for other in imports_of(name)}
        assert there - under(here) <= {"variants", "suite", "", "catalogue"}, name
        # the mechanisms are for whoever runs them, and for names: never for a page
        assert "variants" not in there or here != "report", name


def test_nobody_imports_the_self_check_but_the_command_line() -> None:
    importing = {name for name in FILES if any(room(other) == "suite.selfcheck" for other in imports_of(name))}
    assert {room(name) for name in importing} == {"suite.selfcheck", "suite.cli"}


BY_STRING = {
    "suite.bench.run": "what the first comparison needs, loaded while the machine would wait",
    "suite.bench.where": "an executor, which loads what only its cluster needs, so that a new one is a file",
    "suite.bench.worker": "a probe, which only the child that measures has to load; a new one is a file and a line",
    "suite.selfcheck.session": "a topic's file, named as the topic",
    "variants.found": "every mechanism, so that a new one is a file and no list knows it",
}


def test_every_import_by_string_has_its_reason() -> None:
    """It is one that the tests above cannot see."""
    by_string = {
        name
        for name, path in FILES.items()
        for node in nodes(path)
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] in ("import_module", "__import__")
    }
    assert by_string == BY_STRING.keys()


RECORDS_ONLY = [ROOT / "suite/core" / f"{name}.py" for name in ("records", "store", "stats")]


@pytest.mark.parametrize(
    "path",
    [path for path in [*RECORDS_ONLY, *sorted(ROOT.glob("suite/report/**/*.py"))] if path.exists()],
    ids=lambda path: path.stem,
)
def test_records_and_report_need_neither_torch_nor_variants(path: Path) -> None:
    assert reaches(path, "torch", "variants") == []


@pytest.mark.parametrize("path", sorted(ROOT.glob("suite/bench/probes/*.py")), ids=lambda path: path.stem)
def test_probes_neither_store_nor_report(path: Path) -> None:
    assert reaches(path, "suite.core.store", "suite.report") == []


@pytest.mark.slow
def test_importing_a_package_changes_nothing_in_the_process() -> None:
    program = """
import os, torch
def state():
    return (
        dict(os.environ), torch.get_num_threads(), torch.is_grad_enabled(),
        torch.get_default_dtype(), torch.cuda.is_initialized(),
    )
before = state()
import suite
assert state() == before, "suite"
import variants
assert state() == before, "variants"
"""
    warm.run("-c", program).check_returncode()
