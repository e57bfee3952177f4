"""Real clusters of two nodes on this machine: the same records as here, and nothing lost, whatever is killed."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from suite.core import compare, exits, store
from suite.core.records import Finding, Measurement, Skip

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
SLURM = Path(__file__).with_name("slurm.sh")
LONG_S = 900.0
"""Whatever is waited for; a busy machine takes its time to load torch."""

RAY = """
import sys, time
from ray.cluster_utils import Cluster
memory = {"object_store_memory": 100 * 2**20}
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False, **memory})
cluster.add_node(num_cpus=2, **memory)
print(cluster.address, flush=True)
sys.stdin.read()
cluster.shutdown()
"""

STUDY = """
import sys
from pathlib import Path
from suite.ablation import session
from suite.ablation.scene_dataset import SceneDataset
from suite.ablation.studies import Compared, Row, Study
from suite.bench.where import HERE, Where

pool = Row(variant="pool", width=16)
parallel = Row(variant="parallel", reads="words", width=16)
small = Study(name="core", question="", rows=(Compared(row=pool, parent=None), Compared(row=parallel, parent=pool)))
SceneDataset.batch, SceneDataset.at = 8, lambda root: SceneDataset(steps=3, examples=60)
session.RATES, session.FURTHER_RATES, session.study = (0.001, 0.01), 1, lambda name, **_: small
verb, folder, executor, at, file = sys.argv[1:]
where = Where(executor=executor, at=at or None, file=Path(file) if file else None)
if verb == "resume":
    sys.exit(session.start(session.Request(), resume=Path(folder), where=where))
sys.exit(session.start(session.Request(seeds=2, epochs=2), out=Path(folder), where=where))
"""


@dataclass(frozen=True, kw_only=True)
class Made:
    """A cluster that runs."""

    executor: str
    at: str = ""
    file: str = ""
    relay: str = ""
    """A pattern of the command lines of processes that relay a job on a node."""
    environment: dict[str, str]
    preempt: Callable[[], object] | None = None
    """Takes all nodes away for a job that is more urgent, where the scheduler does such things."""

    def study(self, verb: str, folder: Path) -> list[str]:
        return [sys.executable, "-c", STUDY, verb, str(folder), self.executor, self.at, self.file]

    def bench(self, *arguments: str) -> list[str]:
        """A run of the command line there."""
        at = ["--at", self.at] if self.at else []
        file = ["--cluster", self.file] if self.file else []
        return [sys.executable, "run_all.py", "run", *arguments, "--executor", self.executor, *at, *file]

    def begin(self, command: list[str], log: Path) -> subprocess.Popen[str]:
        with log.open("w") as file:
            return subprocess.Popen(
                command, cwd=ROOT, env=self.environment, text=True, stdout=file, stderr=file, start_new_session=True,
            )  # fmt: skip

    def end(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        return subprocess.run(command, cwd=ROOT, env=self.environment, capture_output=True, text=True, timeout=LONG_S)

    def relays(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if self.relay and re.search(self.relay, " ".join(process.info["cmdline"] or ()))
        ]

    def is_left(self) -> bool:
        """Whether a job is still on a node after a while."""
        patience = time.monotonic() + LONG_S
        while self.relays() and time.monotonic() < patience:
            time.sleep(0.2)
        return bool(self.relays())


@pytest.fixture(scope="module", params=["ray", "slurm"])
def cluster(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Made]:
    folder = tmp_path_factory.mktemp(request.param)
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("RAY_", "SLURM_"))}
    if request.param == "ray":
        if importlib.util.find_spec("ray") is None:
            pytest.skip("Ray is not installed: pip install .[ray]")
        clean["RAY_USAGE_STATS_ENABLED"] = "0"
        running = subprocess.Popen(
            [sys.executable, "-c", RAY], env=clean, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        assert running.stdin is not None
        assert running.stdout is not None
        with running.stdout, running.stdin:
            at = running.stdout.readline().strip()
            assert at
            yield Made(executor="ray", at=at, relay="ray::[a-z]", environment=clean)
        running.wait(LONG_S)
        return
    if importlib.util.find_spec("submitit") is None:
        pytest.skip("submitit is not installed: pip install .[slurm]")
    up = subprocess.run([SLURM, "up", folder], capture_output=True, text=True, timeout=LONG_S)
    if up.returncode == 77:
        pytest.skip(up.stdout.strip())
    assert up.returncode == 0, up.stdout + up.stderr
    file = folder / "cluster.toml"
    file.write_text('[slurm]\npartition = "main"\ncpus = 1\ntime = 30\nat_once = 4\n')
    clean["SLURM_CONF"] = str(folder / "slurm.conf")

    def preempt() -> None:
        urgent = ["sbatch", "-p", "urgent", "-N", "2", "--exclusive", "-o", os.devnull, "--wrap", "sleep 2"]
        subprocess.run(urgent, env=clean, check=True, capture_output=True)

    try:
        yield Made(
            executor="slurm", file=str(file), relay="[s]ubmitit.core._submit", environment=clean, preempt=preempt
        )  # fmt: skip
    finally:
        subprocess.run([SLURM, "down", folder], timeout=LONG_S)


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same study on this machine."""
    folder = tmp_path_factory.mktemp("here") / "run"
    done = subprocess.run(
        [sys.executable, "-c", STUDY, "start", folder, "local", "", ""], cwd=ROOT, capture_output=True, text=True,
        timeout=LONG_S,
    )  # fmt: skip
    assert done.returncode == exits.DONE, done.stderr
    return folder


