"""The plan: what a budget may put off, in which order tasks run, and what a request means."""

import shlex

import pytest

from suite.estimate import Speed
from suite.plan import Plan, Task, command, duration, plan, shortened
from suite.records import Skip
from suite.request import Asked, Request, understand
from suite.workloads import CLASSIC, PRESETS, TODAY
from variants import mechanisms


@pytest.fixture(scope="module")
def speed() -> Speed:
    return Speed(flops_per_s={"float32": 7e10, "bfloat16": 2e11, "float16": 2.5e9})


@pytest.fixture(scope="module")
def default(speed: Speed) -> tuple[Asked, Plan]:
    asked = understand(Request(device="cpu"))
    return asked, plan(asked, speed, lanes=2)


def timed(made: Plan) -> set[str]:
    return {name for task in made.tasks if task.probes == ("timing",) for name in task.variants}


def test_a_budget_never_puts_off_the_first_modes_nor_any_mode_of_parallel(default: tuple[Asked, Plan]) -> None:
    must = {f"{name}{mode}" for name in CLASSIC for mode in ("", "+bf16")}
    must |= {"parallel+fp16", "parallel+compile", "published_csdn"}
    assert timed(default[1]) >= must
    assert must.isdisjoint(skip.variant for skip in default[1].skips)
    required = {name for task in default[1].tasks if task.required for name in task.variants}
    assert required >= must


def test_every_mechanism_of_ours_is_in_the_default_presets_of_today_last() -> None:
    own = {name for name in mechanisms() if not name.startswith("published_")}
    assert own == {*CLASSIC, *TODAY}
    assert set(TODAY) <= set(PRESETS["today"].mechanisms)
    for name in ("cpu", "gpu"):
        asked = understand(Request(preset=name, device="cpu")).variants
        assert {str(wanted.spec) for wanted in asked[-len(TODAY) :]} == set(TODAY)
        assert not any(wanted.required for wanted in asked[-len(TODAY) :])


def test_every_published_implementation_is_audited_by_default(default: tuple[Asked, Plan]) -> None:
    audited = {task.variants[0] for task in default[1].tasks if task.probes == ("masking",)}
    assert audited >= {name for name in mechanisms() if name.startswith("published_")}


def test_what_does_not_fit_is_skipped_with_the_command_that_measures_it(default: tuple[Asked, Plan]) -> None:
    asked, made = default
    asked_for = {str(wanted.spec) for wanted in asked.variants}
    put_off = {skip.variant: skip for skip in made.skips if skip.cause == "budget"}
    assert put_off, "fp16 of everything at 2.5 GFLOP/s fits into no three minutes"
    measured = {task.label for task in made.tasks if "memory" in task.probes}
    assert asked_for == measured | put_off.keys()
    for name, skip in put_off.items():
        words = shlex.split(skip.remedy)
        assert words[:4] == ["python", "run_all.py", "run", name]
        again = understand(Request(variants=(name,), workloads=("vqa-grid",), sets=("batch=2",), device="cpu"))
        assert again.budget_s is None
        assert str(again.workloads[0]) == skip.workload


def test_what_is_chosen_fits_the_budget_where_what_is_required_does(speed: Speed) -> None:
    asked = understand(Request(device="cpu", budget_s=2000))
    made = plan(asked, speed, lanes=2)
    assert duration(made.tasks, lanes=2) <= 2000


def test_a_budget_that_was_asked_for_is_spent_on_sampling(speed: Speed) -> None:
    def sampled(budget_s: float) -> list[float]:
        asked = understand(Request(variants=("alternating",), device="cpu", probes=("timing",), budget_s=budget_s))
        return [task.sampling_s for task in plan(asked, speed).tasks]

    short, long = sampled(60), sampled(600)
    assert sum(short) == pytest.approx(60, abs=25)
    assert sum(long) - sum(short) == pytest.approx(540)
    assert max(long) == pytest.approx(min(long))


def test_a_preset_without_a_budget_measures_all(speed: Speed) -> None:
    asked = understand(Request(preset="published", device="cpu"))
    made = plan(asked, speed)
    assert made.budget_s is None
    assert made.skips == ()
    assert timed(made) >= {str(wanted.spec) for wanted in asked.variants}


def test_the_gpu_preset_has_fp16_and_compiled_of_every_mechanism() -> None:
    preset = PRESETS["gpu"]
    assert {"", "+fp16", "+compile"} <= set(preset.modes[: preset.modes_required])


def test_tasks_have_names_of_their_own_that_a_second_plan_repeats(default: tuple[Asked, Plan], speed: Speed) -> None:
    names = [task.name for task in default[1].tasks]
    assert len(names) == len(set(names))
    assert names == [task.name for task in plan(default[0], speed, lanes=2).tasks]


def test_comparisons_come_first_eager_before_compiled_and_of_the_rest_the_longest(
    default: tuple[Asked, Plan],
) -> None:
    tasks = default[1].tasks
    comparisons = [task for task in tasks if task.probes == ("timing",)]
    assert list(tasks[: len(comparisons)]) == comparisons
    assert [task.compiles for task in comparisons] == sorted(task.compiles for task in comparisons)
    rest = [task.planned_s for task in tasks[len(comparisons) :]]
    assert rest == sorted(rest, reverse=True)


def test_every_comparison_has_the_anchor_and_the_eager_form(speed: Speed) -> None:
    asked = understand(Request(variants=("alternating+bf16", "hierarchical[inner=alternating]+fp16"), device="cpu"))
    for task in plan(asked, speed).tasks:
        if task.probes == ("timing",):
            plain = {name.partition("+")[0] for name in task.variants}
            assert {"parallel", *plain} <= set(task.variants)


def test_a_workload_beyond_the_memory_is_left_out_with_a_reason(speed: Speed) -> None:
    asked = understand(Request(variants=("pool",), workloads=("high-res",), sets=("batch=1,1000000",), device="cpu"))
    made = plan(asked, speed)
    (skip,) = made.skips
    assert isinstance(skip, Skip)
    assert skip.workload == "high-res[batch=1000000]"
    assert "GiB of memory are free" in skip.reason
    assert all(task.workload is None or task.workload.batch == 1 for task in made.tasks)


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


def test_a_comparison_behind_its_plan_samples_less_but_never_nothing() -> None:
    task = Task(probes=("timing",), device="cpu", planned_s=10.0, sampling_s=4.0)
    assert (shortened(task, 0.5).sampling_s, shortened(task, 0.5).planned_s) == (2.0, 8.0)
    assert shortened(task, 0.0).sampling_s > 0
