"""A run from the command line: whatever its workers do, what was measured is kept and the rest goes on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest
from typer.testing import CliRunner

from suite import cli
from suite.bench.budget import Paces
from suite.bench.tasks import Comparison, Examination, Task
from suite.core import exits, store
from suite.core.errors import UserError
from suite.core.records import Finding, Measurement, Record, Skip
from suite.core.workloads import WORKLOADS
from tests import warm

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
PLANTED = Path(__file__).with_name("planted.py")


def run_all(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return warm.run("run_all.py", *arguments)


def refusal(*arguments: str | Path) -> str:
    """Why a command is refused before any work: what main() prints as one line, with exit 2."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("suite.execution.guest.warm_up", lambda **_: None)
        result = CliRunner().invoke(cli.app, list(map(str, arguments)))
    assert isinstance(result.exception, UserError), result.exception
    return str(result.exception)


def timed(records: list[Record]) -> set[str]:
    return {item.variant for item in records if isinstance(item, Measurement) and item.quantity == "latency"}


SHORT = ("--workload", "tiny", "--phase", "forward", "--budget", "14")


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, list[Record], str]:
    folder = tmp_path_factory.mktemp("failures") / "run"
    names = ["sound", "segfault", "hang", "hunger", "kill", "exit", "timer", "raise", "nan", "mode", "mode+bf16"]
    done = run_all(
        "run", *(f"planted_{name}" for name in names), "--with", PLANTED, *SHORT,
        "--probe", "timing", "--probe", "agreement", "--timeout", "10", "--out", folder,
    )  # fmt: skip
    return done.returncode, store.read(folder), done.stdout + done.stderr


@pytest.mark.parametrize(
    ("name", "cause", "reason"),
    [
        ("planted_segfault", "killed", "ended by SIGSEGV"),
        ("planted_hang", "timeout", "no end after 1"),
        ("planted_hunger", "memory", "out of memory"),
        ("planted_kill", "killed", "ended by SIGKILL"),
        ("planted_exit", "error", "SystemExit: 0"),
        ("planted_raise", "error", "RuntimeError: planted"),
    ],
)
def test_each_way_to_fail_is_a_record_of_its_own_kind(
    failures: tuple[int, list[Record], str], name: str, cause: str, reason: str
) -> None:
    skips = [item for item in failures[1] if isinstance(item, Skip) and item.variant == name]
    assert len(skips) == 2, "one for timing, one for agreement"
    assert {skip.cause for skip in skips} == {cause}
    assert all(skip.reason.startswith(reason) for skip in skips), skips


def test_a_timer_that_strikes_later_is_blamed_on_whoever_set_it(failures: tuple[int, list[Record], str]) -> None:
    skips = [item for item in failures[1] if isinstance(item, Skip) and item.reason.startswith("ended by SIGALRM")]
    # the agreement may be through before it strikes
    assert [skip.variant for skip in skips] in (["planted_timer"], ["planted_timer"] * 2)


def test_no_other_cell_is_lost_and_the_exit_code_says_what_matters_most(
    failures: tuple[int, list[Record], str],
) -> None:
    code, records, output = failures
    assert timed(records) >= {"parallel", "planted_sound", "planted_nan", "planted_mode"}
    assert code == exits.INCORRECT, output  # NaN is worse than a crash
    broken = {item.variant for item in records if isinstance(item, Finding) and item.verdict == "broken"}
    assert broken == {"planted_nan"}
    assert not [item for item in records if isinstance(item, Skip) and item.variant in ("parallel", "planted_sound")]


def test_a_comparison_is_measured_again_without_what_broke_it(failures: tuple[int, list[Record], str]) -> None:
    records = failures[1]
    (task,) = {item.task for item in records if item.variant == "planted_mode+bf16" and item.task.startswith("timing")}
    mine = [item for item in records if item.task == task]
    assert [item.variant for item in mine if isinstance(item, Skip)] == ["planted_mode+bf16"]
    assert timed(mine) == {"parallel", "planted_mode"}
    latencies = [item for item in mine if isinstance(item, Measurement) and item.quantity == "latency"]
    assert len(latencies) == 2, "nothing of the broken attempt is kept beside the second one"


