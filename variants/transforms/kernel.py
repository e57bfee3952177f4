"""Other kernels for the same function: `chunked` through the cache, `fused` without maps in memory, `sdpa`.

What implements a mechanism is imported when a variant asks for it, never with the package. Weights are read from the
mechanism's own module at each call, so a state dict moves both ways.
"""

import os
from collections.abc import Callable
from dataclasses import replace
from importlib.util import find_spec

import torch

from variants.interface import Attended, Batch, CoAttention, Skip
from variants.transforms.transform import Transform, renamed
from variants.variant import Variant

Run = Callable[[Batch], Attended]


def _noted(variant: Variant, transform: str, run: Run, note: str) -> Variant:
    return replace(variant, spec=renamed(variant, transform), run=run, notes=(*variant.notes, note))


def _published(variant: Variant) -> bool:
    return variant.module.origin is not None


def _biased(module: CoAttention) -> bool:
    return any(name.endswith(".bias") for name, _ in module.named_parameters())


def _drops(module: CoAttention) -> bool:
    return any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in module.modules())


def _chunked(variant: Variant) -> Variant:
    module = variant.module
    if _published(variant):
        raise Skip(f"{variant.name}+chunked: a published implementation runs as published, its whole batch at once")
    if _drops(module):
        raise Skip(f"{variant.name}+chunked: computing again would draw other dropout; set dropout=0")
    from variants.kernels import cache, chunked

    size = cache.examples_for(variant.device)
    chunks = chunked.Chunks(module, size)
    note = f"chunks of as many examples as fit {size.budget_bytes >> 10} KiB of cache"
    found = _packed(module) if variant.device.type == "cpu" else None
    if found is None:
        return _noted(variant, "chunked", chunks, note)
    packed, how = found

    def run(batch: Batch) -> Attended:
        # in 16 bits a product for one example takes less time than the BLAS takes to prepare it
        in_chunks = _is_narrow(batch) and not torch.compiler.is_compiling()
        return chunks(batch) if in_chunks else packed(batch)

    return _noted(variant, "chunked", run, f"{how}; in 16 bits {note}")


def _is_narrow(batch: Batch) -> bool:
    return batch.image.dtype.itemsize == 2 or torch.is_autocast_enabled(batch.image.device.type)


def _packed(module: CoAttention) -> tuple[Run, str] | None:
    """The form that goes one example at a time through the BLAS, where the mechanism has it."""
    from variants.parallel import Parallel

    if not isinstance(module, Parallel) or module.without or _biased(module) or module.dropout.p > 0:
        return None
    from variants.kernels import cache, packed

    gemm = "oneDNN" if cache.prefers_onednn() else "the BLAS"
    note = f"one example at a time in {cache.core_cache_bytes() >> 10} KiB of cache, float32 products by {gemm}"
    return lambda batch: packed.attend(module, batch), note


def _fused(variant: Variant) -> Variant:
    name = f"{variant.name}+fused"
    run = _fused_run(name, variant.module)  # first, so that the reason given is the same on every machine
    if find_spec("triton") is None:
        raise Skip(f"{name} needs Triton, which is not installed")
    if variant.device.type != "cuda" and os.environ.get("TRITON_INTERPRET") != "1":
        raise Skip(f"{name} needs a CUDA device, but the variant is on the {variant.device}")
    if variant.device.type == "cuda" and torch.version.hip:
        raise Skip(f"{name}: the kernels use instructions of NVIDIA's, which ROCm {torch.version.hip} does not have")
    return _noted(variant, "fused", run(), _configurations(variant.device))


def _fused_run(name: str, module: CoAttention) -> Callable[[], Run]:
    from variants.alternating import Alternating
    from variants.hierarchical import Hierarchical
    from variants.parallel import Parallel

    if not isinstance(module, Parallel | Alternating | Hierarchical):
        raise Skip(f"{name}: there are fused kernels for parallel, alternating and hierarchical")
    if module.without or _biased(module):
        raise Skip(f"{name}: the fused kernels have all parts of the mechanism, and no biases")

    def run() -> Run:
        from variants.kernels import fused

        match module:
            case Parallel():
                return lambda batch: fused.parallel(module, batch)
            case Alternating():
                return lambda batch: fused.alternating(module, batch)
            case Hierarchical():
                return lambda batch: fused.hierarchical(module, batch)

    return run


