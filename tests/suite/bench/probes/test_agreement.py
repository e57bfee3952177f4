"""Agreement finds a variant that has stopped computing its function, on padded rows too."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from suite.bench.inputs import make_batch
from suite.bench.probes import agreement
from suite.bench.probes.step import Step, prepared
from suite.bench.tasks import Target
from suite.core.records import Finding, Measurement
from suite.core.workloads import PHASES, Phase, Workload
from variants import Attended, Batch, Variant, build
from variants.build import TRANSFORMS
from variants.transforms.transform import renamed


@pytest.fixture(autouse=True)
def _fresh() -> None:
    prepared.cache_clear()


def finding(name: str, workload: Workload, phase: Phase) -> Finding:
    measurement, found = agreement.check(Target(name, workload, phase, "cpu", task="t"))
    assert isinstance(measurement, Measurement)
    assert isinstance(found, Finding)
    return found


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", ["parallel", "parallel+bf16", "parallel+fp16", "parallel+amp_bf16", "hierarchical"])
def test_a_correct_variant_agrees(tiny: Workload, phase: Phase, name: str) -> None:
    found = finding(name, tiny, phase)
    assert found.verdict == "holds", found.summary
    assert found.value is not None
    assert found.value > 0


def off_by(change: Callable[[Attended], Attended]) -> Callable[[Variant], Variant]:
    def apply(variant: Variant) -> Variant:
        inner = variant.run

        def run(batch: Batch) -> Attended:
            return change(inner(batch))

        return replace(variant, spec=renamed(variant, "chunked"), run=run)

    return apply


def leak_into_padding(out: Attended) -> Attended:
    return out._replace(question_weights=out.question_weights + (out.question_weights == 0) * 1e-3)


def scale_gradient(out: Attended) -> Attended:
    # the same value with 1.01 times the gradient
    return out._replace(image=out.image + 0.01 * (out.image - out.image.detach()))


def poison(out: Attended) -> Attended:
    return out._replace(image=out.image * float("nan"))


@pytest.mark.parametrize(
    ("change", "phase", "where"),
    [
        (leak_into_padding, "forward", "question_weights"),
        (scale_gradient, "forward+backward", "gradient of"),
        (poison, "forward", "image is not finite"),
    ],
)
def test_a_variant_that_computes_something_else_is_caught(
    tiny: Workload,
    monkeypatch: pytest.MonkeyPatch,
    change: Callable[[Attended], Attended],
    phase: Phase,
    where: str,
) -> None:
    monkeypatch.setitem(TRANSFORMS, "chunked", replace(TRANSFORMS["chunked"], apply=off_by(change)))
    found = finding("parallel+chunked", tiny, phase)
    assert found.verdict == "broken"
    assert where in found.summary


@pytest.mark.parametrize("most", [1, 2, 3])
@pytest.mark.parametrize("phase", ["forward", "forward+backward"])
def test_an_oracle_that_does_not_fit_is_computed_some_examples_at_a_time(
    tiny: Workload, phase: Phase, most: int
) -> None:
    variant = build("hierarchical", width=tiny.image_width)
    variant.module.double()
    learns = phase == "forward+backward"
    batch = make_batch(replace(tiny, batch=7), dtype=torch.float64)
    batch = batch._replace(image=batch.image.requires_grad_(learns), question=batch.question.requires_grad_(learns))
    whole = agreement.results(Step(variant, phase, (batch,)))
    asked: list[int] = []

    def run(given: Batch) -> Attended:
        asked.append(len(given.image))
        if len(given.image) > most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return variant.run(given)

    step = Step(replace(variant, run=run), phase, (batch,))
    step.clear()
    found, size = agreement.exactly(step)
    assert size <= most
    assert asked[0] == 7
    assert found.keys() == whole.keys()
    for key, value in whole.items():
        assert agreement.norm_error(found[key], value, floor=1e-6) < 1e-12, key


def test_an_oracle_whose_examples_depend_on_each_other_is_not_taken_apart(tiny: Workload) -> None:
    variant = build("parallel", width=tiny.image_width)
    variant.module.add_module("norm", torch.nn.BatchNorm1d(4))

    def run(given: Batch) -> Attended:
        raise torch.OutOfMemoryError("CUDA out of memory")

    batch = make_batch(replace(tiny, batch=7))
    with pytest.raises(torch.OutOfMemoryError):
        agreement.exactly(Step(replace(variant, run=run), "forward+backward", (batch,)))


def test_relative_errors_are_over_the_root_mean_square_of_the_reference() -> None:
    expected = torch.tensor([3.0, -3.0, 3.0, -3.0], dtype=torch.float64)
    assert agreement.relative_error(expected + torch.tensor([0.0, 0.3, 0.0, 0.0]), expected) == pytest.approx(0.1)
    assert agreement.relative_error(torch.zeros(2), torch.zeros(2)) == 0
    assert agreement.relative_error(torch.ones(2), torch.zeros(2)) == float("inf")


def test_a_gradient_that_is_zero_but_for_rounding_is_judged_by_the_size_of_the_others() -> None:
    rounding = torch.tensor([1e-9])
    assert agreement.norm_error(rounding, torch.zeros(1), floor=1e-2) == pytest.approx(1e-7)
    assert agreement.norm_error(torch.tensor([1.01]), torch.tensor([1.0]), floor=1e-2) == pytest.approx(0.01, rel=1e-3)
    assert agreement.norm_error(rounding, torch.zeros(1), floor=0.0) == float("inf")
