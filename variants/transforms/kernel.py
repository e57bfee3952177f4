"""Other kernels for the same function: `chunked` through the cache, `fused` without maps in memory.

What implements a mechanism is imported when a variant asks for it, never with the package.
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from variants.interface import Attended, Batch, Skip
from variants.spec import Spec
from variants.transforms.transform import Transform
from variants.variant import Variant


def _renamed(variant: Variant, transform: str) -> Spec:
    return replace(variant.spec, transforms=(*variant.spec.transforms, transform))


def _chunked(variant: Variant) -> Variant:
    module = variant.module
    if module.known_defects:
        raise Skip(
            f"{variant.name}+chunked: a published implementation runs as it was published, the whole batch at once"
        )
    if any(isinstance(part, torch.nn.Dropout) and part.p > 0 for part in module.modules()):
        raise Skip(f"{variant.name}+chunked: computing again would draw other dropout; set dropout=0")
    spec = _renamed(variant, "chunked")
    if variant.device.type == "cpu" and (packed := _packed(variant)) is not None:
        return replace(variant, spec=spec, run=packed, notes=(*variant.notes, _packed_note()))
    from variants.kernels import cache, chunked

    size = cache.examples_for(variant.device)
    return replace(
        variant,
        spec=spec,
        run=chunked.Chunks(module, size),
        notes=(*variant.notes, f"chunks of as many examples as fit {size.budget_bytes >> 10} KiB of cache"),
    )


def _packed(variant: Variant) -> Callable[[Batch], Attended] | None:
    """The form that goes one example at a time through the BLAS, where the mechanism has it."""
    from variants.parallel import Parallel

    module = variant.module
    if not isinstance(module, Parallel) or module.without or _biased(module):
        return None
    from variants.kernels import packed

    return lambda batch: packed.attend(module, batch)


def _biased(module: torch.nn.Module) -> bool:
    return any(name.endswith(".bias") for name, _ in module.named_parameters())


def _packed_note() -> str:
    from variants.kernels import cache

    gemm = "oneDNN" if cache.prefers_onednn() else "MKL"
    return f"one example at a time in {cache.core_cache_bytes() >> 10} KiB of cache, float32 products by {gemm}"


TRANSFORMS = (
    Transform(
        name="chunked",
        axis="kernel",
        summary="a few examples at a time so that maps stay in cache, computed again in the backward pass",
        apply=_chunked,
    ),
)
