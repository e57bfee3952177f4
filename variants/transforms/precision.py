"""Half precision: weights and inputs cast, or autocast around float32 weights."""

from dataclasses import replace

import torch

from variants.interface import Attended, Batch
from variants.transforms.transform import Transform, renamed
from variants.variant import Variant


def _cast(name: str, dtype: torch.dtype) -> Transform:
    def apply(variant: Variant) -> Variant:
        # in place: the module belongs to this variant alone, and `run` may be bound to it
        variant.module.to(dtype)
        return replace(variant, spec=renamed(variant, name), dtype=dtype)

    return Transform(name=name, axis="precision", summary=f"weights and inputs in {name}", apply=apply, dtype=dtype)


def _autocast(name: str, dtype: torch.dtype) -> Transform:
    def apply(variant: Variant) -> Variant:
        inner = variant.run

        def run(batch: Batch) -> Attended:
            with torch.autocast(batch.image.device.type, dtype=dtype):
                attended = inner(batch)
            # autocast leaves a mixture of dtypes; what takes float32 gives float32
            return Attended(*(output.to(variant.dtype) for output in attended))

        return replace(variant, spec=renamed(variant, name), run=run)

    return Transform(
        name=name,
        axis="precision",
        summary=f"float32 weights under autocast to {dtype}".replace("torch.", ""),
        apply=apply,
        dtype=dtype,
    )


TRANSFORMS = (
    _cast("fp16", torch.float16),
    _cast("bf16", torch.bfloat16),
    _autocast("amp_fp16", torch.float16),
    _autocast("amp_bf16", torch.bfloat16),
)
