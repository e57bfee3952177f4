"""The command line is what people and scripts rely on: its flags are frozen, and help is instant."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FLAGS = {
    "variants", "--workload", "--preset", "--shape", "--set", "--phase", "--device", "--threads", "--probe", "--with",
    "--out", "--resume", "--budget", "--timeout", "--largest-batch", "--json", "--quiet",
}  # fmt: skip


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_flags_of_run_are_frozen() -> None:
    found = json.loads(
        python(
            "import json, typer, run_all\n"
            "command = typer.main.get_command(run_all.app).commands['run']\n"
            "print(json.dumps([option.opts[0] for option in command.params]))"
        )
    )
    assert set(found) == FLAGS


def test_help_imports_nothing_that_takes_long() -> None:
    heavy = json.loads(
        python(
            "import json, sys\n"
            "import run_all\n"
            "sys.argv = ['run_all.py', '--help']\n"
            "try:\n"
            "    run_all.app(prog_name='run_all.py')\n"
            "except SystemExit:\n"
            "    pass\n"
            "libraries = ('torch', 'numpy', 'pandas', 'scipy', 'matplotlib', 'seaborn')\n"
            "print(json.dumps([name for name in libraries if name in sys.modules]))"
        ).splitlines()[-1]
    )
    assert heavy == []


@pytest.mark.parametrize(("error", "code"), [("UserError", 2), ("ValueError", 70), ("KeyError", 70)])
def test_only_what_the_user_can_mend_counts_as_a_wrong_command(error: str, code: int) -> None:
    program = f"""
from suite import cli
from suite.errors import UserError
def fail(**_):
    raise {error}("the message")
cli.app = fail
cli.main()
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert ended.returncode == code
    assert ("Traceback" in ended.stderr) == (code == 70)
    assert ("please report it" in ended.stderr) == (code == 70)
    assert "the message" in ended.stderr
