"""What a task's process leaves is taken as its own, or not at all."""

from dataclasses import replace
from pathlib import Path

import pytest

from suite.bench import run, worker
from suite.bench.tasks import Comparison, Task
from suite.core.records import Measurement, encode
from suite.core.workloads import WORKLOADS
from suite.execution.jobs import Ending, Job, Node
from suite.execution.local import Local
from suite.execution.loop import Running

WHAT = Comparison(variants=("own", "parallel"), workload=WORKLOADS["tiny"], phase="forward")
TASK = Task(what=WHAT, label="own", device="cpu", planned_s=1.0)
TIMED = Measurement(
    task=TASK.name, variant="own", device="cpu", quantity="latency", unit="s", samples=(1.0,), rounds=(0,)
)
CLOSING = Measurement(task=TASK.name, device="cpu", quantity="task_time", unit="s", value=1.0)


def left(*records: Measurement | str) -> run._Ended:
    job = Job(name=TASK.name, work=worker.work, what=TASK, alone=True, expected_s=1.0)
    running = Running(item=TASK, job=job, node=Node(name=""), executor=Local(Path(), Path()), asked_s=0.0)
    running.ending = Ending(way="done")
    running.lines = tuple(record if isinstance(record, str) else encode(record) for record in records)
    return run._Ended.of(running)


def test_its_own_records_are_taken() -> None:
    ended = left(TIMED, replace(TIMED, variant="parallel"), replace(TIMED, quantity="first_call"), CLOSING)
    assert ended.complete
    assert len(ended.records) == 4


@pytest.mark.parametrize(
    ("records", "said"),
    [
        ((TIMED, TIMED, CLOSING), "one of its records is there twice"),
        ((TIMED, CLOSING, TIMED, CLOSING), "one of its records is there twice"),
        ((TIMED, replace(TIMED, task="another's", variant="x"), CLOSING), "of another task, another's"),
        ((TIMED, "{}", CLOSING), "unknown kind None"),
        ((TIMED, '{"kind":"measurement","task":"x"', CLOSING), "not a line of JSON"),
    ],
    ids=range(5),
)
def test_what_somebody_wrote_between_them_costs_the_task_and_not_the_run(
    records: tuple[Measurement | str, ...], said: str
) -> None:
    ended = left(*records)
    assert not ended.complete
    assert ended.records == []
    assert ended.ending.way == "raised"
    assert said in ended.ending.reason
