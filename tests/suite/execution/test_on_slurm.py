"""A queue that is made up, and the far end of it without one: what Slurm does to a job is told as what it is."""

import os
import signal
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from suite.core.errors import UserError
from suite.execution import on_slurm, parts
from suite.execution.jobs import Announcement, Ending, Job, News, Node, Site
from suite.execution.relay import Check, Message, Opening
from tests import warm

ROOT = Path(__file__).parents[3]
NODE = Node(name="", beside=9, queue=True)


def nothing(_what: Any, _site: Site, _at: Announcement) -> Iterator[str]:
    yield from ()


JOB = Job(name="one", work=nothing, what=None, alone=False, expected_s=1.0)


class Refused(Exception):
    """As submitit raises it."""


class Submitit:
    """Hands out numbers."""

    core = SimpleNamespace(utils=SimpleNamespace(FailedJobError=Refused))

    def __init__(self) -> None:
        self.refuses = False
        self.handed = 0
        self.asked: Mapping[str, object] = {}
        self.all_asked: list[Mapping[str, object]] = []

    def SlurmExecutor(self, folder: Path) -> "Submitit":  # its name
        return self

    def update_parameters(self, **asked: object) -> None:
        self.asked = asked
        self.all_asked.append(asked)

    @contextmanager
    def batch(self) -> Iterator[None]:
        before = self.handed
        yield
        if self.refuses:
            self.handed = before
            raise Refused("Unable to contact slurm controller")

    def submit(self, *_: object) -> object:
        self.handed += 1
        return SimpleNamespace(job_id=str(self.handed))


@pytest.fixture
def submitit(monkeypatch: pytest.MonkeyPatch) -> Submitit:
    made = Submitit()
    monkeypatch.setitem(sys.modules, "submitit", made)
    monkeypatch.setattr(on_slurm, "POLL_S", 0.0)
    monkeypatch.setattr(on_slurm, "LINGER_S", 0.0)
    return made


class Queue(on_slurm.Slurm):
    """One whose scheduler says what it is told to; nothing where it is told nothing."""

    states: Mapping[str, tuple[str, str]] | None = {}
    ended: Sequence[str] = ()

    def _queue(self) -> dict[str, tuple[str, str]]:
        if self.states is None:
            raise OSError("Unable to contact slurm controller")
        return dict(self.states)

    def _cancel(self) -> None:
        self.ended = (*self.ended, *self._unwanted)
        self._unwanted.clear()

    def hears(self, state: str, why: str = "None") -> News:
        self.states = {"1": (state, why)}
        (news,) = self.wait(0.0)
        return news


@pytest.fixture
def queue(submitit: Submitit, tmp_path: Path) -> Queue:
    made = Queue(
        tmp_path, check=Check(job=JOB, expected={}), gpu=False, at_once=9, wait_s=99.0,
        parameters={"time": 60, "signal_delay_s": 90},
    )  # fmt: skip
    made.start(JOB, NODE)
    return made


def test_a_job_that_is_preempted_and_put_back_waits_again_and_is_no_loss(queue: Queue) -> None:
    assert queue.hears("PENDING").why == ""
    assert queue.hears("PENDING", "Priority").why == "job 1 is pending: Priority"
    assert queue.hears("RUNNING").began
    back = queue.hears("PENDING", "BeginTime")
    assert (back.back, back.began, back.why) == (True, False, "job 1 is pending again: BeginTime")
    assert not queue.hears("PENDING", "BeginTime").back
    assert queue.hears("RUNNING").began
    assert queue.hears("SUSPENDED").back
    assert queue.hears("COMPLETING").began


