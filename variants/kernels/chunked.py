"""Any mechanism a few examples at a time, its intermediates computed again in the backward pass.

Examples do not see each other, so a chunk of them is a batch of its own; what a chunk makes stays in cache, and peak
memory no longer grows with the number of examples.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from variants.interface import Attended, Batch, CoAttention


class Chunks:
    """A module run in chunks; called like the module.

    Args:
        module: whose parameters are read at each call, so that it may be cast or loaded in between.
        size: examples in a chunk, from a batch's shapes.
    """

    untraceable = "its chunks are cut by lengths, which a graph cannot know"

    def __init__(self, module: CoAttention, size: Callable[[Batch], int]) -> None:
        self.module = module
        self.size = size

    def __call__(self, batch: Batch) -> Attended:
        kind = batch.image.device.type
        # the backward pass runs outside of the caller's autocast, and has to set it up again
        narrow = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else None
        apply: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]] = _Chunked.apply
        return Attended(*apply(self.module, self.size(batch), narrow, *batch, *self.module.parameters()))


class _Chunked(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, module: CoAttention, size: int, narrow: torch.dtype | None, *tensors: Tensor
    ) -> tuple[Tensor, ...]:
        batch = Batch(*tensors[:4])
        ctx.save_for_backward(*batch)
        ctx.module, ctx.size, ctx.narrow = module, size, narrow
        results: list[Tensor] = []
        with torch.no_grad():
            for start in range(0, len(batch.image), size):
                found = module(_cut(batch, start, size))
                if not results:
                    results = [_whole(field, batch, side) for field, side in zip(found, _SIDES, strict=True)]
                for whole, part in zip(results, found, strict=True):
                    whole[start : start + size, :, : part.shape[2]] = part
        return tuple(results)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        batch, module = Batch(*ctx.saved_tensors), ctx.module
        parameters = list(module.parameters())
        wanted = [ctx.needs_input_grad[3], ctx.needs_input_grad[4], *ctx.needs_input_grad[7:]]
        totals: list[Tensor | None] = [
            torch.zeros_like(features) if want else None for features, want in zip(batch[:2], wanted, strict=False)
        ]
        # a sum over many chunks in 16 bits would lose what a sum inside one product keeps
        totals += [
            torch.zeros_like(weight, dtype=torch.promote_types(weight.dtype, torch.float32)) if want else None
            for weight, want in zip(parameters, wanted[2:], strict=True)
        ]
        for start in range(0, len(batch.image), ctx.size):
            cut = _cut(batch, start, ctx.size)
            image = cut.image.detach().requires_grad_(wanted[0])
            question = cut.question.detach().requires_grad_(wanted[1])
            with torch.enable_grad(), torch.autocast(image.device.type, ctx.narrow, enabled=ctx.narrow is not None):
                found = module(cut._replace(image=image, question=question))
            sources = [tensor for tensor, want in zip((image, question, *parameters), wanted, strict=True) if want]
            ends = [
                (part, grad[start : start + ctx.size, :, : part.shape[2]])
                for part, grad in zip(found, grads, strict=True)
                if part.requires_grad
            ]
            parts = iter(
                torch.autograd.grad([end for end, _ in ends], sources, [grad for _, grad in ends], allow_unused=True)
            )
            for position, total in enumerate(totals):
                part = next(parts) if total is not None else None
                if total is None or part is None:
                    continue
                if position < 2:
                    total[start : start + ctx.size, : part.shape[1]] = part
                else:
                    total += part
        gradients = [
            None if total is None else total.to(tensor.dtype)
            for total, tensor in zip(totals, (*batch[:2], *parameters), strict=True)
        ]
        return (None, None, None, *gradients[:2], None, None, *gradients[2:])


_SIDES = (None, None, 0, 1)
"""Which fields of `Attended` have a weight per slot, and of which field of `Batch`."""


def _whole(part: Tensor, batch: Batch, side: int | None) -> Tensor:
    """Zeros for all examples and slots, of which a chunk made a part."""
    width = part.shape[2] if side is None else batch[side].shape[1]
    return part.new_zeros(len(batch.image), part.shape[1], width)


def _cut(batch: Batch, start: int, size: int) -> Batch:
    """Some of the examples; on the CPU without the slots at the end of the rows that none of them uses."""
    image, question, image_valid, question_valid = (tensor[start : start + size] for tensor in batch)
    if image.device.type != "cpu":  # elsewhere, to look would be to wait
        return Batch(image, question, image_valid, question_valid)
    regions, words = _used(image_valid), _used(question_valid)
    return Batch(image[:, :regions], question[:, :words], image_valid[:, :regions], question_valid[:, :words])


def _used(valid: Tensor) -> int:
    """Slots up to the last that any row uses; at least one, since a mechanism need not take none."""
    last = valid.any(0).nonzero()
    return int(last[-1]) + 1 if len(last) else 1
