"""Elementwise steps that may take the memory of their operand, which nobody else needs.

A map of co-attention is as large as the image. On a CPU, new memory for one costs as much as the arithmetic.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from variants.eager import is_plain

# a float32 copy of a block stays in the cache of a core
_BLOCK_ELEMENTS = 1 << 18


def tanh_of_own(features: Tensor) -> Tensor:
    """``tanh``, in place where that is free.

    On the CPU, torch's tanh of 16-bit numbers takes five times as long as its tanh of float32; there the numbers go
    through float32, a block at a time, and round once, as they do in torch's kernel.
    """
    if features.device.type == "cpu" and features.dtype.itemsize == 2 and is_plain():
        apply: Callable[[Tensor], Tensor] = _NarrowTanh.apply
        return apply(features)
    return features.tanh_() if _is_free(features) else features.tanh()


def relu_of_own(features: Tensor) -> Tensor:
    """``relu``, in place where that is free."""
    return features.relu_() if _is_free(features) else features.relu()


def sum_of_own(features: Tensor, added: Tensor) -> Tensor:
    """``features + added``, broadcast to the shape of ``features``, in place where that is free."""
    return features.add_(added) if _is_free(features) else features + added


def _is_free(features: Tensor) -> bool:
    if not is_plain():
        return False  # a compiler plans memory by itself
    # written in place, a view (as of a product with a bias) makes autograd copy what it is a view of
    return not (features.requires_grad and features._is_view())


class _NarrowTanh(torch.autograd.Function):
    @staticmethod
    def forward(features: Tensor) -> Tensor:
        result = torch.empty_like(features, memory_format=torch.contiguous_format)
        flat, flat_result = features.reshape(-1), result.view(-1)
        for start in range(0, len(flat), _BLOCK_ELEMENTS):
            block = slice(start, start + _BLOCK_ELEMENTS)
            flat_result[block] = flat[block].float().tanh_()
        return result

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        ctx.save_for_backward(output)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        (result,) = ctx.saved_tensors
        slope: Tensor = torch.ops.aten.tanh_backward(gradient, result)
        return slope
