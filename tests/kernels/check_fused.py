"""The fused kernels in Triton's interpreter; run by test_fused.py in a process of its own."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from suite.probes.agreement import norm_error
from suite.probes.masking import audit
from suite.records import Finding
from tests.kernels.ragged import hard_batch, largest_error, outputs_and_gradients
from variants import Batch, Skip, Variant, build
from variants.kernels import fused, launch
from variants.kernels.configurations import Configuration

# numpy warns of what a GPU does silently, such as -inf less -inf
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton.runtime.interpreter")

SMALLEST = Configuration(rows=16, outer=16, inner=16, words=16, warps=4, stages=1)
MECHANISMS = ["parallel", "parallel[affinity=linear]", "alternating", "alternating[weights=shared]", "hierarchical"]


@pytest.fixture
def smallest_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks that reach every loop's second turn at sizes that the interpreter can do."""
    monkeypatch.setattr(launch, "configuration", lambda *_: SMALLEST)


def pair(name: str, dtype: torch.dtype, **widths: int) -> tuple[Variant, Variant]:
    """A mechanism and its fused form with the same weights, an affinity that its tanh bends."""
    plain, kernel = build(name, **widths), build(f"{name}+fused", **widths)
    for variant in (plain, kernel):
        with torch.no_grad():
            for parameter, weight in variant.module.named_parameters():
                if parameter.endswith("affinity.weight"):
                    weight *= 1 if "linear" in name else 20
        variant.module.to(dtype)
    return replace(plain, dtype=dtype), replace(kernel, dtype=dtype)


@pytest.mark.parametrize("name", [*MECHANISMS, "hierarchical[inner=alternating,levels=shared]"])
@pytest.mark.usefixtures("smallest_blocks")
def test_fused_agrees_with_the_mechanism_in_float64(name: str) -> None:
    plain, kernel = pair(name, torch.float64, width=20)
    batch = hard_batch(4, 21, 18, 20, 20)
    assert largest_error(outputs_and_gradients(kernel, batch), outputs_and_gradients(plain, batch)) < 1e-11


@pytest.mark.parametrize(("regions", "words"), [(1, 1), (17, 1), (16, 33)])
@pytest.mark.usefixtures("smallest_blocks")
def test_odd_sizes_and_unequal_widths(regions: int, words: int) -> None:
    plain, kernel = pair("parallel[hidden=21]", torch.float64, image_width=19, question_width=35)
    batch = hard_batch(4, regions, words, 19, 35)
    assert largest_error(outputs_and_gradients(kernel, batch), outputs_and_gradients(plain, batch)) < 1e-11


@pytest.mark.parametrize("name", ["parallel", "parallel[affinity=linear]", "alternating"])
def test_float32_is_good_to_its_rounding(name: str) -> None:
    plain, kernel = pair(name, torch.float32, width=24)
    batch = hard_batch(5, 37, 19, 24, 24, dtype=torch.float32)
    found, expected = outputs_and_gradients(kernel, batch), outputs_and_gradients(plain, batch)
    assert largest_error(found, expected) < 2.4e-5


