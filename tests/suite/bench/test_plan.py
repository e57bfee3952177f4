"""The plan: what a budget may put off, in which order tasks run, and what a request means."""

import shlex
from dataclasses import replace

import pytest

from suite.bench.estimate import Speed
from suite.bench.plan import LEAST_SAMPLING_S, REPEATS, Plan, command, plan, put_off, sampling_for
from suite.bench.request import Asked, Request, understand
from suite.bench.tasks import Audit, Comparison, Examination, Machine, Task
from suite.core.records import Skip
from suite.core.workloads import CLASSIC, PRESETS, TODAY, WORKLOADS
from variants import mechanisms
from variants.registry import published_names


@pytest.fixture(scope="module")
def speed() -> Speed:
    return Speed(flops_per_s={"float32": 7e10, "bfloat16": 2e11, "float16": 2.5e9})


@pytest.fixture(scope="module")
def default(speed: Speed) -> tuple[Asked, Plan]:
    asked = understand(Request(device="cpu"))
    return asked, plan(asked, speed)


def timed(made: Plan) -> set[str]:
    return {name for task in made.tasks if isinstance(task.what, Comparison) for name in task.variants}


def test_every_mechanism_of_ours_is_in_the_default_presets_of_today_last() -> None:
    own = set(mechanisms()) - set(published_names())
    assert own == {*CLASSIC, *TODAY}
    assert set(TODAY) <= set(PRESETS["today"].mechanisms)
    for name in ("cpu", "gpu"):
        asked = understand(Request(preset=name, device="cpu")).variants
        assert {str(wanted.spec) for wanted in asked[-len(TODAY) :]} == set(TODAY)
        assert not any(wanted.required for wanted in asked[-len(TODAY) :])


def turns(made: Plan, kind: str, variant: str) -> list[int]:
    """Where a variant's tasks of a kind stand."""
    return [turn for turn, task in enumerate(made.tasks) if task.kind == kind and task.variants[-1:] == (variant,)]


def test_required_are_eager_float32_of_each_mechanism_and_parallel_in_every_mode_with_instructions(
    default: tuple[Asked, Plan],
) -> None:
    required = {name for task in default[1].tasks if task.required for name in task.variants if task.what.workload}
    assert required == {
        *CLASSIC,
        "parallel+bf16",
        "parallel+compile",
    }  # fp16 runs at a thirtieth of float32's pace here
    order = [task.required for task in default[1].tasks]
    assert order == sorted(order, reverse=True), "nothing optional stands before what is required"


def test_all_that_was_asked_for_has_its_turn(default: tuple[Asked, Plan]) -> None:
    asked, made = default
    assert timed(made) == {str(wanted.spec) for wanted in asked.variants}
    assert {task.label for task in made.tasks if "memory" in task.what.probes} == timed(made)


def test_the_order_is_that_of_value(default: tuple[Asked, Plan]) -> None:
    made = default[1]
    eager = [turn for name in ("alternating", "modular", "cross") for turn in turns(made, "timing", name)[:2]]
    audits = [turn for name in CLASSIC for turn in turns(made, "masking", name)]
    modes = [turn for mode in ("bf16", "compile") for turn in turns(made, "timing", f"parallel+{mode}")]
    examined = [turn for name in (*CLASSIC, "parallel+compile") for turn in turns(made, "examination", name)]
    others = [turn for name in ("published_csdn", "queries") for turn in turns(made, "masking", name)]
    assert max(eager) < min(audits) <= max(audits) < min(modes) <= max(modes) < min(examined)
    assert max(examined) < min(others) <= max(others) < min(turns(made, "timing", "published_csdn"))
    assert max(turns(made, "timing", "parallel+compile")) < min(turns(made, "timing", "cross+bf16"))
    assert max(turns(made, "timing", "modular+compile")) < min(turns(made, "timing", "parallel+fp16"))


def test_every_mechanism_and_published_implementation_is_audited_before_anything_else_that_may_be_left_out(
    default: tuple[Asked, Plan],
) -> None:
    first = next(turn for turn, task in enumerate(default[1].tasks) if not task.required and task.what.workload)
    audited = [task.variants[0] for task in default[1].tasks[:first] if isinstance(task.what, Audit)]
    assert len(audited) == len(set(audited))
    assert set(audited) >= set(mechanisms())


def test_what_is_put_off_is_named_with_the_command_that_measures_it(default: tuple[Asked, Plan], speed: Speed) -> None:
    asked, made = default
    for task in made.tasks:
        if task.required or not task.what.workload:
            continue
        (skip,) = put_off(task, asked, speed, "the budget was spent before its turn")
        assert skip.variant == task.variants[-1], "not the eager form beside it"
        words = shlex.split(skip.remedy)
        assert words[:4] == ["python", "run_all.py", "run", skip.variant]
        again = understand(Request(variants=(skip.variant,), workloads=("vqa-grid",), sets=("batch=2",), device="cpu"))
        assert again.budget_s is None
        assert str(again.workloads[0]) == skip.workload
        assert ("no instructions for float16" in skip.reason) == ("fp16" in skip.variant)


def test_what_somebody_chose_is_required_in_types_without_instructions_too_but_comes_last(speed: Speed) -> None:
    asked = understand(Request(variants=("parallel+fp16", "cross+bf16", "cross"), device="cpu", budget_s=100))
    made = plan(asked, speed)
    assert all(task.required for task in made.tasks if not isinstance(task.what, Machine))
    assert max(turns(made, "timing", "cross+bf16")) < min(turns(made, "timing", "parallel+fp16"))


def test_a_preset_without_a_budget_measures_all(speed: Speed) -> None:
    asked = understand(Request(preset="published", device="cpu"))
    made = plan(asked, speed)
    assert made.skips == ()
    assert timed(made) >= {str(wanted.spec) for wanted in asked.variants}


