"""Real clusters of two nodes on this machine: the same records as here, and nothing lost, whatever is killed."""

import importlib.util
import os
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

from suite.core import exits, store
from suite.core.records import Measurement

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
    """In the command line of the processes that relay a job on a node."""
    environment: dict[str, str]
    preempt: Callable[[], object] | None = None
    """Takes all nodes away for a job that is more urgent, where the scheduler does such things."""

    def study(self, verb: str, folder: Path) -> list[str]:
        return [sys.executable, "-c", STUDY, verb, str(folder), self.executor, self.at, self.file]

    def start(self, folder: Path, log: Path) -> subprocess.Popen[str]:
        with log.open("w") as file:
            return subprocess.Popen(
                self.study("start", folder), cwd=ROOT, env=self.environment, text=True, stdout=file, stderr=file,
                start_new_session=True,
            )  # fmt: skip

    def relays(self) -> list[psutil.Process]:
        return [
            process
            for process in psutil.process_iter(["cmdline"])
            if self.relay in " ".join(process.info["cmdline"] or ()) and process.pid != os.getpid()
        ]


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
            yield Made(executor="ray", at=at, relay="ray::ablate", environment=clean)
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
            executor="slurm", file=str(file), relay="submitit.core._submit", environment=clean, preempt=preempt
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


def until(folder: Path, trainings: int, process: subprocess.Popen[str], log: Path) -> None:
    patience = time.monotonic() + LONG_S
    while len(ended(folder)) <= trainings and time.monotonic() < patience:  # the description has one, too
        assert process.poll() is None, log.read_text()
        time.sleep(0.2)


def test_accuracies_are_those_of_this_machine_although_jobs_were_preempted_and_a_relay_was_killed(
    cluster: Made, here: Path, tmp_path: Path
) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    process = cluster.start(folder, log)
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
    process = cluster.start(folder, log)
    until(folder, 2, process, log)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if cluster.executor == "ray":  # nothing of it lives on; a queue's jobs do, and are found again
        patience = time.monotonic() + LONG_S
        while cluster.relays() and time.monotonic() < patience:
            time.sleep(0.2)
        assert cluster.relays() == []
    done = subprocess.run(
        cluster.study("resume", folder), cwd=ROOT, env=cluster.environment, capture_output=True, text=True,
        timeout=LONG_S,
    )  # fmt: skip
    assert done.returncode == exits.DONE, done.stderr
    assert accuracies(folder) == accuracies(here)
    tasks = [record.task for record in ended(folder)]
    assert len(tasks) == len(set(tasks))


def test_an_interrupt_cancels_what_is_on_the_nodes_and_says_how_to_go_on(cluster: Made, tmp_path: Path) -> None:
    folder, log = tmp_path / "run", tmp_path / "log"
    process = cluster.start(folder, log)
    until(folder, 0, process, log)
    process.send_signal(signal.SIGINT)
    assert process.wait(LONG_S) == exits.INTERRUPTED, log.read_text()
    assert f"--executor {cluster.executor}" in log.read_text()
    patience = time.monotonic() + LONG_S
    while cluster.relays() and time.monotonic() < patience:
        time.sleep(0.2)
    assert cluster.relays() == []


def test_a_queue_that_lets_nothing_begin_says_why(tmp_path: Path, cluster: Made) -> None:
    if cluster.executor != "slurm":
        pytest.skip("Ray names no reason, and its nodes are chosen among those that live")
    file = tmp_path / "shut.toml"
    file.write_text('[slurm]\npartition = "shut"\nwait_s = 5\n')
    shut = Made(executor="slurm", file=str(file), environment=cluster.environment)
    done = subprocess.run(
        shut.study("start", tmp_path / "run"), cwd=ROOT, env=shut.environment, capture_output=True, text=True,
        timeout=LONG_S,
    )  # fmt: skip
    assert done.returncode != exits.DONE
    assert "does not answer" in done.stderr
    assert "PartitionDown" in done.stderr
    queue = subprocess.run([str(shutil.which("squeue")), "-h"], env=shut.environment, capture_output=True, text=True)
    assert queue.stdout.strip() == ""
