"""Transforms keep the function: one graph, eager's numbers, and FLOPs that torch's counter sees too."""

import copy

import pytest
import torch
from torch import Tensor
from torch.nn.functional import pad
from torch.utils.flop_counter import FlopCounterMode

from tests.variants import oracles
from tests.variants.ragged import outputs_and_gradients, ragged, smallest
from variants import Batch, build
from variants.hierarchical import Hierarchical
from variants.recurrence import WrittenOut, fused_layer, traced_layer
from variants.transforms.compilation import isolation

pytestmark = pytest.mark.slow

CASES = ["pool", "parallel", "alternating", "cross", "hierarchical", "hierarchical[inner=alternating,layers=2]"]


def wider(batch: Batch) -> Batch:
    """The batch with two more padded slots on each side."""
    return Batch(
        pad(batch.image, (0, 0, 0, 2), value=9.0),
        pad(batch.question, (0, 0, 0, 2), value=9.0),
        pad(batch.image_valid, (0, 2)),
        pad(batch.question_valid, (0, 2)),
    )


def to(batch: Batch, dtype: torch.dtype) -> Batch:
    return batch._replace(image=batch.image.to(dtype), question=batch.question.to(dtype))


def assert_same(found: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float) -> None:
    for key, value in expected.items():
        scale = max(1.0, value.abs().max().item())
        assert (found[key] - value).abs().max().item() <= tolerance * scale, key


LATER = [
    "dense[heads=2,layers=1]",
    "modular[heads=2,layers=1]",
    "bidirectional[heads=2]",
    "bilinear",
    "transformer[heads=2,layers=1]",
    "flow",
    "dynamic",
    "queries[count=2,heads=2,layers=1]",
    "bags",
]


ANEW = ("parallel", "hierarchical")
"""That another shape is another graph, and that the first one is kept, is a matter of compilation: two mechanisms tell
it, one with a recurrence. The others are traced at one shape."""


@pytest.mark.parametrize("name", [*CASES, *LATER])
def test_a_mechanism_is_traced_whole_once_for_each_shape(name: str) -> None:
    from torch._dynamo.testing import CompileCounterWithBackend  # loads the compiler, which the quick lane is without

    module = build(name, width=6).module.double()
    counter = CompileCounterWithBackend("aot_eager")
    compiled = torch.compile(lambda batch: module(batch), backend=counter, fullgraph=True, dynamic=False, **isolation())
    parameters = dict(module.named_parameters())
    batch = ragged(6, 6)
    for graphs, shaped in ((1, batch), (2, smallest(6, 6)), (2, batch))[: 3 if name in ANEW else 1]:
        found = outputs_and_gradients(compiled, shaped, parameters)
        # float64, and nothing is fused: the same sums but for the LSTM's backward, which is our own
        assert_same(found, outputs_and_gradients(module, shaped, parameters), 1e-13)
        assert counter.frame_count == graphs


@pytest.mark.parametrize("precision", ["fp16", "amp_bf16"])  # each type, and each way to it
def test_narrow_hierarchical_is_traced_whole_with_its_recurrence(precision: str) -> None:
    variant = build(f"hierarchical+{precision}", width=6)
    compiled = torch.compile(variant.run, backend="aot_eager", fullgraph=True, dynamic=False, **isolation())
    parameters = dict(variant.module.named_parameters())
    batch = to(ragged(6, 6), variant.dtype)
    # the recurrence's two backwards round in different places
    tolerance = 16 * torch.finfo(torch.float16 if precision.endswith("fp16") else torch.bfloat16).eps
    assert_same(
        outputs_and_gradients(compiled, batch, parameters),
        outputs_and_gradients(variant.run, batch, parameters),
        tolerance,
    )


def test_compile_keeps_the_function_over_three_shapes_and_back() -> None:
    eager, compiled = build("parallel", width=6), build("parallel+compile", width=6)
    batch = to(ragged(6, 6), torch.float32)
    with torch.no_grad():
        for shaped in (batch, wider(batch), to(smallest(6, 6), torch.float32), batch):
            for found, expected in zip(compiled.call(shaped), eager.call(shaped), strict=True):
                torch.testing.assert_close(found, expected, rtol=0, atol=2e-6)  # ten roundings of 1.2e-7
    with torch.no_grad(), torch.compiler.set_stance("fail_on_recompile"):
        compiled.call(batch)


