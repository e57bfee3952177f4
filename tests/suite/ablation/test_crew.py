"""A process that dies is told of, and the next job gets another."""

import time
from pathlib import Path

import psutil
import pytest

from suite.ablation.crew import Crew
from suite.ablation.jobs import Job
from suite.ablation.studies import Row
from suite.ablation.task import SceneTask
from suite.ablation.training import Recipe
from suite.records import Measurement, Record, Skip

ROW = Row(variant="pool", reads="words", width=16)


def job(seed: int) -> Job:
    task = SceneTask(steps=2, examples=60)
    recipe = Recipe(epochs=1, batch=8, learning_rate=0.01)
    return Job(row=ROW, task=task, longer=None, recipe=recipe, seed=seed, tunes=True, studies=())


def kill_children() -> None:
    children = psutil.Process().children(recursive=True)
    # not the process that multiprocessing keeps for its semaphores
    trainers = [child for child in children if "resource_tracker" not in " ".join(child.cmdline())]
    assert trainers
    for child in trainers:
        child.kill()
    # not waited for, which would take its exit code from its parent
    while any(child.status() != psutil.STATUS_ZOMBIE for child in trainers):
        time.sleep(0.01)


def heard(crew: Crew) -> list[Record]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for _, _, records in crew.wait(0.5):
            if records is not None:
                return list(records)
    pytest.fail("the crew says nothing")


def test_a_process_that_dies_before_it_reads_its_job_or_while_idle_ends_no_session(tmp_path: Path) -> None:
    crew = Crew(1, tmp_path, "cpu")
    try:
        crew.start(job(1))
        kill_children()  # while it still imports torch
        (told,) = heard(crew)
        assert isinstance(told, Skip)
        assert told.cause == "killed"
        assert crew.free
        crew.start(job(2))
        assert any(isinstance(record, Measurement) for record in heard(crew))
        kill_children()  # which has nothing to do
        crew.start(job(3))
        assert any(isinstance(record, Measurement) for record in heard(crew))
    finally:
        crew.close()
