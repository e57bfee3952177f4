"""Closed forms of cost are checked against torch's counter, and a wrong one is a finding."""

import pytest
import torch

from suite.bench.probes import cost
from suite.bench.tasks import Target
from suite.core.records import Finding, Measurement
from suite.core.workloads import PHASES, Phase, Workload
from tests.lanes import one_in
from variants import mechanisms
from variants.registry import published_names


@pytest.mark.parametrize("phase", PHASES)
@pytest.mark.parametrize("name", one_in(5, sorted(mechanisms())))
def test_closed_forms_equal_the_counter(tiny: Workload, name: str, phase: Phase) -> None:
    records = list(cost.count(Target(name, tiny, phase, "cpu", task="t")))
    for record in records:
        if isinstance(record, Finding):
            assert record.verdict == "holds", record.summary
    flops = next(item for item in records if isinstance(item, Measurement) and item.quantity == "matmul_flops")
    assert flops.value is not None
    if name not in published_names():
        assert flops.details["closed_form_forward"] is not None, "our own mechanisms know their FLOPs"


def test_a_wrong_closed_form_is_found(tiny: Workload, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mechanisms()["parallel"], "matmul_flops", lambda self, *shape: 12345)
    (found,) = [
        item for item in cost.count(Target("parallel", tiny, "forward", "cpu", task="t")) if isinstance(item, Finding)
    ]
    assert found.verdict == "broken"
    assert "12345" in found.summary


def test_least_bytes_count_inputs_and_outputs_once_and_their_gradients(tiny: Workload) -> None:
    batch, regions, words, width = tiny.batch, tiny.regions, tiny.words, tiny.image_width
    numbers = batch * (regions + words) * width + batch * (2 * width + regions + words)  # pool has no parameters
    validity = batch * (regions + words)
    for name, phase, expected in (
        ("pool", "forward", 4 * numbers + validity),
        ("pool+bf16", "forward", 2 * numbers + validity),
        ("pool", "forward+backward", 8 * numbers + validity),
    ):
        records = cost.count(Target(name, tiny, phase, "cpu", task="t"))
        (found,) = [item for item in records if isinstance(item, Measurement) and item.quantity == "least_bytes"]
        assert found.value == expected


def test_a_product_in_place_is_counted_as_the_one_that_makes_a_new_tensor() -> None:
    one, left, right = torch.zeros(3, 4, 5), torch.ones(3, 4, 6), torch.ones(3, 6, 5)
    counted = []
    for add in (torch.Tensor.baddbmm, torch.Tensor.baddbmm_):
        with cost.flop_counter() as counter:
            add(one, left, right)
        counted.append(counter.get_total_flops())
    assert counted == [2 * 3 * 4 * 6 * 5] * 2
