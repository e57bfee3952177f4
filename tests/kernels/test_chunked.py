"""`+chunked` computes what the mechanism computes, in a fraction of the memory."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from suite.bench.inputs import make_batch
from suite.core.workloads import WORKLOADS, override
from tests.kernels.ragged import hard_batch, largest_error, outputs_and_gradients
from variants import Batch, Skip, build, mechanisms
from variants.kernels import packed
from variants.kernels.chunked import Chunks
from variants.registry import published_names

pytestmark = pytest.mark.slow  # recomputing in chunks loads torch's compiler
MECHANISMS = sorted(set(mechanisms()) - set(published_names()))


def in_float64(name: str) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    variant = build(name, width=32)
    variant.module.double()
    plain = replace(variant, run=variant.module)
    batch = hard_batch(6, 13, 7, 32, 32)
    return outputs_and_gradients(variant, batch), outputs_and_gradients(plain, batch)


@pytest.mark.parametrize("name", [*MECHANISMS, "parallel[affinity=linear,hidden=24]", "parallel[bias=true]"])
def test_chunks_agree_with_the_mechanism(name: str) -> None:
    found, expected = in_float64(f"{name}+chunked")
    assert largest_error(found, expected) < 1e-12


@pytest.mark.parametrize("size", [1, 2, 5, 6])
def test_any_size_of_chunk_gives_the_same(size: int) -> None:
    variant = build("parallel", width=16)
    variant.module.double()
    batch = hard_batch(6, 9, 5, 16, 16)
    found = outputs_and_gradients(replace(variant, run=Chunks(variant.module, lambda _: size)), batch)
    assert largest_error(found, outputs_and_gradients(variant, batch)) < 1e-12


@pytest.mark.parametrize("rows", [1, 4, 13])
def test_any_block_of_regions_gives_the_same(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "block_rows", lambda *_: rows)
    found, expected = in_float64("parallel+chunked")
    assert largest_error(found, expected) < 1e-12


@pytest.mark.parametrize("affinity", ["tanh", "linear"])
def test_the_packed_backward_is_the_derivative_of_its_forward(affinity: str) -> None:
    variant = build(f"parallel[affinity={affinity}]+chunked", width=3)
    variant.module.double()
    batch = hard_batch(4, 5, 3, 3, 3)
    image, question = (features.nan_to_num(0).requires_grad_() for features in batch[:2])
    names, weights = zip(*variant.module.named_parameters(), strict=True)

    def function(image: Tensor, question: Tensor, *weights: Tensor) -> tuple[Tensor, ...]:
        with torch.no_grad():  # the same storage, so that what is perturbed is what is read
            for name, weight in zip(names, weights, strict=True):
                assert weight.data_ptr() == variant.module.get_parameter(name).data_ptr()
        return tuple(variant.call(batch._replace(image=image, question=question)))

    assert torch.autograd.gradcheck(function, (image, question, *weights))


def test_an_operator_registered_for_every_way_of_running() -> None:
    batch = hard_batch(5, 6, 4, 8, 8, dtype=torch.float32, pad=0.0)
    module = build("parallel", width=8).module
    tensors = [*batch, *module.parameters()]
    arguments = [tensor.detach().requires_grad_(tensor.is_floating_point()) for tensor in tensors]
    torch.library.opcheck(packed.packed_parallel, (*arguments, True, True))


@pytest.mark.parametrize("name", ["parallel+chunked", "parallel[bias=true]+chunked"])
@pytest.mark.parametrize("precision", ["bf16", "amp_bf16"])
def test_narrow_types_err_no_more_than_the_mechanism_does(name: str, precision: str) -> None:
    kernel, plain = build(f"{name}+{precision}", width=64), build(f"{name.split('+')[0]}+{precision}", width=64)
    exact = build(name.split("+")[0], width=64)
    exact.module.load_state_dict(plain.module.state_dict())
    exact.module.double()
    batch = hard_batch(8, 40, 12, 64, 64, dtype=plain.dtype)
    wide = batch._replace(image=batch.image.double(), question=batch.question.double())
    expected = outputs_and_gradients(exact, wide)
    own = largest_error(outputs_and_gradients(plain, batch), expected)
    assert largest_error(outputs_and_gradients(kernel, batch), expected) < 1.5 * own


def peak_bytes(name: str, batch: Batch) -> int:
    """Most memory above what was there before the call, from the allocator's own events."""
    variant = build(name, width=batch.image.shape[2])
    with torch.no_grad():
        variant.call(batch)
        with torch.profiler.profile(profile_memory=True) as profile:
            variant.call(batch)
    held = peak = 0
    events = profile.profiler.kineto_results.events()
    for event in sorted(events, key=lambda event: event.start_ns()):
        if event.name() == "[memory]":
            held += event.nbytes()
            peak = max(peak, held)
    return peak


def test_the_forward_pass_takes_a_fifteenth_of_the_published_ports_memory() -> None:
    batch = make_batch(override(WORKLOADS["vqa-grid"], {"batch": "32"}))
    assert peak_bytes("parallel+chunked", batch) * 15 < peak_bytes("published_csdn", batch)


def test_memory_does_not_grow_with_the_product_of_regions_and_words() -> None:
    def extra(regions: int, words: int) -> int:
        changes = {"batch": "1", "regions": str(regions), "words": str(words), "width": "32", "fill": "1"}
        return peak_bytes("parallel+chunked", make_batch(override(WORKLOADS["tiny"], changes)))

    # 2000 x 1500 floats would be 12 MB
    assert extra(2000, 1500) < 12e6 / 2


def test_published_implementations_are_not_chunked() -> None:
    with pytest.raises(Skip, match="runs as published"):
        build("published_csdn+chunked", width=8)


def test_what_runs_is_in_the_notes() -> None:
    assert any("one example at a time" in note for note in build("parallel+chunked", width=8).notes)
    assert any("cache" in note for note in build("parallel[bias=true]+chunked", width=8).notes)
