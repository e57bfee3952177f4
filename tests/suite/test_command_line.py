"""The command line is what people and scripts rely on: its flags are frozen, and help is instant."""

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FLAGS = {
    "variants", "--workload", "--preset", "--shape", "--set", "--phase", "--device", "--threads", "--probe", "--with",
    "--out", "--resume", "--budget", "--timeout", "--largest-batch",
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


def test_help_needs_neither_torch_nor_half_a_second() -> None:
    seconds, modules = json.loads(
        python(
            "import json, sys, time\n"
            "started = time.process_time()\n"
            "import run_all\n"
            "sys.argv = ['run_all.py', '--help']\n"
            "try:\n"
            "    run_all.app(prog_name='run_all.py')\n"
            "except SystemExit:\n"
            "    pass\n"
            "heavy = [name for name in ('torch', 'pandas', 'scipy', 'matplotlib') if name in sys.modules]\n"
            "print(json.dumps([time.process_time() - started, heavy]))"
        ).splitlines()[-1]
    )
    assert modules == []
    assert seconds < 0.5