@pytest.mark.parametrize(
    ("state", "way", "cause"),
    [
        ("OUT_OF_MEMORY", "killed", "memory"),
        ("TIMEOUT", "killed", "timeout"),
        ("CANCELLED", "killed", "killed"),
        ("NODE_FAIL", "lost", "killed"),
        ("PREEMPTED", "lost", "killed"),
        ("FAILED", "lost", "killed"),
        ("A_STATE_OF_LATER", "lost", "killed"),
    ],
)
def test_a_job_that_ended_without_a_word_is_told_by_its_state(queue: Queue, state: str, way: str, cause: str) -> None:
    ending = queue.hears(state).ending
    assert ending is not None
    assert (ending.way, ending.cause) == (way, cause)


def test_a_job_that_is_put_back_as_it_ends_is_taken_once_and_does_not_run_again(queue: Queue, tmp_path: Path) -> None:
    queue.hears("RUNNING")
    parts.tell(parts.stem(tmp_path, "one"), Message(news=News(ticket="", ending=Ending(way="done"), lines=("a",))))
    assert queue.hears("PENDING", "BeginTime").lines == ("a",)
    queue.wait(0.0)
    assert queue.ended == ("1",)


def test_a_node_that_is_not_as_it_has_to_be_is_asked_for_no_more_once_there_is_one_that_is(
    queue: Queue, submitit: Submitit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_slurm, "LINGER_S", 99.0)

    def ends(name: str, ending: Ending, device: str) -> None:
        told = Message(news=News(ticket="", node=f"with {device}", ending=ending), identity={"device": device})
        parts.tell(parts.stem(tmp_path, name), told)

    refused = Ending(way="refused", reason="device is A100 and not H100")
    queue.check = Check(job=JOB, expected={"device": "H100"})
    queue.wait(0.0)
    ends("one", refused, "A100")
    (news,) = queue.wait(0.0)
    assert news.ending == refused, "before work begins it is an error"
    for name, ending, device in (("two", Ending(way="done"), "H100"), ("three", refused, "A100")):
        queue.start(replace(JOB, name=name), NODE)
        queue.wait(0.0)
        ends(name, ending, device)
        (news,) = queue.wait(0.0)
    assert (news.ending, news.back, news.why) == (None, True, refused.reason)
    queue.wait(0.0)
    assert submitit.asked["exclude"] == "with A100"
    ends("three", Ending(way="done"), "H100")
    (news,) = queue.wait(0.0)
    assert news.ending == Ending(way="done")
    assert set(queue.identities) == {"with H100", "with A100"}


def test_of_several_kinds_of_node_each_is_asked_for_by_itself(
    submitit: Submitit, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_slurm.Slurm, "_queue", lambda _: {})
    opening = Opening(folder=tmp_path, check=Check(job=JOB, expected={}), gpu=True, beside=2)
    made = on_slurm.opened(on_slurm.Table(gres=("gpu:h100:1", "gpu:a100:1"), constraint="fast"), opening)
    assert [(node.name, node.beside) for node in made.nodes()] == [("gpu:h100:1 fast", 50), ("gpu:a100:1 fast", 50)]
    made.models = {"gpu:h100:1 fast": "h100", "gpu:a100:1 fast": "a100"}
    for node in made.nodes():
        made.start(replace(JOB, name=f"for {node.model}"), node)
    made.wait(0.0)
    assert [(asked["gres"], asked["constraint"]) for asked in submitit.all_asked] == [
        ("gpu:h100:1", "fast"),
        ("gpu:a100:1", "fast"),
    ]
    (one,) = on_slurm.opened(on_slurm.Table(), opening).nodes()
    assert one.name == ""


def test_a_job_that_has_left_the_queue_is_submitted_again_on_resume(queue: Queue, submitit: Submitit) -> None:
    queue.hears("RUNNING")
    for state, handed in (("RUNNING", 1), ("PENDING", 1), ("CANCELLED", 2)):
        again = Queue(
            queue._folder, check=queue.check, gpu=False, at_once=9, wait_s=99.0,
            parameters={"time": 60, "signal_delay_s": 90},
        )  # fmt: skip
        again.states = {"1": (state, "None")}
        again.start(JOB, NODE)
        again.wait(0.0)
        assert submitit.handed == handed