def test_a_killed_run_leaves_no_worker_and_is_resumed_without_measuring_twice(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("run", "cross", "pool", "alternating", *SHORT, "--probe", "timing", "--probe", "cost", "--out", folder)
    process = warm.Process("run_all.py", *arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, session=True)
    deadline = time.monotonic() + 200
    while time.monotonic() < deadline:
        time.sleep(0.05)
        if (folder / store.FILE).exists() and len(store.finished(store.read(folder))) >= 3:
            break
    children = psutil.Process(process.pid).children(recursive=True)
    assert children
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    _, alive = psutil.wait_procs(children, timeout=20)
    assert [child for child in alive if child.status() != psutil.STATUS_ZOMBIE] == []

    with (folder / store.FILE).open("ab") as file:
        file.write(b'{"kind":"measurement","task":"torn')
    before = store.read(folder)
    done = run_all("--resume", folder)
    assert done.returncode == exits.DONE, done.stderr
    after = store.read(folder)
    ends = [item.task for item in after if isinstance(item, Measurement) and item.quantity == "task_time"]
    assert len(ends) == len(set(ends)), "no task was measured twice"
    assert store.finished(before) < store.finished(after)
    assert timed(after) == {"parallel", "cross", "pool", "alternating"}
    assert (folder / "REPORT.md").exists()

    described = json.loads((folder / "environment.json").read_text())
    described["torch"] = "1.0"
    (folder / "environment.json").write_text(json.dumps(described))
    assert "torch was 1.0 and is" in refusal("--resume", folder)


def test_an_interrupted_run_leaves_a_folder_that_can_be_read(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    arguments = ("run", "planted_hang", "--with", PLANTED, *SHORT, "--out", folder)
    said = (tmp_path / "said").open("w+")
    process = warm.Process("run_all.py", *arguments, stdout=subprocess.DEVNULL, stderr=said.fileno())
    deadline = time.monotonic() + 100
    while time.monotonic() < deadline and not ((folder / store.FILE).exists() and store.finished(store.read(folder))):
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    try:
        process.wait(60)
    finally:
        process.kill()
    with said:
        said.seek(0)
        error = said.read()
    assert process.returncode == exits.INTERRUPTED, error
    assert f"python run_all.py --resume {folder} --with {PLANTED}\n" in error, "the line works as it stands"
    assert (folder / "REPORT.md").exists()
    assert store.finished(store.read(folder)) == {"machine cpu"}


def test_no_names_of_people_or_hosts_are_in_the_environment(failures: tuple[int, list[Record], str]) -> None:
    from suite.bench import environment
    from suite.bench.request import Request

    text = json.dumps(environment.describe(Request(files=(str(PLANTED),))))
    assert str(Path.home()) not in text
    assert str(ROOT) not in text
    assert os.uname().nodename not in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("run", "paralel"), "did you mean 'parallel'?"),
        (("--workload", "huge"), "--workload huge: expected one of tiny"),
        (("--with", "nowhere.py"), "--with nowhere.py: there is no such file"),
        (("--shape", "batch=0"), "batch=0: expected a whole number from 1 to"),
        (("--set", "batch"), "--set batch: expected an axis and its values"),
        (("--device", "tpu"), "--device tpu: expected cpu, cuda, cuda:1, mps or xpu"),
        (("--resume", "nowhere"), "nowhere holds no environment.json"),
        (("--out", str(PLANTED)), "--out"),
    ],
)
def test_what_is_wrong_with_a_command_is_one_line_and_exit_2(arguments: tuple[str, ...], message: str) -> None:
    said = refusal(*arguments)
    assert message in said
    assert "\n" not in said


def test_what_is_left_is_foretold_from_what_came_and_sampling_goes_by_the_clock() -> None:
    paces = Paces()
    where: dict[str, Any] = {"workload": WORKLOADS["tiny"], "phase": "forward"}
    comparison = Task(what=Comparison(variants=("parallel",), **where), device="cpu", planned_s=60.0, sampling_s=20.0)
    examination = Task(what=Examination(probes=("memory",), variant="parallel", **where), device="cpu", planned_s=10.0)
    assert paces.expected(comparison) == comparison
    for _ in range(20):
        paces.learn(comparison, took_s=100.0, sampled_s=20.0)
    assert paces.expected(comparison).planned_s == pytest.approx(100.0, rel=0.01)
    assert paces.expected(examination).planned_s == pytest.approx(20.0, rel=0.01)


@pytest.mark.skipif(sys.platform == "win32", reason="has no limit on the size of files")
def test_a_disk_that_is_full_when_the_page_is_made_costs_the_page_alone(tmp_path: Path) -> None:
    # files of 12 KiB: the records fit, a plot does not
    arguments = (
        "run",
        "pool",
        "--workload",
        "tiny",
        "--phase",
        "forward",
        "--probe",
        "memory",
        "--out",
        tmp_path / "run",
    )
    command = [sys.executable, ROOT / "run_all.py", *arguments]
    limited = ["bash", "-c", 'ulimit -f 12 && exec "$@"', "bash", *command]
    done = subprocess.run(limited, cwd=ROOT, capture_output=True, text=True, timeout=250)
    assert done.returncode == exits.CELLS_FAILED, done.stderr
    assert "the page could not be written; every record is stored" in done.stderr
    assert "Traceback" not in done.stderr
    assert any(isinstance(item, Measurement) for item in store.read(tmp_path / "run"))
