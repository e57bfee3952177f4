"""The gpu preset keeps its budget by plan on a large, a middling and a small GPU, and says what it promises on each."""

import itertools
from itertools import pairwise

import pytest

from suite.bench.plan import Plan, duration, plan, sampling_for
from suite.bench.request import Asked, Request, understand
from suite.bench.tasks import Audit, Comparison, Task
from suite.core.records import ANCHOR
from suite.core.workloads import CLASSIC, PHASES, TODAY
from tests.suite.bench import gpus
from variants import canonical

START_S = 10.0
"""What the program takes to start, and more."""


@pytest.fixture(scope="module")
def asked() -> Asked:
    return understand(Request(preset="gpu", device="cuda", elsewhere=True))


@pytest.fixture(scope="module", params=gpus.GPUS)
def made(request: pytest.FixtureRequest, asked: Asked) -> tuple[str, Plan]:
    return request.param, plan(asked, gpus.speed(request.param))


def required(found: Plan) -> list[Task]:
    return [sampling_for(task, 0.0) for task in found.tasks if task.required]


def timed(tasks: list[Task]) -> set[tuple[str, str, str]]:
    return {
        (name, str(task.what.workload), str(task.what.phase))
        for task in tasks
        if isinstance(task.what, Comparison)
        for name in task.variants
    }


def test_what_is_required_is_planned_within_the_budget_with_contexts_libraries_inputs_and_pages(
    made: tuple[str, Plan], asked: Asked
) -> None:
    assert asked.budget_s is not None
    tasks = required(made[1])
    pages_s = START_S * (0.4 + 0.015 * len(timed(tasks)))
    assert duration(tasks, lanes=2) + START_S + pages_s < asked.budget_s
    begun = [task for task in tasks if task.starts and task.device == "cuda"]
    assert len(begun) <= 30, "a process for a mechanism, and not for each form and phase"
    assert all(task.planned_s > 2.5 for task in begun if not task.repeats)


def test_every_classic_mechanism_is_promised_in_both_phases_and_in_half_precision_where_there_is_any(
    made: tuple[str, Plan],
) -> None:
    name, found = made
    first = str(found.tasks[0].what.workload)
    promised = timed(required(found))
    forms = ("", "+fp16") if name == "without bf16" else ("", "+fp16", "+bf16")
    assert {(f"{it}{form}", first, phase) for it in CLASSIC for form in forms for phase in PHASES} <= promised
    assert ((f"{ANCHOR}+bf16", first, "forward") in promised) == (name != "without bf16")
    audited = [task for task in required(found) if isinstance(task.what, Audit)]
    assert {task.label for task in audited} == set(CLASSIC)
    assert all(task.device == "cpu" and not task.alone for task in audited), "beside each other, and off the GPU"


def test_a_fast_gpu_is_promised_more_than_a_slow_one(asked: Asked) -> None:
    many, some, few = (len(timed(required(plan(asked, gpus.speed(name))))) for name in ("h100", "a10", "laptop"))
    assert many >= some >= few
    promised = timed(required(plan(asked, gpus.speed("h100"))))
    first = str(asked.workloads[0])
    for form in ("+compile", "+bf16+compile", "+fused+bf16", "+cudagraph", "+tf32"):
        for phase in PHASES:
            assert (f"{ANCHOR}{form}", first, phase) in {(str(canonical(name)), *rest) for name, *rest in promised}
    looked_at = {task.label for task in required(plan(asked, gpus.speed("h100"))) if task.kind == "examination"}
    assert looked_at >= {f"{name}{form}" for name in CLASSIC for form in ("", "+bf16")}


def test_all_that_was_asked_for_has_its_turn_once(made: tuple[str, Plan], asked: Asked) -> None:
    found = made[1]
    names = [task.name for task in found.tasks]
    assert len(names) == len(set(names))
    variants, workloads = (str(it.spec) for it in asked.variants), [str(workload) for workload in asked.workloads]
    wanted = set(itertools.product(variants, workloads, PHASES))
    assert timed(list(found.tasks)) == wanted
    looked_at = {
        (task.label, str(task.what.workload), task.what.phase) for task in found.tasks if "memory" in task.what.probes
    }
    assert looked_at == wanted
    assert {task.label for task in found.tasks if isinstance(task.what, Audit)} >= {*CLASSIC, *TODAY, "published_csdn"}
    order = [task.required for task in found.tasks]
    assert order == sorted(order, reverse=True)


def test_tasks_of_a_room_follow_each_other_and_only_the_first_begins_a_process(made: tuple[str, Plan]) -> None:
    for before, task in pairwise(made[1].tasks):
        assert task.starts == (not task.room or task.room != before.room), task.name
        if "start" in task.what.probes or task.repeats or (isinstance(task.what, Audit) and task.device == "cpu"):
            assert task.starts, "it needs a process that has run nothing"
            assert not task.room


def test_what_somebody_chose_stands_in_the_same_rounds_and_is_audited_in_every_form() -> None:
    names = ("published_csdn+bf16", "parallel+bf16", "parallel+bf16+compile", "parallel+fused+bf16")
    asked = understand(Request(variants=names, workloads=("vqa-grid",), device="cuda", elsewhere=True, budget_s=280.0))
    tasks = plan(asked, gpus.speed("h100")).tasks
    whole = next(task for task in tasks if isinstance(task.what, Comparison) and task.label == ANCHOR)
    assert set(whole.variants) == {ANCHOR, "parallel+bf16", "parallel+bf16+compile", "parallel+fused+bf16"}
    assert whole.required
    assert {task.label for task in tasks if isinstance(task.what, Audit)} >= set(names)
    assert {task.device for task in tasks if isinstance(task.what, Audit) and "+" in task.label} == {"cuda"}


def test_without_a_budget_or_with_files_of_ones_own_nothing_shares_a_process(asked: Asked) -> None:
    whole = understand(Request(preset="gpu", device="cuda", elsewhere=True, budget_s=0))
    assert not any(task.room for task in plan(whole, gpus.speed("h100")).tasks)
