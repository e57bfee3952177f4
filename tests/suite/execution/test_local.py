"""Jobs on this machine: each way to end is told, and nothing of a job is left."""

import ast
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from suite.execution import jobs
from suite.execution.jobs import Announcement, Ending, Job, News, Node, Site, Work
from suite.execution.local import Local

HERE = Node(name="")


def says(what: Any, site: Site, at: Announcement) -> Iterator[str]:
    for number in range(what):
        at.value = number
        yield f"{number} in {site.folder.name}"


def says_and_dies(what: Any, _site: Site, at: Announcement) -> Iterator[str]:
    at.value = 7
    yield "before"
    os.kill(os.getpid(), what)


def says_and_hangs(what: Any, _site: Site, at: Announcement) -> Iterator[str]:
    at.value = 3
    yield str(os.getpid())
    time.sleep(what)
    yield "never"


def says_which_gpu(_what: Any, _site: Site, _at: Announcement) -> Iterator[str]:
    yield os.environ["CUDA_VISIBLE_DEVICES"]


def says_its_process(what: Any, site: Site, at: Announcement) -> Iterator[str]:
    yield str(os.getpid())


def raises(what: Any, site: Site, at: Announcement) -> Iterator[str]:
    yield "before"
    raise KeyError("a reason")


def job(work: Work, what: Any = None) -> Job:
    return Job(name=work.__name__, work=work, what=what, alone=False, expected_s=1.0)


def last(executor: Local, *, of: int = 1) -> list[News]:
    """The news with which so many jobs end."""
    found: list[News] = []
    patience = time.monotonic() + 120
    while len(found) < of and time.monotonic() < patience:
        found += [news for news in executor.wait(0.5) if news.ending is not None]
    return found


def test_a_job_hands_over_all_its_lines_with_its_end_and_what_dies_says_where_it_was(tmp_path: Path) -> None:
    executor = Local(tmp_path, tmp_path, beside=2)
    tickets = [executor.start(job(says, 3), HERE), executor.start(job(says_and_dies, 9), HERE)]
    told = {news.ticket: news for news in last(executor, of=2)}
    done, killed = (told[ticket] for ticket in tickets)
    assert done.ending is not None
    assert done.ending.way == "done"
    assert done.lines == tuple(f"{number} in {tmp_path.name}" for number in range(3))
    assert done.took_s is not None
    assert done.took_s > 0
    assert killed.ending is not None
    assert (killed.ending.way, killed.ending.cause, killed.lines, killed.at) == ("killed", "killed", ("before",), 7)


def test_a_job_that_is_cancelled_leaves_what_it_had_said_and_no_process(tmp_path: Path) -> None:
    executor = Local(tmp_path, tmp_path)
    ticket = executor.start(job(says_and_hangs, 600), HERE)
    patience = time.monotonic() + 120
    while not any(news.at == 3 for news in executor.wait(0.5)) and time.monotonic() < patience:
        pass
    time.sleep(0.2)
    news = executor.cancel(ticket)
    assert news.at == 3
    (pid,) = map(int, news.lines)
    assert not psutil.pid_exists(pid)
    assert executor.wait(0.01) == []


def test_each_of_several_gpus_is_a_node_whose_jobs_see_it_alone(tmp_path: Path) -> None:
    executor = Local(tmp_path, tmp_path, gpus=["0", "GPU-5e3f"])
    for node in executor.nodes():
        executor.start(job(says_which_gpu), node)
    assert {news.lines for news in last(executor, of=2)} == {("0",), ("GPU-5e3f",)}


def in_room(work: Work, room: str, what: Any = None) -> Job:
    return replace(job(work, what), room=room, alone=True)


def process_of(executor: Local, given: Job) -> tuple[str, News]:
    executor.start(given, HERE)
    (news,) = last(executor)
    return news.lines[0] if news.lines else "", news


def test_jobs_of_a_room_go_through_one_process_that_nobody_else_gets(tmp_path: Path) -> None:
    executor = Local(tmp_path, tmp_path)
    one, first = process_of(executor, in_room(says_its_process, "a"))
    two, second = process_of(executor, in_room(says_its_process, "a"))
    other, _ = process_of(executor, in_room(says_its_process, "b"))
    alone, _ = process_of(executor, job(says_its_process))
    again, _ = process_of(executor, in_room(says_its_process, "a"))
    assert one == two
    assert len({one, other, alone, again}) == 4
    assert not psutil.pid_exists(int(one))
    assert first.ending == second.ending == Ending(way="done")
    assert first.took_s is not None
    assert second.took_s is not None
    assert 0 < second.took_s < 60, "its own time, and not that of the process"
    executor.close()
    assert not psutil.pid_exists(int(again))


def test_what_ends_the_process_of_a_room_costs_its_job_and_the_next_gets_a_new_one(tmp_path: Path) -> None:
    executor = Local(tmp_path, tmp_path)
    one, _ = process_of(executor, in_room(says_its_process, "a"))
    _, died = process_of(executor, in_room(says_and_dies, "a", 9))
    two, _ = process_of(executor, in_room(says_its_process, "a"))
    _, raised = process_of(executor, in_room(raises, "a"))
    three, _ = process_of(executor, in_room(says_its_process, "a"))
    os.kill(int(three), signal.SIGKILL)  # while it waits
    time.sleep(0.5)
    four, news = process_of(executor, in_room(says_its_process, "a"))
    assert len({one, two, three, four}) == 4
    assert died.ending is not None
    assert (died.ending.way, died.lines) == ("killed", ("before",))
    assert raised.ending is not None
    assert (raised.ending.way, raised.ending.reason) == ("raised", "KeyError: 'a reason'")
    assert news.ending == Ending(way="done")
    ticket = executor.start(in_room(says_and_hangs, "a", 600), HERE)
    while not any(news.at == 3 for news in executor.wait(0.5)):
        pass
    executor.cancel(ticket)
    assert not psutil.pid_exists(int(four))
    executor.close()


@pytest.mark.parametrize("name", ["jobs", "loop"])
def test_the_loop_and_its_types_know_neither_torch_nor_probes_nor_pages(name: str) -> None:
    tree = ast.parse(Path(jobs.__file__).with_name(f"{name}.py").read_text())
    imported = {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    imported |= {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    ours = {module for module in imported if module and module.split(".")[0] in ("suite", "variants", "torch")}
    assert ours <= {"suite.execution.jobs"}