def test_the_gpu_preset_has_fp16_and_compiled_of_every_mechanism() -> None:
    preset = PRESETS["gpu"]
    assert {"", "+fp16", "+compile"} <= set(preset.modes[: preset.modes_required])


def test_tasks_have_names_of_their_own_that_a_second_plan_repeats(default: tuple[Asked, Plan], speed: Speed) -> None:
    names = [task.name for task in default[1].tasks]
    assert len(names) == len(set(names))
    assert names == [task.name for task in plan(default[0], speed).tasks]


def test_without_a_budget_comparisons_come_first_eager_before_compiled_and_of_the_rest_the_longest(
    speed: Speed,
) -> None:
    tasks = plan(understand(Request(device="cpu", budget_s=0)), speed).tasks
    comparisons = [task for task in tasks if isinstance(task.what, Comparison)]
    assert list(tasks[: len(comparisons)]) == comparisons
    once = [task for task in comparisons if not task.repeats]
    assert comparisons[: len(once)] == once
    assert [task.compiles for task in once] == sorted(task.compiles for task in once)
    assert len({task.label for task in once}) == len(once) / 2, (
        "each mechanism has one for each phase, in all its modes"
    )
    rest = [task.planned_s for task in tasks[len(comparisons) :] if not isinstance(task.what, Machine)]
    assert rest == sorted(rest, reverse=True)


def test_every_comparison_has_the_anchor_and_the_eager_form(speed: Speed) -> None:
    asked = understand(Request(variants=("alternating+bf16", "hierarchical[inner=alternating]+fp16"), device="cpu"))
    for task in plan(asked, speed).tasks:
        if isinstance(task.what, Comparison):
            plain = {name.partition("+")[0] for name in task.variants}
            assert {"parallel", *plain} <= set(task.variants)


def test_a_workload_beyond_the_memory_is_left_out_with_a_reason(speed: Speed) -> None:
    asked = understand(Request(variants=("pool",), workloads=("high-res",), sets=("batch=1,1000000",), device="cpu"))
    made = plan(asked, speed)
    (skip,) = made.skips
    assert isinstance(skip, Skip)
    assert skip.workload == "high-res[batch=1000000]"
    assert "GiB of memory are free" in skip.reason
    assert all(task.what.workload is None or task.what.workload.batch == 1 for task in made.tasks)


def test_axes_and_shapes_become_workloads() -> None:
    swept = understand(Request(workloads=("tiny",), sets=("batch=1,2", "fill=0.5,1.0"), device="cpu"))
    assert [workload.batch for workload in swept.workloads] == [1, 1, 2, 2]
    assert [workload.question_fill for workload in swept.workloads] == [0.5, 1.0, 0.5, 1.0]
    (own,) = understand(Request(shape="batch=8,regions=100,words=20,image_width=2048,fill=0.6")).workloads
    assert (own.batch, own.regions, own.words, own.image_width) == (8, 100, 20, 2048)


def test_a_command_names_threads_options_and_shapes() -> None:
    asked = understand(Request(shape="batch=2,words=5", device="cpu"))
    written = command(asked, "hierarchical[inner=alternating]", asked.workloads[0], "cpu[threads=2]")
    assert written == (
        "python run_all.py run 'hierarchical[inner=alternating]' --shape batch=2,words=5 --device cpu --threads 2"
    )


def test_a_command_names_a_file_of_the_users_own_by_the_path_that_was_given() -> None:
    asked = understand(Request(workloads=("tiny",), device="cpu"))
    written = command(replace(asked, files=("models/my net.py",)), "parallel", asked.workloads[0], "cpu")
    assert written.endswith(" --device cpu --with 'models/my net.py'")


def test_a_comparison_behind_its_plan_samples_less_but_never_nothing() -> None:
    what = Comparison(variants=("parallel",), workload=WORKLOADS["tiny"], phase="forward")
    task = Task(what=what, device="cpu", planned_s=10.0, sampling_s=4.0)
    assert (sampling_for(task, 2.0).sampling_s, sampling_for(task, 2.0).planned_s) == (2.0, 8.0)
    assert sampling_for(task, 0.0).sampling_s == LEAST_SAMPLING_S
    looking = Examination(probes=("memory",), variant="parallel", workload=WORKLOADS["tiny"], phase="forward")
    examination = Task(what=looking, device="cpu", planned_s=10.0)
    assert sampling_for(examination, 2.0) == examination


def test_the_cheapest_comparisons_are_made_again_in_another_process_eager_alone(
    default: tuple[Asked, Plan], speed: Speed
) -> None:
    tasks = list(default[1].tasks)
    again = [task for task in tasks if task.repeats]
    assert len(again) == REPEATS
    for task in again:
        first = next(it for it in tasks if it.variants == task.variants and it.what.phase == task.what.phase)
        assert not first.repeats, "the first of the two is whole"
        assert task.name != first.name
        assert not any("+" in name for name in task.variants)
        assert put_off(task, default[0], speed, "no time") == [], "nothing is missing without it"
    first = min(map(tasks.index, again))
    stage = [task for task in tasks[first:] if task.required and not any("+" in name for name in task.variants)]
    assert [task.planned_s for task in stage if not isinstance(task.what, Machine)] == sorted(
        task.planned_s for task in stage if not isinstance(task.what, Machine)
    ), "a budget leaves out the dearest, not all"
    dearest = max(task.planned_s for task in again)
    others = [
        task for task in tasks if isinstance(task.what, Comparison) and task.required and "+" not in str(task.variants)
    ]
    assert sum(task.planned_s < dearest for task in others if not task.repeats) <= REPEATS
