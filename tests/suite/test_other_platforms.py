"""What needs no measuring runs where a platform lacks modules and signals, as Windows and macOS do."""

import shutil
from pathlib import Path

import pytest

from tests import warm

ROOT = Path(__file__).parents[2]
PROGRAM = """
import multiprocessing, signal, subprocess, sys
import psutil, torch  # these look after themselves, and so do the other libraries, which are loaded before it

class Hidden:
    names = {"resource", "fcntl", "pty", "termios", "tty", "grp", "pwd"}
    def find_spec(self, name, path=None, target=None):
        if name in self.names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

for name in Hidden.names:
    sys.modules.pop(name, None)
sys.meta_path.insert(0, Hidden())
for name in ("SIGHUP", "SIGKILL", "SIGXFSZ", "SIGCHLD"):
    delattr(signal, name)
import run_all
for command in (["list"], ["report", "run"], ["compare", "run", "run"]):
    sys.argv = ["run_all.py", *command]
    try:
        run_all.main()
    except SystemExit as end:
        assert not end.code, (command, end.code)
"""


@pytest.mark.slow
def test_list_report_and_compare_need_nothing_that_other_platforms_lack(tmp_path: Path) -> None:
    shutil.copytree(ROOT / "results/reference/xeon-amx/kernels", tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "plots")
    path = f"import sys; sys.path.insert(0, {str(ROOT)!r})\n"
    done = warm.run("-c", path + PROGRAM, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "REPORT.md").exists()
    assert (tmp_path / "run" / "against-run" / "COMPARISON.md").exists()
