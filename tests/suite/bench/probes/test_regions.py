"""Operations of the backward pass stand under the region whose forward call caused them."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile, schedule

from suite.bench.probes import regions
from variants.regions import region

pytestmark = pytest.mark.filterwarnings("ignore:Profiler won't be using warmup")


class Planted(nn.Module):
    """Two parts, each with an operation that the other has not."""

    def __init__(self, *, named: bool) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(4, 4), nn.Softmax(-1)
        self.named = named

    def forward(self, x: Tensor) -> Tensor:
        if not self.named:
            made: Tensor = self.second(self.first(x).tanh())
            return made
        with region("scores"):
            x = self.first(x)
            with region("inner"):
                x = x.sigmoid()
        x = x.tanh()
        with region("pooling"):
            return x.softmax(-1)


def rows_of(step: Callable[[], None]) -> dict[str, regions.Row]:
    found: list[regions.Row] = []
    with profile(
        activities=[ProfilerActivity.CPU],
        schedule=schedule(wait=0, warmup=1, active=1, repeat=1),
        on_trace_ready=lambda profiler: found.extend(regions.regions(profiler.events())),
    ) as profiler:
        for _ in range(2):
            step()
            profiler.step()
    return {row[0]: row for row in found}


def learn(module: nn.Module) -> None:
    with region("forward"):
        made = module(torch.ones(2, 4, requires_grad=True))
    with region("backward"):
        made.backward(torch.ones_like(made))


def test_work_of_both_passes_stands_under_its_region() -> None:
    found = rows_of(lambda: learn(Planted(named=True)))
    assert {
        "forward/scores/aten::linear",
        "forward/scores/inner/aten::sigmoid",
        "forward/aten::tanh",
        "forward/pooling/aten::softmax",
        "backward/scores/AddmmBackward0",
        "backward/scores/inner/SigmoidBackward0",
        "backward/TanhBackward0",
        "backward/pooling/SoftmaxBackward0",
    } <= set(found)
    assert not any(path.startswith("backward/pooling/Sigmoid") for path in found)
    assert found["backward/scores/AddmmBackward0"][3] == 1


def test_a_module_that_names_no_regions_is_told_by_its_own_parts() -> None:
    module = Planted(named=False)
    with regions.parts_named(module):
        found = rows_of(lambda: learn(module))
    assert {"forward/first/aten::linear", "forward/second/aten::softmax", "backward/first/AddmmBackward0"} <= set(found)
    assert "backward/TanhBackward0" in found


def test_parts_are_left_out_where_regions_are_named_and_leave_no_hooks_behind() -> None:
    module = Planted(named=True)
    with regions.parts_named(module):
        found = rows_of(lambda: learn(module))
    assert "forward/scores/aten::linear" in found
    assert not any("first" in path for path in found)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in module.modules())


def test_a_part_that_fails_leaves_the_others_their_names() -> None:
    module = Planted(named=False)
    with regions.parts_named(module), pytest.raises(RuntimeError):
        module(torch.ones(2, 3))
    with regions.parts_named(module):
        assert "forward/second/aten::softmax" in rows_of(lambda: learn(module))
