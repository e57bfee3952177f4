"""The command line is what people and scripts rely on: its flags are frozen, and help is instant."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

import suite
from suite import cli
from suite.core import exits
from suite.core.errors import UserError
from suite.core.records import Measurement, Record
from tests import warm
from variants import mechanisms

ROOT = Path(__file__).parents[2]
FLAGS = {
    "variants", "--workload", "--preset", "--shape", "--set", "--phase", "--device", "--threads", "--probe", "--with",
    "--out", "--resume", "--budget", "--timeout", "--largest-batch", "--json", "--quiet",
    "--executor", "--at", "--cluster",
}  # fmt: skip


def python(program: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=60
    ).stdout


def test_the_flags_of_run_are_frozen() -> None:
    command: Any = typer.main.get_command(cli.app)
    assert {option.opts[0] for option in command.commands["run"].params} == FLAGS


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
from suite.core.errors import UserError
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


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "--out", ""), "--out: expected a value"),
        (("run", "--out="), "--out: expected a value"),
        (("--preset", " "), "--preset: expected a value"),
        (("run", ""), "run: expected a value"),
        (("audit", ""), "audit: expected a value"),
        (("list", "--with", ""), "--with: expected a value"),
        (("run", "--set", "batch=1", "--set", "batch=2"), "--set batch is given twice"),
        (("run", "--workload", "tiny", "--set", "batch=8,08"), "is asked for twice"),
        (("run", "--workload", "tiny", "--workload", "tiny"), "tiny is asked for twice"),
        (("run", "--set", "width=64", "--set", "image_width=32"), "width and image_width both set image_width"),
        (("run", "--shape", "batch=1,batch=2"), "gives batch twice"),
        (("run", "parallel", "parallel[hidden=none]"), "the variant parallel is given twice"),
        (("run", "--threads", "1,1"), "--threads 1 is given twice"),
        (("run", "--threads", "1,²"), "expected whole numbers of at least 1"),
        (("run", "--threads", "9" * 5000), "expected whole numbers of at least 1"),
        (("run", "--device", "cuda:²"), "expected a number, such as cuda:1"),
        (("run", "--device", f"cuda:{'9' * 5000}"), "expected a number, such as cuda:1"),
        (("run", "--phase", "forward", "--phase", "forward"), "--phase forward is given twice"),
        (("run", "--timeout", "0"), "--timeout 0: expected seconds above 0"),
        (("run", "--budget", "nan"), "--budget nan: expected seconds of at least 0"),
        (("audit", "parallel", "--timeout", "nan"), "--timeout nan: expected seconds above 0"),
        (("ablate", "--budget", "inf"), "--budget inf: expected seconds of at least 0"),
        (("compare", "a", "b", "--remeasure", "a", "b", "--timeout", "-1"), "--timeout -1: expected seconds above 0"),
        (("compare", "a", "b", "--remeasure", "a", "b", "--budget", "nan"), "--budget nan: expected seconds above 0"),
        (("run", "pool", "--workload", "tiny", "--preset", "cpu", "--budget", "9"), "--preset cpu has no effect"),
        (("selfcheck", "--trials", "0"), "--trials 0: expected at least 1"),
        (("selfcheck", "--trials", "3", "--full"), "--full has no effect here: --trials 3 says how many"),
        (("selfcheck", "masking", "--trials", "3", "--full"), "--full has no effect here: --trials 3 says how many"),
        (("selfcheck", "flops", "estimate", "--trials", "3"), "--trials has no effect here: flops and estimate"),
        (("selfcheck", "flops", "--full"), "--full has no effect here"),
        (("selfcheck", "--write"), "--write has no effect here"),
        (("selfcheck", "masking", "--device", "cpu"), "--device has no effect here"),
        (("selfcheck", "masking", "--write", "--full"), "--full has no effect here"),
        (("selfcheck", "masking", "--out", "x", "--resume", "y"), "--out has no effect here"),
        (("selfcheck", "timing", "--resume", "y"), "--resume has no effect here"),
        (("compare", "a", "b", "--across-machines", "--budget", "3"), "--budget has no effect here"),
        (("ablate", "core", "--full"), "--full has no effect beside core"),
        (("ablate", "core", "core"), "the study core is asked for twice"),
        (("checkpoint", "dcn/stack", "x.pt", "--config", "["), "--config [: not JSON"),
        (("checkpoint", "dcn/stack", "x.pt", "--config", "3"), "expected a JSON object"),
        (("report",), "expected a run folder"),
    ],
)
def test_an_argument_that_would_change_nothing_is_refused_in_one_line(
    arguments: tuple[str, ...], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suite.execution.guest.warm_up", lambda **_: None)
    result = CliRunner().invoke(cli.app, list(arguments))
    assert isinstance(result.exception, UserError), result.exception
    assert message in str(result.exception)
    assert "\n" not in str(result.exception)


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied", "/somewhere/x"), OSError(28, "No space")])
def test_what_the_system_refuses_is_one_line(
    error: OSError, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert refused(error, monkeypatch) == 2
    assert capfd.readouterr().err.count("\n") == 1


def test_a_file_of_ours_that_is_missing_is_our_mistake(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert refused(FileNotFoundError(2, "No such file", str(ROOT / "suite" / "page.jinja")), monkeypatch) == 70
    assert "please report it" in capfd.readouterr().err


def refused(error: OSError, monkeypatch: pytest.MonkeyPatch) -> int:
    def app(**_: object) -> int:
        raise error

    monkeypatch.setattr(cli, "app", app)
    return cli._code([], False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("list", "--json"), 0),
        (("run", "nosuch", "--json"), 2),
        (("--json", "--version"), 2),
    ],
)
def test_a_program_gets_one_object_whatever_happens(arguments: tuple[str, ...], code: int) -> None:
    done = warm.run("run_all.py", *arguments)
    answer = json.loads(done.stdout)
    assert done.returncode == answer["exit_code"] == code, done.stderr
    assert ("error" in answer) == (code != 0)


def test_a_quiet_list_is_names_alone_which_a_script_can_ask_for() -> None:
    done = CliRunner().invoke(cli.app, ["list", "--quiet"])
    assert set(done.stdout.split()) == set(done.stdout.splitlines()) == set(mechanisms())


@pytest.mark.slow
def test_a_plan_of_everything_does_not_load_torchs_compiler() -> None:
    """It takes seconds, in which nothing is measured."""
    loaded = python(
        "import json, sys\n"
        "from suite.bench.estimate import Speed\n"
        "from suite.bench.plan import plan\n"
        "from suite.bench.request import Request, understand\n"
        "assert plan(understand(Request(device='cpu')), Speed()).tasks\n"
        "print(json.dumps([name for name in ('torch._dynamo', 'torch._inductor') if name in sys.modules]))"
    ).splitlines()[-1]
    assert json.loads(loaded) == []


def test_the_version_is_told_without_loading_torch() -> None:
    done = subprocess.run(
        [sys.executable, "run_all.py", "--version"], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.stdout.startswith(f"coattention {suite.__version__} (Python 3.")
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("records", "code"),
    [
        ([Measurement(task="m", device="cpu", quantity="gemm_time", unit="s", value=1.0)], 4),
        ([Measurement(task="a", variant="pool", quantity="parameters", unit="1", value=9.0)], 4),
        ([Measurement(task="a", variant="pool", quantity="tuning_accuracy", unit="1", value=0.5)], 4),
        ([Measurement(task="a", variant="pool", quantity="accuracy", unit="1", value=0.5)], 0),
        ([Measurement(task="t", variant="pool", quantity="latency", unit="s", samples=(1.0,), rounds=(0,))], 0),
        ([], 4),
    ],
)
def test_a_run_that_measured_no_variant_measured_nothing(records: list[Record], code: int) -> None:
    assert exits.code(records) == code
