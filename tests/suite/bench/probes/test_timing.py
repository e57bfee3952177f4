"""Comparisons take their samples as they say, and prove what ran."""

import gc
import re
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from suite.bench.probes import conditions, timing
from suite.bench.probes.step import make_inputs, prepare
from suite.core.records import Finding, Measurement, Record, Skip
from suite.core.workloads import PHASES, Phase, Workload
from variants import Attended, Batch, Variant
from variants.build import TRANSFORMS
from variants.transforms.transform import renamed


def measured(records: list[Record], quantity: str) -> dict[str, Measurement]:
    return {item.variant: item for item in records if isinstance(item, Measurement) and item.quantity == quantity}


def findings(records: list[Record], quantity: str) -> dict[str, Finding]:
    return {item.variant: item for item in records if isinstance(item, Finding) and item.quantity == quantity}


@pytest.fixture
def transform(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[Variant], Variant]], None]:
    """Put another transform under a known name."""

    def plant(name: str, apply: Callable[[Variant], Variant]) -> None:
        monkeypatch.setitem(TRANSFORMS, name, replace(TRANSFORMS[name], apply=apply))

    return plant


@pytest.mark.parametrize("phase", PHASES)
def test_every_variant_and_the_anchor_are_timed_in_the_same_rounds(tiny: Workload, phase: Phase) -> None:
    records = list(timing.compare(["pool", "cross"], tiny, phase, "cpu", task="t", budget_s=2.0, seed=1))
    latencies = measured(records, "latency")
    assert list(latencies) == ["parallel", "pool", "cross"]
    for latency in latencies.values():
        every = int(str(latency.details["every"]))  # more than 1 where the machine is so busy that a call takes long
        assert latency.rounds == tuple(range(0, latency.rounds[-1] + 1, every))
        assert len(latency.samples) == len(latency.rounds) >= 3
    assert all(sample > 0 for latency in latencies.values() for sample in latency.samples)
    assert set(measured(records, "first_call")) == set(latencies)
    assert {finding.verdict for finding in findings(records, "mode").values()} == {"holds"}
    assert measured(records, "harness_time")[""].value > 0  # type: ignore[operator]  # it is a number
    assert gc.isenabled()


@pytest.mark.slow
def test_the_order_within_rounds_is_drawn_anew(tiny: Workload) -> None:
    announced: list[str] = []
    list(timing.compare(["pool"], tiny, "forward", "cpu", task="t", budget_s=2.0, announce=announced.append))
    timed = announced[2:-2]  # the first two are the first calls, the last two the proofs
    orders = {tuple(timed[start : start + 2]) for start in range(0, len(timed) - 1, 2)}
    assert orders == {("parallel", "pool"), ("pool", "parallel")}


def test_a_variant_that_raises_leaves_its_neighbours_alone(
    tiny: Workload, transform: Callable[[str, Callable[[Variant], Variant]], None]
) -> None:
    def raising(variant: Variant) -> Variant:
        def run(batch: Batch) -> Attended:
            raise RuntimeError("planted")

        return replace(variant, spec=renamed(variant, "bf16"), run=run)

    transform("bf16", raising)
    records = list(
        timing.compare(
            ["parallel+bf16", "pool"],
            tiny,
            "forward",
            "cpu",
            task="t",
            budget_s=0.1,
            required=["parallel+bf16", "pool"],
        )
    )
    assert [(item.variant, item.cause, item.reason) for item in records if isinstance(item, Skip)] == [
        ("parallel+bf16", "error", "RuntimeError: planted")
    ]
    assert set(measured(records, "latency")) == {"parallel", "pool"}


@pytest.mark.slow
def test_a_slow_variant_is_timed_in_fewer_rounds_or_skipped_with_its_time(
    tiny: Workload, transform: Callable[[str, Callable[[Variant], Variant]], None]
) -> None:
    def slow(seconds: float) -> Callable[[Variant], Variant]:
        def apply(variant: Variant) -> Variant:
            inner = variant.run

            def run(batch: Batch) -> Attended:
                torch.randn(1)  # some work, and then the wait
                import time

                time.sleep(seconds)
                return inner(batch)

            return replace(variant, spec=renamed(variant, "bf16"), run=run)

        return apply

    transform("bf16", slow(0.02))
    records = list(timing.compare(["pool", "parallel+bf16"], tiny, "forward", "cpu", task="t", budget_s=0.6))
    latencies = measured(records, "latency")
    assert latencies["parallel+bf16"].details["every"] > 1  # type: ignore[operator]  # it is a number
    assert 3 <= len(latencies["parallel+bf16"].samples) < len(latencies["pool"].samples)

    transform("bf16", slow(0.2))
    records = list(timing.compare(["pool", "parallel+bf16"], tiny, "forward", "cpu", task="t", budget_s=0.6))
    (skip,) = [item for item in records if isinstance(item, Skip)]
    assert (skip.variant, skip.cause) == ("parallel+bf16", "budget")
    assert skip.reason.startswith("too slow here: one call takes 0.2")