def test_compile_keeps_the_gradients_through_the_recurrence() -> None:
    # the recurrence with one level above it: Inductor takes its time over each level
    name = "hierarchical-word_level-phrase_level"
    eager, compiled = build(name, width=6), build(f"{name}+compile", width=6)
    batch = to(ragged(6, 6), torch.float32)
    found = outputs_and_gradients(compiled.call, batch, dict(compiled.module.named_parameters()))
    expected = outputs_and_gradients(eager.call, batch, dict(eager.module.named_parameters()))
    assert_same(found, expected, 1e-5)  # sums of some tens of terms, each rounded to 1.2e-7


def test_more_variants_of_a_mechanism_compile_than_torch_allows_one_function() -> None:
    batch = to(smallest(2, 2), torch.float32)
    with torch.no_grad(), torch._dynamo.config.patch(recompile_limit=2):
        for seed in range(4):
            build("pool+compile", width=2, seed=seed).call(batch)


def layer_arguments(dtype: torch.dtype = torch.float64) -> list[Tensor]:
    generator = torch.Generator().manual_seed(0)
    shapes = ((3, 5, 4), (16, 4), (16, 4), (16,), (16,))
    return [torch.randn(shape, generator=generator, dtype=dtype).requires_grad_() for shape in shapes]


def test_the_recurrence_is_nn_lstm() -> None:
    module = build("hierarchical[layers=2]", width=4).module.double()
    assert isinstance(module, Hierarchical)
    reference = torch.nn.LSTM(4, 4, num_layers=2, batch_first=True, dtype=torch.float64)
    reference.load_state_dict(module.recurrence.state_dict())
    words = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    expected = reference(words)[0]
    torch.testing.assert_close(module.recurrence(words), expected, rtol=0, atol=1e-14)
    torch.testing.assert_close(WrittenOut(module.recurrence)(words), expected, rtol=0, atol=1e-14)


def test_the_traced_layer_is_the_fused_one_with_right_gradients() -> None:
    arguments = layer_arguments()
    assert torch.equal(traced_layer(*arguments), fused_layer(*arguments))
    assert torch.autograd.gradcheck(traced_layer, arguments)
    torch.library.opcheck(traced_layer, arguments)


@pytest.mark.parametrize("name", [*oracles.CASES, *oracles.EQUAL_WIDTHS])
def test_the_closed_form_counts_what_torch_counts(name: str) -> None:
    question_width = 6 if name in oracles.EQUAL_WIDTHS else 4
    module = build(name, image_width=6, question_width=question_width).module
    batch = to(ragged(6, question_width), torch.float32)
    counter = FlopCounterMode(display=False)
    with counter:
        module.written_out()(batch)
    assert module.matmul_flops(examples=8, regions=7, words=5) == counter.get_total_flops() > 0


def test_writing_out_shares_the_weights_and_leaves_the_mechanism_alone() -> None:
    module = build("hierarchical", width=4).module
    written = module.written_out()
    assert isinstance(module, Hierarchical)
    assert not isinstance(module.recurrence, WrittenOut)
    assert {id(weight) for weight in written.parameters()} == {id(weight) for weight in module.parameters()}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("name", [f"{case}+cudagraph" for case in CASES] + ["hierarchical+bf16+compile+cudagraph"])
def test_a_captured_variant_replays_the_function_and_its_gradients(name: str) -> None:
    eager = build(name.removesuffix("+cudagraph"), width=6, device="cuda")
    captured = build(name, width=6, device="cuda")
    kept = []
    for seed in (0, 1, 0):
        batch = Batch(*(tensor.cuda() for tensor in to(ragged(6, 6, seed=seed), eager.dtype)))
        found = outputs_and_gradients(captured.call, batch, dict(captured.module.named_parameters()))
        expected = outputs_and_gradients(eager.call, batch, dict(eager.module.named_parameters()))
        assert_same(found, expected, 16 * torch.finfo(eager.dtype).eps)
        kept.append((found, copy.deepcopy(found)))
    for found, copied in kept:  # later replays must not write into earlier results
        assert all(torch.equal(found[key], copied[key]) for key in found)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_captured_backward_whose_forward_was_overwritten_is_refused() -> None:
    captured = build("parallel+cudagraph", width=6, device="cuda")
    batch = Batch(*(tensor.cuda() for tensor in to(ragged(6, 6), torch.float32)))
    first = captured.call(batch)
    captured.call(batch)
    with pytest.raises(RuntimeError, match="called again before this call's backward"):
        first.image.sum().backward()
