"""`+fast` states what it picks, `+sdpa` pins its backend, and both compute what the mechanism computes."""

from dataclasses import replace

import pytest
import torch

from tests.kernels.ragged import hard_batch, largest_error, outputs_and_gradients
from variants import Skip, build


@pytest.mark.parametrize(
    "name",
    [
        "cross+sdpa",
        "cross[heads=2]+sdpa",
        "modular[layers=2]+sdpa",
        "modular[arrangement=stack,heads=3,layers=1]+sdpa",
        "transformer[heads=4,layers=1]+sdpa",
        "transformer[heads=4,layers=1,shared=true]+sdpa",
        "queries[count=3,heads=2,layers=2]+sdpa",
        "parallel+fast",
        "alternating+fast",
    ],
)
def test_the_same_function(name: str) -> None:
    variant = build(name, width=16)
    variant.module.double()
    batch = hard_batch(6, 9, 7, 16, 16)
    plain = replace(variant, run=variant.module)
    assert largest_error(outputs_and_gradients(variant, batch), outputs_and_gradients(plain, batch)) < 1e-11


@pytest.mark.parametrize(
    ("name", "calls"), [("cross", 2), ("modular[layers=2]", 6), ("transformer", 8), ("queries", 6)]
)
def test_the_backend_is_pinned_and_noted(name: str, calls: int) -> None:
    variant = build(f"{name}+sdpa", width=16)
    assert variant.notes == ("SDPA backend FLASH_ATTENTION, and no other",)
    batch = hard_batch(4, 9, 7, 16, 16, dtype=torch.float32)
    with torch.no_grad(), torch.profiler.profile() as profile:
        variant.call(batch)
    kernels = {event.key: event.count for event in profile.key_averages() if "scaled_dot_product" in event.key}
    assert kernels == {
        "aten::scaled_dot_product_attention": calls,
        "aten::_scaled_dot_product_flash_attention_for_cpu": calls,
    }


@pytest.mark.parametrize("name", ["parallel", "hierarchical", "dense", "pool", "bidirectional", "bags"])
def test_what_is_no_scaled_dot_product_says_so(name: str) -> None:
    with pytest.raises(Skip, match="transformer and queries have scaled dot products"):
        build(f"{name}+sdpa", width=16)


def test_fast_says_what_it_picks() -> None:
    assert "as it is" in build("parallel+fast", width=16).notes[-1]
    assert "as it is" in build("alternating+fast", width=16).notes[-1]
    with pytest.raises(Skip, match="runs as published"):
        build("published_csdn+fast", width=16)


def test_chunks_are_not_compiled() -> None:
    with pytest.raises(Skip, match="a graph cannot know"):
        build("alternating+chunked+compile", width=16)
