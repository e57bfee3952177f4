"""`+fused` on a device: right, the same twice, past 2^31 elements, and as small as promised."""

import math
from dataclasses import replace

import pytest
import torch

from suite.bench.probes.agreement import norm_error
from suite.bench.probes.masking import audit
from suite.core.records import Finding
from tests.kernels.ragged import hard_batch, largest_error, outputs_and_gradients
from variants import Batch, Variant, build

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

MECHANISMS = ["parallel", "parallel[affinity=linear]", "alternating", "hierarchical", "hierarchical[inner=alternating]"]
NARROW = {"fp16": torch.float16, "bf16": torch.bfloat16}


def on_gpu(batch: Batch) -> Batch:
    return Batch(*(tensor.cuda() for tensor in batch))


def trio(name: str, dtype: torch.dtype, *, width: int, seed: int = 0) -> tuple[Variant, Variant, Variant]:
    """The mechanism in float64, the mechanism, and its fused form, all with the same weights."""
    plain = build(name, width=width, seed=seed, device="cuda")
    kernel = build(f"{name}+fused", width=width, seed=seed, device="cuda")
    exact = build(name, width=width, seed=seed, device="cuda")
    for variant in (plain, kernel):
        variant.module.to(dtype)
    exact.module.double().load_state_dict(plain.module.state_dict())
    return tuple(
        replace(variant, dtype=of) for variant, of in ((exact, torch.float64), (plain, dtype), (kernel, dtype))
    )


def widened(batch: Batch) -> Batch:
    return batch._replace(image=batch.image.double(), question=batch.question.double())


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize(("regions", "words", "width"), [(196, 26, 512), (37, 19, 40), (130, 80, 129), (2, 3, 16)])
def test_float32_is_good_to_its_rounding(name: str, regions: int, words: int, width: int) -> None:
    exact, _, kernel = trio(name, torch.float32, width=width)
    batch = on_gpu(hard_batch(5, regions, words, width, width, dtype=torch.float32))
    expected = outputs_and_gradients(exact, widened(batch))
    assert largest_error(outputs_and_gradients(kernel, batch), expected) < 2e-4


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("dtype", NARROW.values(), ids=NARROW)
def test_narrow_types_err_no_more_than_the_mechanism_does(name: str, dtype: torch.dtype) -> None:
    own: list[float] = []
    ours: list[float] = []
    for seed in range(3):
        exact, plain, kernel = trio(name, dtype, width=256, seed=seed)
        batch = on_gpu(hard_batch(16, 196, 26, 256, 256, dtype=dtype, seed=seed))
        expected = outputs_and_gradients(exact, widened(batch))
        for errors, variant in ((own, plain), (ours, kernel)):
            found = outputs_and_gradients(variant, batch)
            errors += [norm_error(found[key], want, floor=1e-3) for key, want in expected.items()]
    assert math.hypot(*ours) < 1.5 * math.hypot(*own)


@pytest.mark.parametrize("name", ["parallel", "hierarchical[dropout=0.2]"])
def test_the_same_call_gives_the_same_bits(name: str) -> None:
    kernel = build(f"{name}+fused", width=128, device="cuda")
    batch = on_gpu(hard_batch(32, 196, 26, 128, 128, dtype=torch.float32))
    runs = []
    for _ in range(2):
        torch.manual_seed(7)
        runs.append(outputs_and_gradients(kernel, batch))
    for field, tensor in runs[0].items():
        assert torch.equal(tensor, runs[1][field]), field


@pytest.mark.parametrize("name", MECHANISMS)
@pytest.mark.parametrize("way", ["compile", "cudagraph", "compile+cudagraph"])
def test_compiled_and_captured_it_is_the_same_function(name: str, way: str) -> None:
    plain = build(f"{name}+fused+bf16", width=64, device="cuda")
    other = build(f"{name}+fused+bf16+{way}", width=64, device="cuda")
    batch = on_gpu(hard_batch(8, 50, 20, 64, 64, dtype=torch.bfloat16))
    expected = outputs_and_gradients(plain, batch)
    for _ in range(2):
        found = outputs_and_gradients(other, batch)
        # what torch's own products around the kernels round otherwise
        assert max(norm_error(found[key], want, floor=1e-3) for key, want in expected.items()) < 0.05


@pytest.mark.parametrize("name", ["parallel", "alternating", "hierarchical", "hierarchical[inner=alternating]"])
def test_the_whole_masking_audit_passes(name: str) -> None:
    findings = [record for record in audit(f"{name}+fused", "cuda", task="test") if isinstance(record, Finding)]
    assert len(findings) > 20
    assert [found.summary for found in findings if found.verdict not in ("holds", "not applicable")] == []


def test_the_last_example_past_two_to_the_31_elements_is_the_one_that_it_is_alone() -> None:
    examples, regions, width = 21_500, 196, 512
    assert examples * regions * width > 2**31
    if torch.cuda.mem_get_info()[0] < 24 * 2**30:
        pytest.skip("needs 24 GiB of free memory")
    kernel = build("parallel+fused+bf16", width=width, device="cuda")
    image = torch.zeros(examples, regions, width, dtype=torch.bfloat16, device="cuda")
    question = torch.zeros(examples, 4, width, dtype=torch.bfloat16, device="cuda")
    image[-1], question[-1] = torch.randn(regions, width), torch.randn(4, width)
    everything = torch.ones(examples, regions, dtype=torch.bool, device="cuda")
    batch = Batch(image, question, everything, everything[:, :4].contiguous())
    last = Batch(*(tensor[-1:].clone() for tensor in batch))
    found = [gradient[-1:] for gradient in input_gradients(kernel, batch)]
    for gradient, alone in zip(found, input_gradients(kernel, last), strict=True):
        assert norm_error(gradient, alone, floor=1e-6) < 0.02


def input_gradients(variant: Variant, batch: Batch) -> tuple[torch.Tensor, ...]:
    image, question = (features.detach().requires_grad_() for features in batch[:2])
    vectors = variant.call(batch._replace(image=image, question=question)).image
    return torch.autograd.grad(vectors.float().square().sum(), (image, question))


def test_memory_at_the_papers_shape_is_what_was_promised() -> None:
    batch = on_gpu(hard_batch(300, 196, 26, 512, 512, dtype=torch.bfloat16))
    peaks: dict[str, tuple[int, int]] = {}
    for name in ("published_csdn+bf16", "parallel+fused+bf16"):
        variant = build(name, width=512, device="cuda")
        peaks[name] = (peak_bytes(variant, batch, learns=False), peak_bytes(variant, batch, learns=True))
    published, fused = peaks.values()
    assert fused[0] <= published[0] / 8
    assert fused[1] <= published[1] * 0.45


def peak_bytes(variant: Variant, batch: Batch, *, learns: bool) -> int:
    """Above what stood before; parameters' and inputs' gradients are part of it."""
    for _ in range(2):
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        with torch.set_grad_enabled(learns):
            image, question = (features.detach().requires_grad_(learns) for features in batch[:2])
            found = variant.call(batch._replace(image=image, question=question))
            if learns:
                leaves = (image, question, *variant.module.parameters())
                pulls = [torch.ones_like(field) for field in found]
                gradients = torch.autograd.grad(found, leaves, pulls, allow_unused=True)
                del gradients
        del found
        peak = torch.cuda.max_memory_allocated() - before
    return peak