def accuracies(folder: Path) -> dict[tuple[object, ...], float | None]:
    return {
        (record.task, *(record.details.get(key) for key in ("family", "evaluation", "learning_rate"))): record.value
        for record in store.read(folder)
        if isinstance(record, Measurement) and record.quantity in ("accuracy", "tuning_accuracy", "training_loss")
    }


def ended(folder: Path) -> list[Measurement]:
    records = store.read(folder) if (folder / store.FILE).exists() else []
    return [record for record in records if isinstance(record, Measurement) and record.quantity == "task_time"]


def at_work(cluster: Made) -> list[psutil.Process]:
    """What relays jobs now; waited for."""
    patience = time.monotonic() + LONG_S
    while not (relays := cluster.relays()) and time.monotonic() < patience:
        time.sleep(0.02)
    return relays


def until(folder: Path, tasks: int, process: subprocess.Popen[str], log: Path) -> None:
    patience = time.monotonic() + LONG_S
    while len(ended(folder)) <= tasks and time.monotonic() < patience:  # the description has one, too
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)


def test_accuracies_are_those_of_this_machine_although_jobs_were_preempted_and_a_relay_was_killed(
    cluster: Made, here: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    process = cluster.begin(cluster.study("start", folder), log)
    until(folder, 1, process, log)
    if cluster.preempt is not None:
        taken = {relay.pid for relay in at_work(cluster)}
        cluster.preempt()
        patience = time.monotonic() + LONG_S
        while taken & {relay.pid for relay in cluster.relays()} and time.monotonic() < patience:
            time.sleep(0.02)
    at_work(cluster)[-1].kill()
    assert process.wait(LONG_S) == exits.DONE, log.read_text()
    assert accuracies(folder) == accuracies(here)
    tasks = [record.task for record in ended(folder)]
    assert len(tasks) == len(set(tasks)), "every record arrived once"
    assert all(record.details.get("node") for record in ended(folder) if record.task.startswith("ablate scenes"))
    assert not (folder / "parts").exists() or not list((folder / "parts").glob("*.*"))


def test_a_head_that_was_killed_is_resumed_to_the_same_accuracies(cluster: Made, here: Path, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    process = cluster.begin(cluster.study("start", folder), log)
    until(folder, 2, process, log)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    # on Ray nothing of it lives on; a queue's jobs do, and are found again
    assert cluster.executor != "ray" or not cluster.is_left()
    done = cluster.end(cluster.study("resume", folder))
    assert done.returncode == exits.DONE, done.stderr
    assert accuracies(folder) == accuracies(here)
    tasks = [record.task for record in ended(folder)]
    assert len(tasks) == len(set(tasks))


def test_an_interrupt_cancels_what_is_on_the_nodes_and_says_how_to_go_on(cluster: Made, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    process = cluster.begin(cluster.study("start", folder), log)
    until(folder, 0, process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(LONG_S) == exits.INTERRUPTED, log.read_text()
    assert f"--executor {cluster.executor}" in log.read_text()
    assert not cluster.is_left()


GREEDY = """
import torch
from variants import register
from variants.pooling import Pool


@register("greedy")
class Greedy(Pool):
    source = "nobody's"

    def forward(self, batch):
        torch.empty(2**60)
        return super().forward(batch)
"""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a run found, but for the times."""

    cells: set[tuple[str, ...]]
    counted: dict[tuple[str, ...], float | None]
    judged: set[tuple[str, ...]]
    lost: set[tuple[str, ...]]


def measured(folder: Path) -> Measured:
    records = [record for record in store.read(folder) if record.task != "run"]
    numbers = [record for record in records if isinstance(record, Measurement) and record.variant]
    skips = [record for record in records if isinstance(record, Skip)]
    return Measured(
        cells={(it.variant, it.workload, it.phase, it.device, it.quantity) for it in numbers},
        counted={
            (it.variant, it.phase, it.quantity): it.value
            for it in numbers
            if it.quantity in ("peak_memory", "saved_for_backward")
        },
        judged={(it.variant, it.quantity, it.verdict) for it in records if isinstance(it, Finding)},
        lost={(it.variant, it.quantity, it.phase, it.cause) for it in skips},
    )


@pytest.fixture(scope="module")
def request_of_a_run(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    greedy = tmp_path_factory.mktemp("with") / "greedy.py"
    greedy.write_text(GREEDY)
    chosen = ["cross", "greedy", "--with", str(greedy), "--workload", "tiny", "--phase", "forward", "--device", "cpu"]
    return [*chosen, "--probe", "timing", "--probe", "masking", "--probe", "memory"]


@pytest.fixture(scope="module")
def measured_here(request_of_a_run: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("here") / "run"
    local = Made(executor="local", environment=dict(os.environ))
    done = local.end(local.bench(*request_of_a_run, "--out", str(folder)))
    assert done.returncode == exits.CELLS_FAILED, done.stdout + done.stderr
    return folder


@pytest.mark.timeout(2 * LONG_S)
def test_a_run_finds_what_it_finds_here_although_its_head_was_killed(
    cluster: Made, request_of_a_run: list[str], measured_here: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    process = cluster.begin(cluster.bench(*request_of_a_run, "--out", str(folder)), log)
    until(folder, 3, process, log)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    greedy = request_of_a_run[request_of_a_run.index("--with") + 1]
    done = cluster.end(cluster.bench("--resume", str(folder), "--with", greedy))
    assert done.returncode == exits.CELLS_FAILED, done.stdout + done.stderr
    there, here = measured(folder), measured(measured_here)
    assert there == here
    assert ("greedy", "memory") in {(variant, cause) for variant, _, _, cause in there.lost}, "it had its own end there"
    tasks = [record.task for record in ended(folder)]
    assert len(tasks) == len(set(tasks)), "every record arrived once"
    assert all(record.details.get("node") for record in ended(folder))
    # what rounds and processes differ by is in the intervals; half as slow again beside the anchor is none of it
    said = compare.compare(store.read(measured_here), store.read(folder), fail_above=0.5)
    assert {change.through for change in said.changes} >= {"anchor"}
    assert [change for change in said.changes if change.regressed] == []


def test_a_queue_that_lets_nothing_begin_says_why(tmp_path: Path, cluster: Made) -> None:
    if cluster.executor != "slurm":
        pytest.skip("Ray names no reason, and its nodes are chosen among those that live")
    file = tmp_path / "shut.toml"
    file.write_text('[slurm]\npartition = "shut"\nwait_s = 5\n')
    shut = Made(executor="slurm", file=str(file), environment=cluster.environment)
    done = shut.end(shut.study("start", tmp_path / "run"))
    assert done.returncode != exits.DONE
    assert "does not answer" in done.stderr
    assert "PartitionDown" in done.stderr
    queue = subprocess.run([str(shutil.which("squeue")), "-h"], env=shut.environment, capture_output=True, text=True)
    assert queue.stdout.strip() == ""