def test_what_a_lost_head_had_asked_for_and_nobody_wants_ends_with_the_next_one(
    queue: Queue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(on_slurm, "LINGER_S", 99.0)
    queue.hears("RUNNING")
    again = Queue(
        queue._folder, check=queue.check, gpu=False, at_once=9, wait_s=99.0,
        parameters={"time": 60, "signal_delay_s": 90},
    )  # fmt: skip
    again.close()
    assert again.ended == (), "it has done no work, perhaps for want of a node"
    again.start(replace(JOB, name="two"), NODE)
    again.wait(0.0)
    parts.tell(parts.stem(queue._folder, "two"), Message(news=News(ticket="", ending=Ending(way="done"))))
    again.wait(0.0)
    again.close()
    assert "1" in again.ended
    assert not (queue._folder / parts.FOLDER).exists()


def test_a_scheduler_that_is_gone_for_a_while_loses_nothing(
    queue: Queue, submitit: Submitit, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue.states, submitit.refuses = None, True
    assert queue.wait(0.0) == []
    queue.states, submitit.refuses = {}, False
    queue.wait(0.0)
    assert queue.hears("RUNNING").began
    queue.states = None
    monkeypatch.setattr(on_slurm, "_PATIENCE_S", 0.0)
    queue.wait(0.0)
    with pytest.raises(UserError, match="squeue answers no more: Unable to contact"):
        queue.wait(0.0)


def test_a_scheduler_that_answers_and_takes_no_jobs_ends_all(queue: Queue, submitit: Submitit) -> None:
    submitit.refuses = True
    with pytest.raises(UserError, match="Slurm refuses the jobs"):
        queue.wait(0.0)


FAR_END = """
import json, sys, time
from pathlib import Path
from suite.execution import on_slurm, relay
from suite.execution.jobs import Job
from suite.execution.relay import Check

def tells(what, site, at):
    yield json.dumps(what)

def works(what, site, at):
    at.value = 3
    yield "a record"
    time.sleep(what)

def job(work, what):
    return Job(name="one", work=work, what=what, alone=False, expected_s=1.0)

def main():
    at, takes_s, warned_after_s = Path(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])
    check = Check(job=job(tells, {}), expected={})
    on_slurm._relay(relay.parcel(job(works, takes_s), at.parent, check), at, warned_after_s)
"""


@pytest.mark.slow
def test_a_relay_tells_nothing_of_a_job_that_is_preempted_and_says_that_its_time_is_over(tmp_path: Path) -> None:
    (tmp_path / "far_end.py").write_text(FAR_END)

    def left(number: int, *, warned_after_s: float, restarted: bool = False, takes_s: float = 600.0) -> Message | None:
        """What is left of a job all of whose processes get a signal."""
        at = parts.stem(tmp_path, f"one {number} {warned_after_s} {restarted}")
        at.parent.mkdir(exist_ok=True)
        environment = {**os.environ, "SLURM_RESTART_COUNT": str(int(restarted))}
        program = f"import sys; sys.path.append({str(tmp_path)!r}); import far_end; far_end.main()"
        run = warm.Process("-c", program, at, str(takes_s), str(warned_after_s), env=environment)
        while run.poll() is None and not parts.progress(at):
            time.sleep(0.05)
        for process in (*psutil.Process(run.pid).children(recursive=True), run) if number else ():
            process.send_signal(number)
        assert run.wait(60) == 0
        return parts.heard(at)

    for number, warned_after_s in ((signal.SIGTERM, 0.0), (signal.SIGUSR2, 3600.0)):
        assert left(number, warned_after_s=warned_after_s) is None
    told = left(signal.SIGUSR2, warned_after_s=0.0)
    assert told is not None
    assert told.news.ending is not None
    assert told.news.ending.cause == "timeout"
    assert "more in the file of --cluster" in told.news.ending.reason
    assert left(0, warned_after_s=0.0, restarted=True) is None
