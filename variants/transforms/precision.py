"""Less than float32: weights and inputs cast, autocast around float32 weights, or products rounded to TF32."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from variants.interface import Attended, Batch, Skip
from variants.transforms.transform import Transform, renamed
from variants.variant import Variant

Run = Callable[[Batch], Attended]


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


Rounding = tuple[str | None, bool | None, tuple[str, ...]]
"""How products of float32 are computed: torch's older words for its own and for cuDNN's, and its newer one for each
kind of them. The older ones cannot be read, and are None, where a program has chosen by the newer ones."""
_EXACT: Rounding = "highest", False, ("ieee",) * 4
_TO_TF32: Rounding = "high", True, ("tf32",) * 4


def _kinds() -> tuple[Any, ...]:
    backends: Any = torch.backends
    return backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn, backends.mkldnn.matmul


def _rounding() -> Rounding:
    products, layers = None, None
    with suppress(RuntimeError):
        products = torch.get_float32_matmul_precision()
    with suppress(RuntimeError):
        layers = torch.backends.cudnn.allow_tf32
    return products, layers, tuple(kind.fp32_precision for kind in _kinds())


def _round(how: Rounding) -> None:
    products, layers, newer = how
    if products is not None:
        torch.set_float32_matmul_precision(products)
    if layers is not None:
        torch.backends.cudnn.allow_tf32 = layers
    # said for each kind, since without a word of its own it goes by what is said for all
    for kind, word in zip(_kinds(), newer, strict=True):
        kind.fp32_precision = word


@contextmanager
def _rounded(how: Rounding) -> Iterator[None]:
    before = _rounding()
    _round(how)
    try:
        yield
    finally:
        _round(before)


def rounding_to_tf32() -> AbstractContextManager[None]:
    """Within, products of float32 on CUDA round their factors to TF32, those of cuDNN's layers too."""
    return _rounded(_TO_TF32)


def rounding_nothing() -> AbstractContextManager[None]:
    """Within, float32 means float32: cuDNN's layers round to TF32 by default, and products where a program asks it."""
    return _rounded(_EXACT)


class _Backward(torch.autograd.Function):
    """Leaves outputs as they are, and lets the backward pass that comes through them round its products too."""

    @staticmethod
    def forward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, ...]:
        return tuple(output.view_as(output) for output in outputs)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, ...]:
        before = _rounding()
        _round(_TO_TF32)
        # when the whole backward pass is over, and not when this one step of it is
        torch.autograd.Variable._execution_engine.queue_callback(lambda: _round(before))
        return cotangents


@dataclass(frozen=True)
class Rounded:
    """A way to run a mechanism, with its products rounded to TF32 forwards and backwards.

    The setting is the process's own and is put back after each pass. It stands around what is compiled, since a graph
    cannot hold it.
    """

    inner: Run

    def __call__(self, batch: Batch) -> Attended:
        with rounding_to_tf32():
            outputs = self.inner(batch)
        if not torch.is_grad_enabled():
            return outputs
        return Attended(*_Backward.apply(*outputs))  # type: ignore[no-untyped-call]  # torch leaves it untyped


def _tf32(variant: Variant) -> Variant:
    name = f"{variant.name}+tf32"
    if variant.device.type != "cuda":
        raise Skip(f"{name} needs a CUDA device, but the variant is on the {variant.device}: it has no TF32")
    own = next((word for word in ("fused", "fast") if word in variant.spec.transforms), None)
    if own is not None:
        raise Skip(f"{name}: the kernels of +{own} have products of their own, of three TF32 products each")
    if torch.version.hip:
        raise Skip(f"{name}: TF32 is asked for otherwise on ROCm, which nobody has tried here")
    major, minor = torch.cuda.get_device_capability(variant.device)
    if major < 8:
        raise Skip(f"{name} needs compute capability 8.0, and this device has {major}.{minor}: it has no TF32")
    return replace(variant, spec=renamed(variant, "tf32"), run=Rounded(variant.run))


TRANSFORMS = (
    _cast("fp16", torch.float16),
    _cast("bf16", torch.bfloat16),
    _autocast("amp_fp16", torch.float16),
    _autocast("amp_bf16", torch.bfloat16),
    Transform(
        name="tf32",
        axis="precision",
        summary="float32 whose products round their factors to TF32, forwards and backwards; CUDA only",
        apply=_tf32,
        rounds=True,
    ),
)
