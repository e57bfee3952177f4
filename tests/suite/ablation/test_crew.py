"""A process that dies is told of, and the next job gets another."""

import multiprocessing
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from suite.ablation.crew import Crew
from suite.ablation.jobs import Job
from suite.ablation.studies import Row
from suite.ablation.task import SceneTask
from suite.ablation.training import Recipe
from suite.core.records import Measurement, Record, Skip

ROW = Row(variant="pool", reads="words", width=16)


def job(seed: int) -> Job:
    task = SceneTask(steps=2, examples=60)
    recipe = Recipe(epochs=1, batch=8, learning_rate=0.01)
    return Job(row=ROW, task=task, longer=None, recipe=recipe, seed=seed, tunes=True, studies=())


def kill(trainers: set[BaseProcess]) -> None:
    assert trainers
    for trainer in trainers:
        trainer.kill()
        trainer.join()


def children() -> set[BaseProcess]:
    return set(multiprocessing.active_children())


def heard(crew: Crew) -> list[Record]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for _, _, records in crew.wait(0.5):
            if records is not None:
                return list(records)
    pytest.fail("the crew says nothing")


@pytest.mark.slow
def test_a_process_that_dies_before_it_reads_its_job_or_while_idle_ends_no_session(tmp_path: Path) -> None:
    others = children()
    crew = Crew(1, tmp_path, "cpu")
    try:
        crew.start(job(1))
        kill(children() - others)  # while it still imports torch
        (told,) = heard(crew)
        assert isinstance(told, Skip)
        assert told.cause == "killed"
        assert crew.free
        crew.start(job(2))
        assert any(isinstance(record, Measurement) for record in heard(crew))
        kill(children() - others)  # which has nothing to do
        crew.start(job(3))
        assert any(isinstance(record, Measurement) for record in heard(crew))
    finally:
        crew.close()
