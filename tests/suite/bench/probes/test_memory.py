"""Memory is exact: hand-derived peaks, to the byte."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from suite.bench.probes import memory
from suite.bench.probes.step import prepare
from suite.bench.tasks import Target
from suite.core.workloads import Workload
from variants import Attended, Batch

A, B, C, D = 96, 160, 224, 64
LEFT, RIGHT, LAST = torch.ones(A, B), torch.ones(B, C), torch.ones(C, D)


def product() -> Tensor:
    return LEFT @ RIGHT


def product_and_tanh() -> Tensor:
    return torch.tanh(LEFT @ RIGHT)  # both stand while the second is made


def product_and_tanh_in_place() -> Tensor:
    return (LEFT @ RIGHT).tanh_()


def chain() -> Tensor:
    made = LEFT @ RIGHT  # [A, C]
    return made @ LAST  # [A, D] beside it


def thrown_away() -> Tensor:
    for _ in range(3):
        made = LEFT @ RIGHT
        del made
    return LEFT.sum()


def kept() -> list[Tensor]:
    return [LEFT @ RIGHT for _ in range(3)]


def backward() -> None:
    left = LEFT.clone().requires_grad_()  # [A, B]
    (left @ RIGHT).backward(GRADIENT)  # [A, C] is freed with its graph only after the gradient of left is made


GRADIENT = torch.ones(A, C)


@pytest.mark.parametrize(
    ("call", "elements"),
    [
        (product, A * C),
        (product_and_tanh, 2 * A * C),
        (product_and_tanh_in_place, A * C),
        (chain, A * C + A * D),
        (thrown_away, A * C),
        (kept, 3 * A * C),
        (backward, 2 * A * B + A * C),
    ],
)
def test_the_peak_is_the_hand_derived_one_to_the_byte(call: Callable[[], object], elements: int) -> None:
    peaks = {memory.cpu_peak(call) for _ in range(3)}
    assert peaks == {4 * elements}


def test_what_stood_before_the_call_does_not_count() -> None:
    assert memory.replay([-100, 40, 30, -70, 10]) == 0
    assert memory.replay([40, 30, -70, 50]) == 70


def test_saved_for_backward_counts_each_storage_once_and_neither_inputs_nor_parameters(tiny: Workload) -> None:
    step = prepare("parallel", tiny, "forward+backward", "cpu")
    made = torch.ones(3, 5)

    def run(batch: Batch) -> Attended:
        image = batch.image.sum() * made  # [3, 5] keeps made, which is no input
        square = image.tanh()  # keeps its own result
        twice = square * square  # keeps the same again
        return Attended(twice, twice, twice, twice)

    step.variant = replace(step.variant, run=run)
    assert memory.saved_for_backward(step) == 2 * made.numel() * 4


def test_the_probe_reports_peak_and_saved_bytes(tiny: Workload) -> None:
    records = list(memory.measure(Target("pool", tiny, "forward+backward", "cpu", task="t")))
    assert [record.quantity for record in records] == ["peak_memory", "saved_for_backward"]
    assert all(record.value is not None and record.value > 0 for record in records)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_graphs_pool_stands_apart_from_its_calls_peak(tiny: Workload) -> None:
    found = {
        name: {item.quantity: item.value for item in memory.measure(Target(name, tiny, "forward", "cuda", task="t"))}
        for name in ("parallel", "parallel+cudagraph")
    }
    assert "graph_pool_memory" not in found["parallel"]
    assert (found["parallel+cudagraph"]["graph_pool_memory"] or 0) > 0


def test_only_segments_of_captured_graphs_count_as_their_pool(monkeypatch: pytest.MonkeyPatch) -> None:
    segments = [
        {"total_size": 2048, "segment_pool_id": (0, 0)},
        {"total_size": 4096, "segment_pool_id": (0, 1)},
        {"total_size": 512, "segment_pool_id": (1, 0)},
    ]
    monkeypatch.setattr(torch.cuda, "memory_snapshot", lambda: segments)
    assert memory.graph_pools() == 4608