def test_gradients_reach_inputs_and_parameters_and_are_cleared(tiny: Workload) -> None:
    step = prepare("parallel", tiny, "forward+backward", "cpu")
    step(0)
    grads = [step.inputs[0].image.grad, step.inputs[0].question.grad]
    grads += [parameter.grad for parameter in step.variant.module.parameters()]
    assert all(grad is not None and grad.abs().sum() > 0 for grad in grads)
    step.clear()
    assert step.inputs[0].image.grad is None
    assert all(parameter.grad is None for parameter in step.variant.module.parameters())


def test_inputs_rotate_with_the_same_lengths(tiny: Workload) -> None:
    first, second, third = make_inputs(tiny, "forward", "cpu", torch.float32)
    assert not torch.equal(first.image, second.image)
    assert torch.equal(first.question_valid, third.question_valid)


def test_an_eager_variant_that_calls_itself_compiled_is_caught(
    tiny: Workload, transform: Callable[[str, Callable[[Variant], Variant]], None]
) -> None:
    transform("compile", lambda variant: replace(variant, spec=renamed(variant, "compile")))
    records = list(
        timing.compare(
            ["parallel+compile"], tiny, "forward", "cpu", task="t", budget_s=0.1, required=["parallel+compile"]
        )
    )
    finding = findings(records, "mode")["parallel+compile"]
    assert finding.verdict == "broken"
    assert "nothing was compiled" in finding.summary


def test_products_in_another_precision_than_the_name_says_are_caught(
    tiny: Workload, transform: Callable[[str, Callable[[Variant], Variant]], None]
) -> None:
    transform("bf16", lambda variant: replace(variant, spec=renamed(variant, "bf16")))
    records = list(
        timing.compare(["parallel+bf16"], tiny, "forward", "cpu", task="t", budget_s=0.1, required=["parallel+bf16"])
    )
    finding = findings(records, "mode")["parallel+bf16"]
    assert finding.verdict == "broken"
    assert "asks for products in bfloat16, but they ran in float32" in finding.summary


# torch's own compiler uses what torch has deprecated
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:`torch.jit:DeprecationWarning")
def test_a_compiled_variant_proves_its_graphs_and_compiles_no_more_in_the_rounds(tiny: Workload) -> None:
    records = list(
        timing.compare(["pool+compile"], tiny, "forward", "cpu", task="t", budget_s=0.1, required=["pool+compile"])
    )
    finding = findings(records, "mode")["pool+compile"]
    assert finding.verdict == "holds", finding.summary
    assert measured(records, "graphs")["pool+compile"].value == 1
    assert measured(records, "graph_breaks")["pool+compile"].value == 0
    assert measured(records, "recompiles")["pool+compile"].value == 0


def test_what_would_not_be_done_before_a_deadline_is_left_out_before_it_is_called(
    tiny: Workload, transform: Callable[[str, Callable[[Variant], Variant]], None]
) -> None:
    def never(variant: Variant) -> Variant:
        def run(batch: Batch) -> Attended:
            raise AssertionError("was called")

        return replace(variant, spec=renamed(variant, "bf16"), run=run)

    transform("bf16", never)
    foreseen = {"parallel": (1e-4, 0.0), "pool": (1e-4, 0.0), "parallel+bf16": (1e4, 0.0)}
    names = ["pool", "parallel+bf16"]
    records = list(
        timing.compare(
            names, tiny, "forward", "cpu", task="t", budget_s=0.1, required=names, deadline_s=600.0, foreseen=foreseen
        )
    )
    (skip,) = [item for item in records if isinstance(item, Skip)]
    assert (skip.variant, skip.cause) == ("parallel+bf16", "budget")
    assert measured(records, "latency").keys() == {"parallel", "pool"}


def test_rounds_end_with_the_deadline_however_few_there_were(tiny: Workload) -> None:
    records = list(timing.compare(["pool"], tiny, "forward", "cpu", task="t", budget_s=600.0, deadline_s=0.0))
    for latency in measured(records, "latency").values():
        assert len(latency.samples) == 1
        assert "1 of the 6 samples that an interval takes" in latency.trust


@pytest.mark.slow
def test_time_that_is_to_be_spent_is_spent_although_all_is_known(
    tiny: Workload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing, "_narrow", lambda lanes: True)
    for until_spent in (False, True):
        records = list(
            timing.compare(["pool"], tiny, "forward", "cpu", task="t", budget_s=1.0, until_spent=until_spent)
        )
        stopped = {str(latency.details["stopped"]) for latency in measured(records, "latency").values()}
        assert stopped == {"budget" if until_spent else "interval"}


@pytest.mark.parametrize("shared", [0.0, 0.05, 3.0])
def test_no_more_of_a_spread_is_in_step_with_the_others_than_there_is(shared: float) -> None:
    mark = conditions.Mark(waited_s=None, stolen_s=None)
    samples = (1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.2)
    ((reason,), _) = conditions.doubts(samples, (), 0, before=mark, after=mark, wall_s=12.0, shared_spread=shared)
    spread, in_step = (int(number) for number in re.findall(r"\d+", reason))
    assert spread == 38
    assert in_step == min(spread, round(100 * shared))
