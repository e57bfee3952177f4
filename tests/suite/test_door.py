"""What cannot run here is said in one line, and before anything is loaded."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from suite.core import errors, exits

ROOT = Path(__file__).parents[2]


def after(*lines: str, command: str = "list") -> subprocess.CompletedProcess[str]:
    """`run_all.py` in a process in which the lines have run before."""
    program = "\n".join(["import runpy, sys", *lines, f"sys.argv = ['run_all.py', *{command.split()}]",
                         "runpy.run_path('run_all.py', run_name='__main__')"])  # fmt: skip
    return subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=120)


@pytest.mark.parametrize(("version", "name"), [((3, 9, 6, "final", 0), "3.9.6"), ((3, 10, 13, "final", 0), "3.10.13")])
def test_an_old_python_is_told_which_one_is_needed(version: tuple[object, ...], name: str) -> None:
    ended = after(f"sys.version_info = {version}")
    assert ended.returncode == exits.WRONG_COMMAND
    assert ended.stderr == (f"error: this is Python {name}: expected 3.11 or newer, such as a venv of python3.11\n")


def test_what_says_so_is_what_the_project_states_and_can_be_read_by_an_old_python() -> None:
    from suite import door

    stated = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert stated == ">=" + ".".join(map(str, door._OLDEST))
    for name in ("run_all.py", "suite/__init__.py", "suite/door.py"):
        tree = ast.parse((ROOT / name).read_text(), feature_version=(3, 7))
        notes = [node.annotation for node in ast.walk(tree) if isinstance(node, ast.arg | ast.AnnAssign)]
        notes += [node.returns for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        newer = [note for note in notes if note is not None and not isinstance(note, ast.Name | ast.Constant)]
        assert not newer, (name, [ast.unparse(note) for note in newer])  # such as int | None, or list[int]


@pytest.mark.parametrize("package", ["typer", "rich", "torch", "numpy"])
def test_a_missing_library_is_one_line(package: str) -> None:
    ended = after(f"sys.modules[{package!r}] = None")  # as where it is not installed
    assert ended.returncode == exits.WRONG_COMMAND
    assert ended.stderr.startswith(f"error: {package} is not installed: pip install -e .")
    assert ended.stderr.count("\n") == 1


@pytest.mark.parametrize("name", ["", "suite.nowhere", "variants.nowhere", "json.nowhere"])
def test_a_part_that_we_alone_can_have_misnamed_is_no_missing_library(name: str) -> None:
    assert errors.not_installed(ModuleNotFoundError(name=name)) is None