@pytest.mark.parametrize("name", ["parallel", "alternating"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_narrow_types_err_no_more_than_the_mechanism_does(name: str, dtype: torch.dtype) -> None:
    own: list[float] = []
    fused_errors: list[float] = []
    for seed in range(3):  # one draw's roundings scatter by a factor of two either way
        plain, kernel = pair(name, dtype, width=64, seed=seed)
        exact = build(name, width=64)
        exact.module.load_state_dict({key: value.float() for key, value in plain.module.state_dict().items()})
        exact.module.double()
        batch = hard_batch(8, 40, 12, 64, 64, dtype=dtype)
        wide = batch._replace(image=batch.image.double(), question=batch.question.double())
        expected = outputs_and_gradients(exact, wide)
        for errors, variant in ((own, plain), (fused_errors, kernel)):
            found = outputs_and_gradients(variant, batch)
            errors += [norm_error(found[key], want, floor=1e-3) for key, want in expected.items()]
    assert math.hypot(*fused_errors) < 1.5 * math.hypot(*own)


def numbers(*shape: int) -> Tensor:
    return torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(len(shape)))


def parallel_arguments(saturating: bool) -> tuple[object, ...]:
    batch = hard_batch(4, 5, 3, 4, 6, pad=0.0)
    weights = (numbers(6, 4), numbers(5, 4), numbers(5, 6), numbers(1, 5), numbers(1, 5))
    tensors = [tensor.requires_grad_(tensor.is_floating_point()) for tensor in (*batch, *weights)]
    return (*tensors, saturating)


def guided_arguments(guided: bool) -> tuple[object, ...]:
    batch = hard_batch(4, 5, 3, 4, 6, pad=0.0)
    guide = numbers(4, 5).requires_grad_() if guided else None
    features = batch.image.requires_grad_()
    return (features, batch.image_valid, numbers(5, 4).requires_grad_(), guide, numbers(1, 5).requires_grad_())


OPERATORS: list[tuple[Callable[..., tuple[Tensor, ...]], int, tuple[object, ...]]] = [
    (fused.fused_parallel, 4, parallel_arguments(True)),
    (fused.fused_parallel, 4, parallel_arguments(False)),
    (fused.fused_guided, 2, guided_arguments(True)),
    (fused.fused_guided, 2, guided_arguments(False)),
]


@pytest.mark.parametrize(("operator", "outputs", "arguments"), OPERATORS)
def test_each_backward_is_the_derivative_of_its_forward(
    operator: Callable[..., tuple[Tensor, ...]], outputs: int, arguments: tuple[object, ...]
) -> None:
    assert torch.autograd.gradcheck(lambda *given: operator(*given)[:outputs], arguments, fast_mode=True)


@pytest.mark.parametrize(("operator", "outputs", "arguments"), OPERATORS)
def test_each_operator_is_registered_for_every_way_of_running(
    operator: Callable[..., tuple[Tensor, ...]], outputs: int, arguments: tuple[object, ...]
) -> None:
    torch.library.opcheck(operator, arguments)


@pytest.mark.parametrize("name", ["parallel", "alternating"])
@pytest.mark.usefixtures("smallest_blocks")
def test_every_element_of_every_buffer_is_written(name: str) -> None:
    _, kernel = pair(name, torch.float64, width=20)
    batch = hard_batch(4, 21, 18, 20, 20)
    expected = outputs_and_gradients(kernel, batch)
    torch.use_deterministic_algorithms(True)  # fills what torch.empty gives with NaN
    try:
        found = outputs_and_gradients(kernel, batch)
    finally:
        torch.use_deterministic_algorithms(False)
    for field, tensor in expected.items():
        assert torch.equal(found[field], tensor), field


def test_no_allocation_reaches_the_elements_of_one_affinity() -> None:
    regions, words, width = 150, 140, 16
    _, kernel = pair("parallel", torch.float32, width=width)
    batch = hard_batch(4, regions, words, width, width, dtype=torch.float32)
    only = Batch(*(tensor[:1] for tensor in batch))
    outputs_and_gradients(kernel, only)
    largest: dict[str, int] = {}
    for name, variant in {"fused": kernel, "eager": build("parallel", width=width)}.items():
        with torch.profiler.profile(profile_memory=True) as profile:
            outputs_and_gradients(variant, only)
        events = profile.profiler.kineto_results.events()
        largest[name] = max(event.nbytes() for event in events if event.name() == "[memory]")
    map_bytes = regions * words * 4
    assert largest["eager"] >= map_bytes  # the test can see a map
    assert largest["fused"] < map_bytes


def test_the_whole_masking_audit_passes() -> None:
    findings = [record for record in audit("parallel+fused", "cpu", task="test") if isinstance(record, Finding)]
    assert findings
    assert [found.summary for found in findings if found.verdict not in ("holds", "not applicable")] == []


def test_the_graph_is_whole() -> None:
    plain, kernel = pair("parallel", torch.float32, width=16)
    batch = hard_batch(4, 9, 5, 16, 16, dtype=torch.float32)
    compiled = replace(kernel, run=torch.compile(kernel.run, fullgraph=True, dynamic=False, backend="aot_eager"))
    found, expected = outputs_and_gradients(compiled, batch), outputs_and_gradients(plain, batch)
    assert largest_error(found, expected) < 2.4e-5


def test_what_has_no_kernel_says_so() -> None:
    for name in ("cross+fused", "parallel[bias=true]+fused", "alternating-image_attention+fused"):
        with pytest.raises(Skip, match="fused kernels"):
            build(name, width=8)


def test_an_unmeasured_device_is_told_of() -> None:
    assert build("parallel+fused", width=8).notes == ("in Triton's interpreter: right, and slow",)