def _configurations(device: torch.device) -> str:
    if device.type != "cuda":
        return "in Triton's interpreter: right, and slow"
    from variants.kernels.configurations import measured, predicted
    from variants.kernels.shortlist import architecture

    name = torch.cuda.get_device_name(device)
    family = architecture(*torch.cuda.get_device_capability(device))
    otherwise = {
        "all": f"predicted for {family} by a model, not measured",
        "some": f"in part predicted for {family} by a model, in part safe, not measured",
        "none": "safe",
    }[predicted(family)]
    tune = "python -m variants.tune does that"
    match measured(name):
        case "all":
            return f"block sizes measured on {name}"
        case "some":
            return f"block sizes in part measured on {name}, the others {otherwise}: {tune}"
        case "none":
            return f"block sizes {otherwise}, since none were measured on {name}: {tune}"


def _sdpa(variant: Variant) -> Variant:
    from variants.kernels import scaled_dot_product

    if _published(variant):
        raise Skip(f"{variant.name}+sdpa: a published implementation runs as published")
    if not scaled_dot_product.has_heads(variant.module):
        raise Skip(
            f"{variant.name}+sdpa: cross, modular, transformer and queries have scaled dot products; a tanh affinity "
            "is none, nor are maps that are read along both axes, returned, or averaged over heads before they act"
        )
    pinned = scaled_dot_product.backend(variant.device).name
    return _noted(variant, "sdpa", scaled_dot_product.twin(variant.module), f"SDPA backend {pinned}, and no other")


def _fast(variant: Variant) -> Variant:
    module = variant.module
    if _published(variant):
        raise Skip(f"{variant.name}+fast: a published implementation runs as published")
    if variant.device.type == "cuda":
        return _fast_on_cuda(variant)
    # nine shapes of parallel, from 36 x 14 to 4096 x 2048 slots and from 1 to 512 examples, in both phases: chunks are
    # 0.42 to 0.97 times as fast on one thread of a Xeon, 0.20 to 0.78 times on two
    return _noted(variant, "fast", module, "fast: as it is, since no other kernel was measured faster on a CPU")


def _fast_on_cuda(variant: Variant) -> Variant:
    from variants.kernels import scaled_dot_product

    if scaled_dot_product.has_heads(variant.module):
        pinned = _sdpa(variant)
        return _noted(variant, "fast", pinned.run, f"fast: sdpa, by estimate; {pinned.notes[-1]}")
    try:
        short = _fused(variant)
    except Skip as reason:
        return _noted(variant, "fast", variant.module, f"fast: as it is, since there is no other: {reason}")
    long = _chunked(variant) if not _drops(variant.module) else None
    module = variant.module

    def run(batch: Batch) -> Attended:
        # computing C again costs with T what reading maps costs with D
        if 4 * batch.question.shape[1] <= batch.image.shape[2]:
            return short.run(batch)
        return module(batch) if long is None or torch.compiler.is_compiling() else long.run(batch)

    otherwise = "chunked (in a compiled graph, as it is)" if long is not None else "as it is"
    rule = f"fast: fused where T is at most D / 4, else {otherwise}; by estimate"
    return _noted(variant, "fast", run, f"{rule}; {short.notes[-1]}")


TRANSFORMS = (
    Transform(
        name="fused",
        axis="kernel",
        summary="Triton kernels that compute each map where it is used and never write it to memory",
        apply=_fused,
    ),
    Transform(
        name="chunked",
        axis="kernel",
        summary="a few examples at a time so that maps stay in cache, computed again in the backward pass",
        apply=_chunked,
    ),
    Transform(
        name="sdpa",
        axis="kernel",
        summary="torch's scaled dot-product attention on one pinned backend",
        apply=_sdpa,
    ),
    Transform(
        name="fast",
        axis="kernel",
        summary="whichever of these is soonest by a rule, which the notes state",
        apply=_fast,
    ),
)
